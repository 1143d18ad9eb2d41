// What the core derives from the state, event by event, so that no cycle walks over all trials.
#include <algorithm>

#include "sae/config/search_rungs.h"
#include "server/core/core.h"

namespace sae::server {
namespace {

/// The attempt in whose runs folder the trial's checkpoint is; null when it has none.
const AttemptRecord* CheckpointHome(const TrialRecord& trial) {
  return trial.checkpoints.empty() ? nullptr : trial.attempt(trial.checkpoints.back().attempt);
}

/// Its gang ended badly and it may be why: the next attempt shows it, without harm to others.
bool DiedInAGang(const TrialRecord& trial) {
  if (trial.attempts.empty()) return false;
  const AttemptRecord& last = trial.attempts.back();
  return !last.gang.empty() && last.failure_class != FailureClass::kUnspecified &&
         !IsWorkersFault(last.failure_class);
}

/// Workers that may be why the attempt failed.
std::vector<std::string> SuspectsOf(const AttemptRecord& attempt) {
  if (!attempt.suspects.empty()) return attempt.suspects;
  std::vector<std::string> workers;
  for (const HostShare& host : attempt.hosts) workers.push_back(host.worker);
  if (workers.empty()) workers.push_back(attempt.worker);
  return workers;
}

/// Where it should not start again: as its sweep's rules say, else where its last attempt failed.
std::vector<std::string> Avoided(const SweepRecord& sweep, const TrialRecord& trial) {
  std::set<std::string> avoid;
  for (std::size_t i = static_cast<std::size_t>(trial.fresh_from); i < trial.attempts.size(); ++i) {
    const AttemptRecord& attempt = trial.attempts[i];
    if (attempt.failure_class == FailureClass::kUnspecified) continue;
    const config::RetryRule* rule = RuleFor(sweep.spec.retry, attempt.failure_class);
    const bool last = i + 1 == trial.attempts.size();
    if (rule != nullptr ? !rule->exclude_node : !last) continue;
    for (std::string& worker : SuspectsOf(attempt)) avoid.insert(std::move(worker));
  }
  return {avoid.begin(), avoid.end()};
}

}  // namespace

SchedulableTrial Core::SchedulableOf(const SweepRecord& sweep, const TrialRecord& trial) const {
  SchedulableTrial item;
  item.sweep = sweep.name;
  item.index = trial.index;
  item.slots = trial.slots;
  if (const AttemptRecord* home = CheckpointHome(trial)) {
    item.runs_id = home->runs_id;
    item.runs_directory = home->runs_directory;
    item.prefer = home->worker;
  } else if (!sweep.fork_runs_id.empty()) {
    item.runs_id = sweep.fork_runs_id;
    item.runs_directory = sweep.fork_runs_id;
  }
  item.avoid = Avoided(sweep, trial);
  item.memory = trial.memory;
  item.pack = DiedInAGang(trial) || config::IsSearching(sweep.spec) ? 1 : sweep.spec.pack;
  item.order = -trial.rung;  // those that have come further in the search go first
  item.stream = trial.stream;
  return item;
}

void Core::SyncTrial(const SweepRecord& sweep, const TrialRecord& trial) {
  live_.Sync(sweep, trial);
  const TrialId id{sweep.name, trial.index};
  const bool waits = trial.state == TrialState::kPending && !not_before_.contains(id);
  if (waits && HeadMayRun(sweep, trial)) {
    until_head_ends_.insert(id);
    pending_.Remove(sweep.name, trial.index);
  } else if (waits) {
    pending_.Add(SchedulableOf(sweep, trial));
  } else {
    pending_.Remove(sweep.name, trial.index);
  }
}

void Core::SyncIndexes(const LogEvent& event) {
  retention_.Follow(state_, event);
  const SweepRecord* sweep = state_.sweep(event.sweep);
  if (sweep == nullptr) return;
  if (const TrialRecord* trial = sweep->trial(event.trial)) return SyncTrial(*sweep, *trial);
  if (std::holds_alternative<CancelRequested>(event.body)) {
    for (const int index : sweep->live)
      SyncTrial(*sweep, sweep->trials[static_cast<std::size_t>(index)]);
  }
  const bool created = std::holds_alternative<SweepCreated>(event.body);
  if (created) submitted_.emplace(event.sweep, static_cast<std::int64_t>(submitted_.size()));
  if (!created && !std::holds_alternative<PointsAdded>(event.body)) return;
  for (const int index : sweep->pending) {
    const TrialRecord& trial = sweep->trials[static_cast<std::size_t>(index)];
    if (pending_.ShapeOf(sweep->name, index) == nullptr) SyncTrial(*sweep, trial);
  }
}

void Core::RebuildIndexes() {
  live_.Clear();
  pending_.Clear();
  submitted_.clear();
  retention_.Rebuild(state_);
  for (const std::string& name : state_.sweep_order()) {
    submitted_.emplace(name, static_cast<std::int64_t>(submitted_.size()));
    const SweepRecord& sweep = *state_.sweep(name);
    for (const std::set<int>* indices : {&sweep.pending, &sweep.live}) {
      for (const int index : *indices)
        SyncTrial(sweep, sweep.trials[static_cast<std::size_t>(index)]);
    }
  }
}

void Core::ObserveHealth(const LogEvent& event) {
  if (const auto* uncordoned = std::get_if<WorkerUncordoned>(&event.body))
    health_.Forget(uncordoned->worker);
  if (!std::holds_alternative<AttemptEnded>(event.body)) return;
  const SweepRecord* sweep = state_.sweep(event.sweep);
  const AttemptRecord& attempt = sweep->trial(event.trial)->attempts.back();
  std::set<std::string> workers = {attempt.worker};
  for (const HostShare& host : attempt.hosts) workers.insert(host.worker);
  const std::vector<std::string> suspects = SuspectsOf(attempt);
  for (const std::string& worker : workers) {
    const bool suspect = std::find(suspects.begin(), suspects.end(), worker) != suspects.end();
    health_.Ended(worker, suspect ? attempt.failure_class : FailureClass::kUnspecified, event.time);
  }
  health_changed_ = true;
}

}  // namespace sae::server
