// What workers tell the core: registration, heartbeats and statuses, reports; and leases that run
// out.
#include <algorithm>

#include "server/core/checkpoint_policy.h"
#include "server/core/core.h"
#include "server/core/report_lines.h"

namespace sae::server {
namespace {

absl::Status CheckRegistration(const RegisterRequest& request) {
  std::vector<std::string> problems;
  if (request.worker_id.empty() || request.worker_id.size() > 200)
    problems.push_back("worker_id: 1 to 200 characters");
  if (request.incarnation.empty()) problems.push_back("incarnation: is empty");
  if (request.slots < 1 || request.slots > 4096) {
    problems.push_back(absl::StrCat("slots: ", request.slots, ", must be 1 to 4096"));
  }
  if (request.runs_id.empty()) problems.push_back("runs_id: is empty");
  if (request.runs_directory.empty() || request.runs_directory[0] != '/') {
    problems.push_back(
        absl::StrCat("runs_directory: \"", request.runs_directory, "\", must be an absolute path"));
  }
  if (problems.empty()) return absl::OkStatus();
  std::string all;
  for (const std::string& p : problems) absl::StrAppend(&all, all.empty() ? "" : "; ", p);
  return absl::InvalidArgumentError(all);
}

}  // namespace

std::vector<std::pair<const SweepRecord*, const TrialRecord*>> Core::LiveOn(
    const std::string& worker) const {
  std::vector<std::pair<const SweepRecord*, const TrialRecord*>> out;
  for (const auto& [name, index] : live_.On(worker)) {
    const SweepRecord* sweep = state_.sweep(name);
    out.emplace_back(sweep, &sweep->trials[static_cast<std::size_t>(index)]);
  }
  return out;
}

std::pair<const SweepRecord*, const TrialRecord*> Core::FindLive(const AttemptKey& key,
                                                                 const std::string& worker) const {
  const SweepRecord* sweep = state_.sweep(key.sweep);
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(key.trial);
  const AttemptRecord* live = trial == nullptr ? nullptr : trial->live_attempt();
  if (live == nullptr || live->number != key.attempt || ShareOf(*live, worker) == 0)
    return {nullptr, nullptr};
  return {sweep, trial};
}

std::pair<const SweepRecord*, const TrialRecord*> Core::FindReportable(
    const AttemptKey& key, const std::string& worker) const {
  const SweepRecord* sweep = state_.sweep(key.sweep);
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(key.trial);
  const AttemptRecord* live = trial == nullptr ? nullptr : trial->live_attempt();
  if (live != nullptr && options_.planted.Is(PlantedBug::kStaleReport)) return {sweep, trial};
  if (live == nullptr || live->worker != worker || key.attempt > live->number)
    return {nullptr, nullptr};
  const AttemptRecord* attempt = trial->attempt(key.attempt);
  if (attempt == nullptr || attempt->runs_id != live->runs_id) return {nullptr, nullptr};
  return {sweep, trial};
}

absl::Status Core::CheckSender(const Sender& sender) {
  const char* stale = nullptr;
  const auto it = workers_.find(sender.worker_id);
  if (sender.epoch != epoch_) {
    stale = "epoch";
  } else if (it == workers_.end() || !it->second.ready ||
             it->second.incarnation != sender.incarnation) {
    stale = "incarnation";
  }
  if (stale == nullptr) return absl::OkStatus();
  for (CoreObserver* o : observers_) o->OnFenced(stale);
  return absl::AbortedError(absl::StrCat("worker ", sender.worker_id, ": stale ", stale,
                                         " (it said epoch ", sender.epoch, ", this is epoch ",
                                         epoch_, "); register again"));
}

absl::Duration Core::LeaseEnd() const {
  if (options_.planted.Is(PlantedBug::kShortLease))
    return clock_.SinceBoot() + options_.lease * 0.5;
  return clock_.SinceBoot() + options_.lease + options_.lease_margin;
}

absl::Status Core::CheckNotLate(const RegisterRequest& request) const {
  const auto it = workers_.find(request.worker_id);
  if (it == workers_.end() || request.boot_id != it->second.boot_id ||
      request.sent == absl::ZeroDuration() || request.sent > it->second.registration_sent)
    return absl::OkStatus();
  // Attempts that began since are not in it; they must not count as lost.
  return absl::AbortedError(absl::StrCat(
      "worker ", request.worker_id, ": this registration came late: a newer one was answered"));
}

absl::Status Core::ReconcileAttempts(const RegisterRequest& request) {
  Transaction transaction;
  int slots = 0;
  std::set<std::string> gangs;
  for (const auto& [sweep, trial] : LiveOn(request.worker_id)) {
    const AttemptRecord& attempt = trial->attempts.back();
    const AttemptKey key{sweep->name, TrialNameOf(trial->index), attempt.number};
    const bool known = std::any_of(request.attempts.begin(), request.attempts.end(),
                                   [&](const KnownAttempt& k) { return k.key == key; });
    slots += gangs.insert(GangOf(key.sweep, key.trial, attempt)).second
                 ? ShareOf(attempt, request.worker_id)
                 : 0;
    // One that never started is sent again under the same number: at most one of it can ever run.
    // Of a gang over several workers, the head may have started it once all had prepared.
    const bool head = attempt.worker == request.worker_id;
    const bool can_start = trial->state == TrialState::kAllocated && slots <= request.slots &&
                           attempt.runs_id == request.runs_id && (head || !attempt.prepared);
    if (const auto it = preparing_.find(key); it != preparing_.end())
      it->second.prepared.erase(request.worker_id);  // it says so again
    if (known || can_start || options_.planted.Is(PlantedBug::kStartsAgain)) continue;
    Ending ending;
    ending.how = Ending::How::kLost;
    ending.reason = absl::StrCat("worker ", request.worker_id, " came back without ",
                                 attempt.hosts.empty() ? "it" : "its part of it");
    ending.suspects = {request.worker_id};
    EndAttempt(transaction, *sweep, *trial, ending);
  }
  if (transaction.empty()) return absl::OkStatus();
  EndSweeps(transaction);
  return Commit(std::move(transaction));
}

absl::StatusOr<RegisterReply> Core::Register(const RegisterRequest& request) {
  SAE_RETURN_IF_ERROR(CheckRegistration(request));
  SAE_RETURN_IF_ERROR(store_.CheckEpoch());
  SAE_RETURN_IF_ERROR(CheckNotLate(request));
  SAE_RETURN_IF_ERROR(ReconcileAttempts(request));
  SAE_RETURN_IF_ERROR(Flush());  // so that the acknowledged seqs are all there is
  const auto [it, added] = workers_.try_emplace(request.worker_id);
  if (!added) {
    for (CoreObserver* o : observers_) o->OnReconnect(request.worker_id);
  }
  WorkerEntry& worker = it->second;
  worker.id = request.worker_id;
  if (worker.incarnation != request.incarnation) worker.checkpoint_failures_told = 0;
  worker.incarnation = request.incarnation;
  worker.boot_id = request.boot_id;
  worker.registration_sent = request.sent;
  worker.address = request.address;
  worker.runs_directory = request.runs_directory;
  worker.runs_id = request.runs_id;
  worker.slots = request.slots;
  worker.memory_bytes = request.memory_bytes;
  worker.gpus = request.gpus;
  worker.rack = request.rack;
  worker.peer_address = request.peer_address;
  worker.mpi_host = request.mpi_host;
  worker.version = request.version;
  worker.ready = true;
  worker.lease_open = true;
  worker.lease_until = LeaseEnd();
  worker.last_heartbeat = clock_.Now();
  worker.heartbeat = 0;
  worker.draining.clear();

  RegisterReply reply{epoch_, options_.heartbeat, options_.lease, {}};
  for (const KnownAttempt& known : request.attempts) {
    const bool wanted = FindLive(known.key, request.worker_id).second != nullptr;
    reply.attempts.push_back({known.key, acknowledged(known.key), wanted});
    if (wanted) unsent_.erase(known.key);
    if (wanted && known.running && preparing_.contains(known.key)) {
      // Nothing of it can run yet: what it has is its reservation.
      const auto [sweep, trial] = FindLive(known.key, request.worker_id);
      SAE_RETURN_IF_ERROR(HostPrepared(*sweep, *trial, request.worker_id));
    }
    if (wanted || !known.running) continue;
    const SweepRecord* sweep = state_.sweep(known.key.sweep);
    const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(known.key.trial);
    const AttemptRecord* attempt = trial == nullptr ? nullptr : trial->attempt(known.key.attempt);
    worker.draining[known.key] =
        attempt == nullptr
            ? WorkerEntry::Draining{0, ToString(known.key)}
            : WorkerEntry::Draining{ShareOf(*attempt, request.worker_id),
                                    GangOf(known.key.sweep, known.key.trial, *attempt),
                                    !attempt->hosts.empty()};
  }
  for (const auto& [sweep, trial] : LiveOn(request.worker_id)) {
    // Its head can start once all hosts are there.
    if (!trial->attempts.back().hosts.empty()) TellHosts(trial->attempts.back());
  }
  dirty_ = health_changed_ = true;
  return reply;
}

absl::StatusOr<HeartbeatReply> Core::Heartbeat(const HeartbeatRequest& request) {
  SAE_RETURN_IF_ERROR(CheckSender(request.sender));
  SAE_RETURN_IF_ERROR(store_.CheckEpoch());  // the answer renews a lease
  WorkerEntry& worker = workers_.at(request.sender.worker_id);
  worker.lease_until = LeaseEnd();
  worker.last_heartbeat = clock_.Now();
  worker.heartbeat = std::max(worker.heartbeat, request.heartbeat);
  worker.reported_free = request.free_slots;
  HeartbeatReply reply;
  for (const AttemptStatus& status : request.statuses) {
    // One that cannot be stored now is not acknowledged: it comes again.
    if (ApplyStatus(worker, status).ok()) reply.status_acks.push_back(status.status_id);
  }
  if (ApplyCheckpointStatuses(worker, request.checkpoints).ok()) {
    for (const CheckpointStatus& status : request.checkpoints)
      reply.status_acks.push_back(status.status_id);
  }
  for (auto& [key, held] : worker.draining) ++held.beats;
  if (!worker.draining.empty() &&
      request.free_slots >= FreeSlots(worker) + worker.DrainingSlots()) {
    // One that was told to let go since this heartbeat was sent may still have to.
    const auto gone = std::erase_if(worker.draining, [&](const auto& entry) {
      return !entry.second.release || entry.second.beats >= 2;
    });
    dirty_ = dirty_ || gone > 0;
  }
  reply.heartbeat = worker.heartbeat;
  return reply;
}

void Core::ReleaseStale(WorkerEntry& worker, const AttemptKey& key) {
  const SweepRecord* sweep = state_.sweep(key.sweep);
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(key.trial);
  const AttemptRecord* attempt = trial == nullptr ? nullptr : trial->attempt(key.attempt);
  const int slots = attempt == nullptr ? 0 : ShareOf(*attempt, worker.id);
  worker.draining[key] = {
      slots, attempt == nullptr ? ToString(key) : GangOf(key.sweep, key.trial, *attempt), true,
      false};
  dirty_ = true;
}

absl::Status Core::ApplyStatus(WorkerEntry& worker, const AttemptStatus& status) {
  using Kind = AttemptStatus::State;
  const auto [sweep, trial] = FindLive(status.key, worker.id);
  const bool gone = status.state == Kind::kEnded || status.state == Kind::kRefused;
  if (gone && worker.draining.erase(status.key) > 0) dirty_ = true;
  if (trial == nullptr) {
    for (CoreObserver* o : observers_) o->OnFenced("attempt");
    if (status.state == Kind::kPrepared) ReleaseStale(worker, status.key);
    return absl::OkStatus();  // acknowledged, so that it is not sent for ever
  }
  const AttemptRecord& attempt = trial->attempts.back();
  const bool head = attempt.worker == worker.id;
  if (status.state == Kind::kPrepared) return HostPrepared(*sweep, *trial, worker.id);
  // Of what the head started, the head's word counts: it waits for all of it.
  if (!head && attempt.prepared && status.state != Kind::kRefused) return absl::OkStatus();
  unsent_.erase(status.key);
  Transaction transaction;
  Ending ending;
  switch (status.state) {
    case Kind::kUnspecified:
    case Kind::kPrepared:
      return absl::OkStatus();
    case Kind::kStarting:
      if (trial->state != TrialState::kAllocated)
        return absl::OkStatus();  // its events were faster
      Add(transaction, sweep->name, status.key.trial, AttemptStarting{status.key.attempt});
      return Commit(std::move(transaction));
    case Kind::kEnded:
      ending.how = Ending::How::kExited;
      break;
    case Kind::kRefused:
      ending.how = Ending::How::kRefused;
      break;
  }
  ending.exit_code = status.exit_code;
  ending.verdict = status.verdict;
  ending.reason = status.reason;
  ending.failure_class = status.failure_class;
  ending.log_tail = status.log_tail;
  if (!attempt.hosts.empty() && (!head || !attempt.prepared)) {
    // It gave its part up before the gang could start.
    ending.how = Ending::How::kRefused;
    ending.suspects = {worker.id};
    ending.reason = absl::StrCat("worker ", worker.id, " refused its part: ", status.reason);
    if (ending.failure_class == FailureClass::kUnspecified)
      ending.failure_class = FailureClass::kRendezvousTimeout;
  }
  EndAttempt(transaction, *sweep, *trial, ending);
  EndSweeps(transaction);
  SAE_RETURN_IF_ERROR(Commit(std::move(transaction)));
  worker.draining.erase(status.key);  // it has said that nothing is left here
  return absl::OkStatus();
}

std::vector<Command> Core::CommandsFor(const std::string& worker) {
  std::vector<Command> commands;
  std::map<std::string, std::size_t> first;  // of a gang: its place in `commands`
  for (const auto& [sweep, trial] : LiveOn(worker)) {
    const AttemptRecord& attempt = trial->attempts.back();
    const AttemptKey key{sweep->name, TrialNameOf(trial->index), attempt.number};
    const bool several = !attempt.hosts.empty();
    if (several) GangCommands(worker, *sweep, *trial, commands);
    if (several && (!attempt.prepared || attempt.worker != worker)) continue;
    unsent_.erase(key);
    if (trial->state == TrialState::kAllocated || options_.planted.Is(PlantedBug::kStartsAgain)) {
      StartCommand start{
          key, sweep->Config(*trial), sweep->spec.store, sweep->spec.store_hash, attempt.slots, {}};
      start.from_checkpoint = ForkFolder(*sweep, attempt);
      start.progress_timeout = absl::Seconds(sweep->spec.progress_timeout_seconds);
      start.keep_checkpoints = TrainerKeeps(sweep->spec.checkpoints);
      if (several && !AddHosts(attempt, start)) continue;  // one of them has still to register
      const auto [at, added] =
          first.emplace(GangOf(key.sweep, key.trial, attempt), commands.size());
      if (added) {
        commands.emplace_back(std::move(start));
      } else {
        std::get<StartCommand>(commands[at->second]).with.push_back(std::move(start));
      }
    }
    if (auto stop = StopFor(*sweep, *trial)) commands.emplace_back(*std::move(stop));
  }
  RetentionCommands(worker, commands);
  const auto entry = workers_.find(worker);
  if (entry == workers_.end()) return commands;
  for (const auto& [key, held] : entry->second.draining) {
    if (!held.release) continue;
    if (held.stop) commands.emplace_back(StopCommand{key, false, "its gang is over", {}});
    commands.emplace_back(ReleaseCommand{key});
  }
  return commands;
}

void Core::Report(const ReportRequest& request,
                  std::function<void(absl::StatusOr<std::int64_t>)> done) {
  const AttemptKey& key = request.key;
  if (const absl::Status status = CheckSender(request.sender); !status.ok()) return done(status);
  const auto accepted = accepted_.find(key);
  const std::int64_t have = accepted == accepted_.end() ? acknowledged(key) : accepted->second;
  const std::int64_t last = request.first_seq + static_cast<std::int64_t>(request.lines.size()) - 1;
  if (request.first_seq < 1) {
    return done(absl::InvalidArgumentError(
        absl::StrCat("first_seq: ", request.first_seq, ", must be at least 1")));
  }
  if (last <= have && accepted == accepted_.end())
    return done(have);  // all known: a reply was lost
  const auto [sweep, trial] = FindReportable(key, request.sender.worker_id);
  if (trial == nullptr) {
    for (CoreObserver* o : observers_) o->OnFenced("attempt");
    return done(
        absl::AbortedError(absl::StrCat(ToString(key), " is not worker ", request.sender.worker_id,
                                        "'s live attempt; register again")));
  }
  if (request.first_seq > have + 1) {
    return done(
        absl::OutOfRangeError(absl::StrCat(ToString(key), ": first_seq ", request.first_seq,
                                           " leaves a gap: the acknowledged seq is ", have)));
  }
  const auto skip = static_cast<std::ptrdiff_t>(
      std::min(have - request.first_seq + 1, static_cast<std::int64_t>(request.lines.size())));
  const std::vector<std::string> lines(request.lines.begin() + skip, request.lines.end());
  const int attempt =
      options_.planted.Is(PlantedBug::kStaleReport) ? trial->live_attempt()->number : key.attempt;
  auto events = EventsOfLines(*trial, attempt, have + 1, lines);
  if (!events.ok()) return done(events.status());

  unsent_.erase(key);
  bool lifecycle = false;
  for (Body& body : *events) {
    lifecycle = lifecycle || !std::holds_alternative<Point>(body);
    Add(group_.transaction, key.sweep, key.trial, std::move(body));
  }
  const std::int64_t now_have = std::max(last, have);
  group_.transaction.acknowledged.push_back({key.sweep, key.trial, key.attempt, now_have});
  group_.done.push_back([done = std::move(done), now_have](const absl::Status& status) {
    status.ok() ? done(now_have) : done(status);
  });
  accepted_[key] = now_have;
  group_.due = std::min(group_.due, clock_.SinceBoot() + options_.group_commit);
  if (lifecycle || group_.transaction.events.size() >= 2000)
    Flush().IgnoreError();  // `done` was told
}

void Core::ExpireLeases() {
  const absl::Duration now = clock_.SinceBoot();
  for (auto& [id, worker] : workers_) {
    if (!worker.lease_open || worker.lease_until > now) continue;
    Transaction transaction;
    for (const auto& [sweep, trial] : LiveOn(id)) {
      Ending ending;
      ending.how = Ending::How::kLost;
      ending.suspects = {id};
      ending.reason = absl::StrCat("worker ", id, " was not heard of for its lease of ",
                                   absl::FormatDuration(options_.lease));
      EndAttempt(transaction, *sweep, *trial, ending);
    }
    EndSweeps(transaction);
    if (!Commit(std::move(transaction)).ok())
      continue;  // next time: until then its attempts count as live
    worker.ready = false;
    worker.lease_open = false;
    worker.draining.clear();
    dirty_ = health_changed_ = true;
    for (CoreObserver* o : observers_) o->OnLeaseExpired(id);
  }
}

}  // namespace sae::server
