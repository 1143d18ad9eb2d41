#include "server/core/state_lifecycle.h"

#include <algorithm>

#include "sae/config/mesh.h"

namespace sae::server {
namespace {

void Update(const SweepUpdated& body, SweepRecord& sweep) {
  if (body.priority) sweep.spec.priority = *body.priority;
  if (body.max_concurrent) sweep.spec.max_concurrent = *body.max_concurrent;
  if (body.queue) sweep.spec.queue = *body.queue;
  if (body.labels) sweep.spec.labels = *body.labels;
}

absl::Status Stop(const LogEvent& event, const StopRequested& body, SweepRecord& sweep,
                  TrialRecord& trial) {
  if (!IsLive(trial.state)) {
    const bool waits = trial.state == TrialState::kPending || trial.state == TrialState::kPaused;
    if (body.attempt != 0 || body.wanted != StopWanted::kStopEarly || !waits) {
      return EventBug(event, absl::StrCat("to ", ToString(body.wanted), " one that is ",
                                          ToString(trial.state)));
    }
    SetState(sweep, trial, TrialState::kStoppedEarly);
    trial.reason = body.reason;
    return absl::OkStatus();
  }
  AttemptRecord& attempt = trial.attempts.back();
  if (attempt.number != body.attempt) {
    return EventBug(event, absl::StrCat("attempt ", body.attempt, " is not live"));
  }
  if (body.wanted == StopWanted::kNone) return EventBug(event, "nothing is wanted");
  SetState(sweep, trial, TrialState::kCheckpointing);
  attempt.stop_wanted = body.wanted;
  attempt.stop_reason = body.reason;
  trial.reason = body.reason;
  return absl::OkStatus();
}

}  // namespace

absl::Status EventBug(const LogEvent& event, const std::string& why) {
  return absl::InternalError(absl::StrCat("event log: ", event.sweep, "/", event.trial, " seq ",
                                          event.seq, ": ", KindOf(event.body), ": ", why));
}

void SetState(SweepRecord& sweep, TrialRecord& trial, TrialState to) {
  --sweep.counts[static_cast<std::size_t>(trial.state)];
  ++sweep.counts[static_cast<std::size_t>(to)];
  trial.state = to;
  if (to == TrialState::kPending) {
    sweep.pending.insert(trial.index);
  } else {
    sweep.pending.erase(trial.index);
  }
  if (IsLive(to)) {
    sweep.live.insert(trial.index);
  } else {
    sweep.live.erase(trial.index);
  }
  if (to == TrialState::kPaused) {
    sweep.paused.insert(trial.index);
  } else {
    sweep.paused.erase(trial.index);
  }
}

void AddTrial(SweepRecord& sweep, std::vector<std::pair<std::string, std::string>> assignments,
              absl::Time now) {
  TrialRecord& trial = sweep.trials.emplace_back();
  trial.index = static_cast<int>(sweep.trials.size()) - 1;
  trial.assignments = std::move(assignments);
  const config::TrialConfig config = sweep.Config(trial);
  trial.slots = static_cast<int>(config.ranks);
  const config::TrainConfig& t = config.train;
  trial.stream = absl::StrCat(config.ranks, " ", t.batch, " ", t.data_seed, " ", t.tokens, " ",
                              t.replicas.value_or(config::AutoReplicas(config)), " ",
                              config.sae.transcoder ? "targets" : "");
  if (sweep.spec.store_d > 0) {
    trial.memory =
        config.ranks *
        config::EstimateMemory(config, sweep.spec.store_d, sweep.spec.store_target_d).total();
  }
  trial.pending_since = now;
  sweep.pending.insert(trial.index);
  ++sweep.counts[static_cast<std::size_t>(TrialState::kPending)];
}

std::string ForkFolder(const SweepRecord& sweep, const AttemptRecord& attempt) {
  const std::size_t name = sweep.forked_from.rfind('/');
  if (name == std::string::npos) return "";
  return absl::StrCat(attempt.runs_directory, "/", sweep.forked_from.substr(0, name),
                      "/checkpoints/", sweep.forked_from.substr(name + 1));
}

std::optional<absl::Status> ApplySweepVerb(const LogEvent& event, SweepRecord& sweep) {
  if (const auto* updated = std::get_if<SweepUpdated>(&event.body)) {
    Update(*updated, sweep);
    return absl::OkStatus();
  }
  if (const auto* added = std::get_if<PointsAdded>(&event.body)) {
    if (HasEnded(sweep.state)) return EventBug(event, "the sweep has ended");
    for (const auto& point : added->points) AddTrial(sweep, point, event.time);
    return absl::OkStatus();
  }
  if (const auto* cancel = std::get_if<CancelRequested>(&event.body)) {
    sweep.cancel_requested = true;
    sweep.cancel_graceful = cancel->graceful;
    return absl::OkStatus();
  }
  return std::nullopt;
}

std::optional<absl::Status> ApplyTrialVerb(const LogEvent& event, SweepRecord& sweep,
                                           TrialRecord& trial) {
  if (const auto* stop = std::get_if<StopRequested>(&event.body))
    return Stop(event, *stop, sweep, trial);
  if (const auto* paused = std::get_if<TrialPaused>(&event.body)) {
    if (trial.state != TrialState::kPending)
      return EventBug(event, absl::StrCat("from ", ToString(trial.state)));
    SetState(sweep, trial, TrialState::kPaused);
    trial.reason = paused->reason;
    trial.delay = absl::ZeroDuration();
    return absl::OkStatus();
  }
  if (const auto* resumed = std::get_if<TrialResumed>(&event.body)) {
    if (trial.state != TrialState::kPaused)
      return EventBug(event, absl::StrCat("from ", ToString(trial.state)));
    SetState(sweep, trial, TrialState::kPending);
    trial.reason = resumed->reason;
    trial.pending_since = event.time;
    trial.delay = absl::ZeroDuration();
    return absl::OkStatus();
  }
  return std::nullopt;
}

}  // namespace sae::server
