// Placing trials on workers, making room for those of higher priority, and saying why one waits.
#include <algorithm>

#include "absl/strings/str_format.h"

#include "server/core/core.h"

namespace sae::server {

std::string Core::ReasonOf(const SweepRecord& sweep, const TrialRecord& trial) const {
  if (trial.live_attempt() != nullptr && sweep.cancel_requested) return "cancelling";
  if (trial.state != TrialState::kPending) return trial.reason;
  if (sweep.state == SweepState::kPaused) return "its sweep is paused";
  const Shape* shape = pending_.ShapeOf(sweep.name, trial.index);
  const auto waits = waits_.find(sweep.name);
  if (shape != nullptr && waits != waits_.end()) {
    if (const auto it = waits->second.find(*shape); it != waits->second.end())
      return it->second.text;
  }
  return trial.reason.empty() ? "waiting to be scheduled" : trial.reason;
}

int Core::FreeSlots(const WorkerEntry& worker) const {
  int used = live_.host(worker.id).slots;
  if (options_.planted.Is(PlantedBug::kAllocatedIsFree)) used /= 2;
  return std::max(0, worker.slots - used - worker.DrainingSlots());
}

std::vector<SchedulableWorker> Core::ReadyWorkers() const {
  std::vector<SchedulableWorker> ready;
  for (const auto& [id, worker] : workers_) {
    if (!worker.ready) continue;
    const LiveIndex::Host& host = live_.host(id);
    SchedulableWorker out{id, worker.runs_id, worker.slots, FreeSlots(worker), worker.memory_bytes};
    out.memory_used = host.memory;
    out.coming = host.ending_slots + worker.DrainingSlots();
    out.rack = worker.rack;
    out.peers = !worker.peer_address.empty() && !worker.mpi_host.empty();
    const auto cordon = state_.fleet().cordons.find(id);
    if (cordon != state_.fleet().cordons.end()) out.cordon = cordon->second.reason;
    ready.push_back(std::move(out));
  }
  return ready;
}

std::map<std::string, QueueTerms> Core::QueuesInUse() const {
  std::map<std::string, QueueTerms> queues;
  for (const auto& [name, queue] : state_.fleet().queues)
    queues[name] = {options_.planted.Is(PlantedBug::kQuotaIgnored) ? 0 : queue.quota_slots,
                    queue.weight,
                    0,
                    {}};
  for (const auto& [name, slots] : live_.sweeps()) {
    const SweepRecord& sweep = *state_.sweep(name);
    QueueTerms& queue = queues[QueueNameOf(sweep.spec.queue)];
    queue.used += slots;
    queue.owners[sweep.owner] += slots;
  }
  return queues;
}

std::vector<RunningGang> Core::RunningGangs(const std::vector<SchedulableWorker>& workers) const {
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < workers.size(); ++i) places[workers[i].id] = i;
  std::vector<RunningGang> out;
  for (const auto& [key, gang] : live_.gangs()) {
    if (gang.ending()) continue;
    RunningGang running;
    running.sweep = gang.sweep;
    running.trials.assign(gang.trials.begin(), gang.trials.end());
    running.priority = state_.sweep(gang.sweep)->spec.priority;
    running.start = gang.start;
    for (const HostShare& host : gang.hosts) {
      const auto at = places.find(host.worker);
      if (at != places.end()) running.takes.push_back({at->second, host.slots});
    }
    if (!running.takes.empty()) out.push_back(std::move(running));
  }
  return out;
}

