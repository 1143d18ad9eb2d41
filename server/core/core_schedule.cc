// Placing trials on workers, and saying why one waits.
#include <algorithm>

#include "sae/config/search_rungs.h"
#include "server/core/core.h"

namespace sae::server {
namespace {

bool NothingCanRun(WaitReason reason) {
  return reason == WaitReason::kNoWorker || reason == WaitReason::kTooLarge ||
         reason == WaitReason::kCheckpoint || reason == WaitReason::kCheckpointSlots;
}

std::string Slots(std::int64_t n) { return absl::StrCat(n, n == 1 ? " slot" : " slots"); }

/// The runs folder that holds the trial's checkpoint; null when it has none.
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

std::string Explain(const Wait& wait, const SweepRecord& sweep, const TrialRecord& trial) {
  const std::int64_t need = trial.slots;
  const AttemptRecord* home = CheckpointHome(trial);
  const std::string folder = home != nullptr ? home->runs_directory : sweep.fork_runs_id;
  switch (wait.reason) {
    case WaitReason::kNone:
      break;
    case WaitReason::kNoWorker:
      return "no worker is registered";
    case WaitReason::kTooLarge:
      return absl::StrCat("needs ", Slots(need), "; the largest worker has ", wait.largest);
    case WaitReason::kSlotsBusy:
      return absl::StrCat(
          "waiting for ", need == 1 ? "a free slot" : absl::StrCat(need, " free slots"),
          folder.empty() ? "" : absl::StrCat(" where its checkpoint is, in runs folder ", folder));
    case WaitReason::kCheckpoint:
      return absl::StrCat("its checkpoint is in runs folder ", folder, ", no worker shares it");
    case WaitReason::kCheckpointSlots:
      return absl::StrCat("needs ", Slots(need), "; its checkpoint is in runs folder ", folder,
                          ", whose largest worker has ", wait.largest);
    case WaitReason::kConcurrency:
      return absl::StrCat("waiting: maxConcurrent = ", sweep.spec.max_concurrent,
                          " of its sweep are running");
    case WaitReason::kBackOff:
      return trial.reason;
  }
  return "waiting to be scheduled";
}

}  // namespace

std::string Core::ReasonOf(const SweepRecord& sweep, const TrialRecord& trial) const {
  if (trial.live_attempt() != nullptr && sweep.cancel_requested) return "cancelling";
  if (trial.state != TrialState::kPending) return trial.reason;
  if (sweep.state == SweepState::kPaused) return "its sweep is paused";
  const auto it = waits_.find({sweep.name, trial.index});
  if (it == waits_.end()) return trial.reason.empty() ? "waiting to be scheduled" : trial.reason;
  return Explain(it->second, sweep, trial);
}

bool Core::Delayed(const TrialId& id) const { return not_before_.contains(id); }

int Core::FreeSlots(const WorkerEntry& worker) const {
  int used = 0;
  std::set<std::string> gangs;
  for (const auto& [sweep, trial] : LiveOn(worker.id)) {
    const AttemptRecord& attempt = trial->attempts.back();
    used += gangs.insert(GangOf(sweep->name, TrialNameOf(trial->index), attempt)).second ? attempt.slots : 0;
  }
  return std::max(0, worker.slots - used - worker.DrainingSlots());
}

std::vector<SchedulableWorker> Core::ReadyWorkers() const {
  std::vector<SchedulableWorker> ready;
  for (const auto& [id, worker] : workers_) {
    if (worker.ready)
      ready.push_back({id, worker.runs_id, worker.slots, FreeSlots(worker), worker.memory_bytes});
  }
  return ready;
}

std::vector<SchedulableTrial> Core::Queue() const {
  std::vector<SchedulableTrial> queue;
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    if (sweep.state == SweepState::kPaused) continue;
    // Those that have come further in the search go first.
    std::vector<int> order(sweep.pending.begin(), sweep.pending.end());
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return sweep.trials[static_cast<std::size_t>(a)].rung >
             sweep.trials[static_cast<std::size_t>(b)].rung;
    });
    for (const int index : order) {
      const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
      SchedulableTrial item;
      item.sweep = name;
      item.index = index;
      item.slots = trial.slots;
      if (const AttemptRecord* home = CheckpointHome(trial)) {
        item.runs_id = home->runs_id;
        item.prefer = home->worker;
      } else {
        item.runs_id = sweep.fork_runs_id;
      }
      if (!trial.attempts.empty() &&
          trial.attempts.back().failure_class != FailureClass::kUnspecified) {
        item.avoid = trial.attempts.back().worker;
      }
      item.delayed = Delayed({name, index});
      item.memory = trial.memory;
      item.pack = DiedInAGang(trial) || config::IsSearching(sweep.spec) ? 1 : sweep.spec.pack;
      item.stream = trial.stream;
      queue.push_back(std::move(item));
    }
  }
  return queue;
}

