// The core and its store: getting over failures, snapshots, old points.
#include <algorithm>
#include <iterator>
#include <spdlog/spdlog.h>

#include "server/core/core.h"

namespace sae::server {
namespace {

constexpr absl::Duration kRetryAfter = absl::Milliseconds(500);
constexpr absl::Duration kTrimEvery = absl::Minutes(1);
constexpr int kTrimSlice = 2000;
constexpr absl::Duration kTrimRequestsEvery = absl::Minutes(10);
constexpr int kRequestSlice = 1000;

}  // namespace

bool Core::StoreReady() {
  if (absl::IsAborted(disk_)) return false;
  if (!absl::IsUnavailable(disk_)) return true;
  const absl::Duration now = clock_.SinceBoot();
  if (now < next_try_) return false;
  next_try_ = now + kRetryAfter;
  const absl::Status status = Reload();
  if (status.ok()) return true;
  spdlog::error("cannot read the event log again: {}", Message(status));
  // Whatever it is, nothing can be written before it is over.
  disk_ = absl::IsAborted(status) ? status : absl::UnavailableError(Message(status));
  return false;
}

absl::Status Core::Reload() {
  const absl::Status why = disk_;
  const Group group = std::exchange(group_, {});
  for (const auto& done : group.done) done(why);
  SAE_RETURN_IF_ERROR(store_.Recover());
  State before = std::move(state_);
  auto preparing = std::move(preparing_);
  ForgetMemory();
  if (absl::Status status = Replay(); !status.ok()) {
    state_ = std::move(before);  // as the indexes are
    preparing_ = std::move(preparing);
    return status;
  }
  KeepGangs(before, preparing);
  disk_ = absl::OkStatus();
  spdlog::warn("read the event log again after: {}", Message(why));
  for (const auto& [sweep, head] : heads_) {
    for (CoreObserver* o : observers_) o->OnHead(sweep, head);
  }
  for (const auto& [id, worker] : workers_) {
    for (CoreObserver* o : observers_) o->OnCommands(id);
  }
  return absl::OkStatus();
}

void Core::KeepGangs(const State& before, const std::map<AttemptKey, Preparing>& preparing) {
  for (auto& [key, entry] : preparing_) {
    if (const auto it = preparing.find(key); it != preparing.end()) entry = it->second;
  }
  for (const std::string& name : before.sweep_order()) {
    const SweepRecord& sweep = *before.sweep(name);
    for (const int index : sweep.live) {
      const AttemptRecord& attempt = sweep.trials[static_cast<std::size_t>(index)].attempts.back();
      const SweepRecord* now = state_.sweep(name);
      const TrialRecord* trial = now == nullptr ? nullptr : now->trial(TrialNameOf(index));
      const AttemptRecord* live = trial == nullptr ? nullptr : trial->live_attempt();
      if (live == nullptr || live->number != attempt.number)
        HoldHosts({name, TrialNameOf(index), attempt.number}, attempt);
    }
  }
}

/// All but the workers, which go on in this epoch. What was sent to them and not stored counts as
/// sent.
void Core::ForgetMemory() {
  state_ = State();
  heads_.clear();
  acknowledged_.clear();
  accepted_.clear();
  refused_events_ = 0;
  unsent_.clear();
  not_before_ = BackOffs();
  stop_since_.clear();
  preparing_.clear();
  until_head_ends_.clear();
  health_ = WorkerHealth();
  health_changed_ = true;
  waits_.clear();
  waiting_.clear();
  progress_.clear();
  blocked_.clear();
  ForgetSearches();
  retention_ = RetentionIndex();
  next_retention_ = absl::ZeroDuration();
  trimming_ = {};
  more_requests_ = false;
  snapshots_.Forget();
  dirty_ = true;
}

absl::StatusOr<std::vector<LogEvent>> Core::ReadFiltered(const std::string& sweep,
                                                         const std::vector<int>& trials,
                                                         std::int64_t after, int limit,
                                                         bool lifecycle, bool points,
                                                         std::int64_t& upto) {
  std::vector<LogEvent> all;
  const auto take = [&](absl::StatusOr<std::vector<LogEvent>> events) -> absl::Status {
    if (!events.ok()) return events.status();
    if (static_cast<int>(events->size()) == limit) upto = std::min(upto, events->back().seq);
    std::move(events->begin(), events->end(), std::back_inserter(all));
    return absl::OkStatus();
  };
  if (trials.empty() && points) {
    SAE_RETURN_IF_ERROR(take(store_.Read(sweep, after, limit)));
    if (!lifecycle) std::erase_if(all, [](const LogEvent& e) { return !e.telemetry(); });
  } else if (trials.empty()) {
    SAE_RETURN_IF_ERROR(take(store_.ReadLifecycle(sweep, std::nullopt, after, limit)));
  }
  for (const int index : trials) {
    const std::string trial = TrialNameOf(index);
    if (lifecycle) {
      SAE_RETURN_IF_ERROR(take(store_.ReadLifecycle(sweep, trial, after, limit)));
    }
    if (points) {
      SAE_RETURN_IF_ERROR(take(store_.ReadPoints(sweep, trial, after, limit)));
    }
  }
  if (!trials.empty() && lifecycle) {
    SAE_RETURN_IF_ERROR(take(store_.ReadLifecycle(sweep, "", after, limit)));
  }
  std::erase_if(all, [&](const LogEvent& e) { return e.seq > upto; });
  std::sort(all.begin(), all.end(),
            [](const LogEvent& a, const LogEvent& b) { return a.seq < b.seq; });
  return all;
}

std::int64_t Core::oldest_kept(const std::string& sweep) const {
  const auto it = trimmed_.find(sweep);
  return it == trimmed_.end() ? 1 : it->second + 1;
}

absl::Status Core::Close() {
  SAE_RETURN_IF_ERROR(Flush());
  SAE_RETURN_IF_ERROR(disk_);
  return snapshots_.Finish();
}

absl::Status Core::Sync() {
  if (!store_.unsynced()) return absl::OkStatus();
  const absl::Duration before = clock_.SinceBoot();
  const absl::Status status = store_.Sync();
  for (CoreObserver* o : observers_) o->OnSync(clock_.SinceBoot() - before);
  if (status.ok() || absl::IsAborted(disk_)) return status;
  spdlog::error("cannot write the event log: {}", Message(status));
  // Nothing more is written, nor told of, before Reload.
  return disk_ = absl::UnavailableError(Message(status));
}

void Core::MaintainStore() {
  if (!disk_.ok()) {
    if (clock_.SinceBoot() < next_try_ || absl::IsUnavailable(disk_) || absl::IsAborted(disk_))
      return;
    next_try_ = clock_.SinceBoot() + kRetryAfter;
    disk_ = store_.Probe();
    if (disk_.ok()) spdlog::info("the event log can be written again");
    return;
  }
  store_.Tidy();
  if (snapshots_.under_way() || snapshots_.due()) snapshots_.Step();
  if (options_.keep_telemetry < absl::InfiniteDuration()) Trim();
  TrimRequests();
}

/// Ids come with commands alone, so no timer is needed: whatever comes next takes the old ones out.
void Core::TrimRequests() {
  const absl::Duration now = clock_.SinceBoot();
  if (options_.keep_requests == absl::InfiniteDuration()) return;
  if (!more_requests_ && now < next_request_trim_) return;
  next_request_trim_ = now + kTrimRequestsEvery;
  const absl::Time wall = clock_.Now();
  const auto done = store_.TrimRequests(wall - options_.keep_requests, wall, kRequestSlice);
  more_requests_ = done.ok() && *done == kRequestSlice;
  if (!done.ok()) spdlog::warn("cannot forget old request ids: {}", Message(done.status()));
}

void Core::Trim() {
  if (trimming_.sweep.empty()) {
    const absl::Duration now = clock_.SinceBoot();
    if (now < next_trim_) return;
    next_trim_ = now + kTrimEvery;
    for (const std::string& name : state_.sweep_order()) {
      const SweepRecord& sweep = *state_.sweep(name);
      if (!HasEnded(sweep.state) || clock_.Now() - sweep.ended < options_.keep_telemetry) continue;
      if (oldest_kept(name) > head(name)) continue;
      trimming_ = {name, 0, head(name)};
      break;
    }
    if (trimming_.sweep.empty()) return;
  }
  const auto last =
      store_.TrimTelemetry(trimming_.sweep, trimming_.after, trimming_.upto, kTrimSlice);
  if (!last.ok()) {
    spdlog::warn("cannot delete old points: {}", Message(last.status()));
    trimming_ = {};
    return;
  }
  std::int64_t& trimmed = trimmed_[trimming_.sweep];
  trimmed = std::max(trimmed, *last);
  trimming_.after = *last;
  if (*last < trimming_.upto) return;
  trimming_ = {};
  next_trim_ = clock_.SinceBoot();  // perhaps there is another one
}

absl::Duration Core::NextMaintenance() const {
  if (!disk_.ok()) return next_try_;
  if (snapshots_.under_way() || snapshots_.due() || !trimming_.sweep.empty() || more_requests_)
    return clock_.SinceBoot();
  return options_.keep_telemetry < absl::InfiniteDuration() ? next_trim_ : absl::InfiniteDuration();
}

}  // namespace sae::server