ScheduleInput Core::MakeScheduleInput() const {
  ScheduleInput input{pending_, {}, QueuesInUse(), ReadyWorkers(), {}};
  std::int64_t highest = std::numeric_limits<std::int64_t>::min(), lowest = kNoLimit;
  std::vector<std::pair<std::int64_t, SweepTerms>> in_order;  // of submission
  in_order.reserve(pending_.sweeps().size());
  for (const auto& [name, pending] : pending_.sweeps()) {
    const SweepRecord& sweep = *state_.sweep(name);
    SweepTerms terms;
    terms.name = name;
    terms.priority = sweep.spec.priority;
    terms.queue = QueueNameOf(sweep.spec.queue);
    terms.owner = sweep.owner;
    terms.topology = sweep.spec.pack > 1 ? Topology::kSameNode : ParseTopology(sweep.spec.topology);
    terms.max_concurrent = sweep.spec.max_concurrent;
    if (terms.max_concurrent > 0)
      terms.room = terms.max_concurrent - static_cast<std::int64_t>(sweep.live.size());
    terms.paused = sweep.state == SweepState::kPaused;
    if (!terms.paused) highest = std::max(highest, terms.priority);
    in_order.emplace_back(submitted_.at(name), std::move(terms));
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  input.sweeps.reserve(in_order.size());
  for (auto& [order, terms] : in_order) input.sweeps.push_back(std::move(terms));
  for (const auto& [name, slots] : live_.sweeps())
    lowest = std::min(lowest, state_.sweep(name)->spec.priority);
  if (highest > lowest) input.running = RunningGangs(input.workers);
  return input;
}

AttemptAllocated Core::Allocation(const ScheduleInput& input, const Placement& placement) {
  const SweepRecord& sweep = *state_.sweep(input.sweeps[placement.sweep].name);
  const auto trial_of = [&](int index) -> const TrialRecord& {
    return sweep.trials[static_cast<std::size_t>(index)];
  };
  const WorkerEntry& head = workers_.at(input.workers[placement.takes[0].worker].id);
  AttemptAllocated allocated;
  allocated.attempt = static_cast<int>(trial_of(placement.trial).attempts.size()) + 1;
  allocated.worker = head.id;
  allocated.runs_id = head.runs_id;
  allocated.runs_directory = head.runs_directory;
  allocated.slots = trial_of(placement.trial).slots;
  if (placement.shared) {
    allocated.gang = absl::StrCat(TrialNameOf(placement.leader), "/",
                                  trial_of(placement.leader).attempts.size() + 1);
  }
  if (placement.takes.size() > 1) {
    for (const Places::Take& take : placement.takes)
      allocated.hosts.push_back({input.workers[take.worker].id, take.slots});
    allocated.token = absl::StrFormat("%016x%016x", options_.entropy(), options_.entropy());
  }
  return allocated;
}

void Core::KeepWaits(const ScheduleInput& input, const Schedule& schedule) {
  waits_.clear();
  waiting_.clear();
  for (const BatchWait& wait : schedule.waits) {
    const SweepTerms& terms = input.sweeps[wait.sweep];
    waits_[terms.name][wait.shape] = wait.wait;
    waiting_[{terms.queue, wait.wait.reason}] += wait.trials;
  }
  for (const auto& [name, n] : not_before_.counts()) {
    const SweepRecord* sweep = state_.sweep(name);
    if (sweep != nullptr) waiting_[{QueueNameOf(sweep->spec.queue), WaitReason::kBackOff}] += n;
  }
}

void Core::RunSchedule() {
  if (!RunSearches()) return;  // what it has stopped must not start; it is tried again
  dirty_ = false;
  const absl::Duration start = clock_.SinceBoot();
  const ScheduleInput input = MakeScheduleInput();
  const Schedule schedule = Plan(input);
  KeepWaits(input, schedule);
  Transaction transaction;
  for (const Placement& placement : schedule.placements) {
    Add(transaction, input.sweeps[placement.sweep].name, TrialNameOf(placement.trial),
        Allocation(input, placement));
  }
  for (const Eviction& eviction : schedule.evictions) {
    const RunningGang& gang = input.running[eviction.gang];
    const SweepTerms& winner = input.sweeps[eviction.sweep];
    const SweepRecord& sweep = *state_.sweep(gang.sweep);
    for (const int index : gang.trials) {
      const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
      if (trial.attempts.back().stop_wanted != StopWanted::kNone) continue;
      AskToStop(transaction, sweep, trial, StopWanted::kPreempt,
                absl::StrCat("makes room for trial ", TrialNameOf(eviction.trial), " of sweep ",
                             winner.name, ", priority ", winner.priority));
    }
  }
  if (!transaction.empty()) {
    // Failing, it is tried again: nothing was allocated. What gave way at once left room.
    dirty_ = !Commit(std::move(transaction)).ok() || !schedule.evictions.empty();
  }
  FindBlocked();
  std::size_t waiting = 0;
  for (const BatchWait& wait : schedule.waits) waiting += static_cast<std::size_t>(wait.trials);
  for (CoreObserver* o : observers_)
    o->OnScheduled(clock_.SinceBoot() - start, schedule.placements.size(), waiting);
}

void Core::FindBlocked() {
  const absl::Duration now = clock_.SinceBoot();
  std::map<std::string, Blocked> before = std::exchange(blocked_, {});
  for (const auto& [name, waits] : waits_) {
    const SweepRecord* sweep = state_.sweep(name);
    if (sweep == nullptr || !sweep->live.empty() || not_before_.counts().contains(name)) continue;
    const bool none = std::all_of(waits.begin(), waits.end(), [](const auto& entry) {
      return NothingCanRun(entry.second.reason);
    });
    if (!none || sweep->pending.empty()) continue;
    const TrialRecord& first = sweep->trials[static_cast<std::size_t>(*sweep->pending.begin())];
    const std::string text = absl::StrCat(sweep->pending.size(),
                                          " trials wait, none can run: ", ReasonOf(*sweep, first));
    const auto known = before.find(name);
    blocked_[name] = known != before.end() && known->second.text == text
                         ? known->second
                         : Blocked{text, now, false};
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