void Core::RunSchedule() {
  const bool settled = RunSearches();
  dirty_ = !settled;
  const absl::Duration start = clock_.SinceBoot();
  const std::vector<SchedulableTrial> queue = Queue();
  const std::vector<SchedulableWorker> ready = ReadyWorkers();
  std::map<std::string, std::int64_t> rooms;
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    if (sweep.spec.max_concurrent > 0) {
      rooms[name] = sweep.spec.max_concurrent - static_cast<std::int64_t>(sweep.live.size());
    }
  }
  const Schedule schedule = Plan(queue, ready, std::move(rooms));
  waits_.clear();
  waiting_.clear();
  for (const Wait& wait : schedule.waits) {
    waits_[{queue[wait.trial].sweep, queue[wait.trial].index}] = wait;
    ++waiting_[wait.reason];
  }
  Transaction transaction;
  std::map<std::size_t, int> gangs;
  for (const Placement& placement : schedule.placements) ++gangs[placement.gang];
  for (const Placement& placement : schedule.placements) {
    const SchedulableTrial& item = queue[placement.trial];
    const WorkerEntry& worker = workers_.at(ready[placement.worker].id);
    const TrialRecord& trial =
        state_.sweep(item.sweep)->trials[static_cast<std::size_t>(item.index)];
    AttemptAllocated allocated;
    allocated.attempt = static_cast<int>(trial.attempts.size()) + 1;
    allocated.worker = worker.id;
    allocated.runs_id = worker.runs_id;
    allocated.runs_directory = worker.runs_directory;
    allocated.slots = item.slots;
    if (gangs[placement.gang] > 1) {
      const SchedulableTrial& first = queue[placement.gang];
      const TrialRecord& leader =
          state_.sweep(first.sweep)->trials[static_cast<std::size_t>(first.index)];
      allocated.gang = absl::StrCat(TrialNameOf(first.index), "/", leader.attempts.size() + 1);
    }
    Add(transaction, item.sweep, TrialNameOf(item.index), std::move(allocated));
  }
  if (!transaction.empty()) {
    // Failing, it is tried again: nothing was allocated.
    dirty_ = !Commit(std::move(transaction)).ok() || !settled;
  }
  FindBlocked();
  for (CoreObserver* o : observers_) {
    o->OnScheduled(clock_.SinceBoot() - start, schedule.placements.size(), schedule.waits.size());
  }
}

void Core::FindBlocked() {
  const absl::Duration now = clock_.SinceBoot();
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    bool blocked = sweep.live.empty() && !sweep.pending.empty();
    for (auto it = sweep.pending.begin(); blocked && it != sweep.pending.end(); ++it) {
      const auto wait = waits_.find({name, *it});
      blocked = wait != waits_.end() && NothingCanRun(wait->second.reason);
    }
    if (!blocked) {
      blocked_.erase(name);
      continue;
    }
    const TrialRecord& first = sweep.trials[static_cast<std::size_t>(*sweep.pending.begin())];
    const std::string text =
        absl::StrCat(sweep.pending.size(), " trials wait, none can run: ", ReasonOf(sweep, first));
    Blocked& entry = blocked_[name];
    if (entry.text != text) entry = {text, now, false};
  }
}

void Core::TellBlocked() {
  const absl::Duration now = clock_.SinceBoot();
  for (auto& [sweep, entry] : blocked_) {
    if (entry.told || now - entry.since < options_.blocked_notice) continue;
    entry.told = true;
    Transaction transaction;
    Add(transaction, sweep, "", Notice{0, entry.text, {}});
    Commit(std::move(transaction)).IgnoreError();  // logged; a notice is not worth more
  }
}

}  // namespace sae::server
