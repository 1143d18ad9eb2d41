// Gangs over several workers. Two phases: every host reserves its slots and says so; then the log
// holds that all have (AttemptPrepared) and the head alone is told to start. A refusal, a lost host
// or the deadline ends the attempt, and its number is never used again. Once it is over, each host
// is told to let go until it shows nothing of it; until then its slots count as taken.
#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "server/core/core.h"

namespace sae::server {

bool Core::NeverStarted(const AttemptKey& key, const AttemptRecord& attempt) const {
  return unsent_.contains(key) || (!attempt.hosts.empty() && !attempt.prepared);
}

bool Core::HeadMayRun(const SweepRecord& sweep, const TrialRecord& trial) const {
  if (trial.attempts.empty()) return false;
  const AttemptRecord& last = trial.attempts.back();
  if (last.hosts.empty() || !last.prepared || last.outcome != "lost") return false;
  const auto head = workers_.find(last.worker);
  if (head == workers_.end()) return false;
  if (!head->second.ready) return head->second.lease_open;
  return head->second.draining.contains({sweep.name, TrialNameOf(trial.index), last.number});
}

void Core::LookForHeads() {
  for (const TrialId& id : std::exchange(until_head_ends_, {})) {
    const SweepRecord* sweep = state_.sweep(id.first);
    if (sweep == nullptr) continue;
    SyncTrial(*sweep, sweep->trials[static_cast<std::size_t>(id.second)]);
    dirty_ = dirty_ || !until_head_ends_.contains(id);
  }
}

void Core::TellHosts(const AttemptRecord& attempt) const {
  for (CoreObserver* o : observers_) {
    if (attempt.hosts.empty()) o->OnCommands(attempt.worker);
    for (const HostShare& host : attempt.hosts) o->OnCommands(host.worker);
  }
}

absl::Status Core::HostPrepared(const SweepRecord& sweep, const TrialRecord& trial,
                                const std::string& worker) {
  const AttemptRecord& attempt = trial.attempts.back();
  const AttemptKey key{sweep.name, TrialNameOf(trial.index), attempt.number};
  const auto it = preparing_.find(key);
  if (it == preparing_.end()) return absl::OkStatus();  // all had said so before
  it->second.prepared.insert(worker);
  for (const HostShare& host : attempt.hosts) {
    if (options_.planted.Is(PlantedBug::kHalfPrepared)) break;
    if (!it->second.prepared.contains(host.worker)) return absl::OkStatus();
  }
  Transaction transaction;
  Add(transaction, key.sweep, key.trial, AttemptPrepared{key.attempt});
  return Commit(std::move(transaction));
}

void Core::ExpirePreparations() {
  const absl::Duration now = clock_.SinceBoot();
  Transaction transaction;
  for (auto& [key, preparing] : preparing_) {
    if (preparing.until > now) continue;
    const SweepRecord& sweep = *state_.sweep(key.sweep);
    const TrialRecord& trial = *sweep.trial(key.trial);
    Ending ending;
    ending.how = Ending::How::kRefused;
    ending.failure_class = FailureClass::kRendezvousTimeout;
    for (const HostShare& host : trial.attempts.back().hosts) {
      if (!preparing.prepared.contains(host.worker)) ending.suspects.push_back(host.worker);
    }
    ending.reason = absl::StrCat(
        ending.suspects.size() == 1 ? "worker " : "workers ", absl::StrJoin(ending.suspects, ", "),
        " did not reserve slots within ", absl::FormatDuration(options_.prepare_timeout));
    EndAttempt(transaction, sweep, trial, ending);
    preparing.until = now + options_.prepare_timeout;  // should it not be stored now
  }
  if (transaction.empty()) return;
  EndSweeps(transaction);
  Commit(std::move(transaction)).IgnoreError();  // logged, and tried again
}

void Core::HoldHosts(const AttemptKey& key, const AttemptRecord& attempt) {
  for (const HostShare& host : attempt.hosts) {
    const auto it = workers_.find(host.worker);
    if (it == workers_.end() || !it->second.ready) continue;  // gone, or it will register first
    WorkerEntry& worker = it->second;
    const bool stop = attempt.prepared && host.worker == attempt.worker;
    worker.draining[key] = {host.slots, GangOf(key.sweep, key.trial, attempt), true, stop};
  }
}

bool Core::AddHosts(const AttemptRecord& attempt, StartCommand& start) const {
  for (const HostShare& host : attempt.hosts) {
    const auto it = workers_.find(host.worker);
    if (it == workers_.end() || !it->second.ready) return false;
    start.hosts.push_back({host.worker, host.slots, it->second.mpi_host, it->second.peer_address});
  }
  start.token = attempt.token;
  return true;
}

std::int64_t Core::OutboxDepth() const {
  std::int64_t depth = retention_.depth();
  for (const auto& [key, gang] : live_.gangs()) {
    const SweepRecord& sweep = *state_.sweep(gang.sweep);
    bool starts = false;
    for (const int index : gang.trials) {
      const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
      const AttemptRecord& attempt = trial.attempts.back();
      const auto preparing = preparing_.find({gang.sweep, TrialNameOf(index), attempt.number});
      if (preparing != preparing_.end())
        depth += static_cast<std::int64_t>(gang.hosts.size() - preparing->second.prepared.size());
      starts = starts || (trial.state == TrialState::kAllocated && preparing == preparing_.end());
      depth += StopFor(sweep, trial).has_value() ? 1 : 0;
    }
    depth += starts ? 1 : 0;
  }
  for (const auto& [id, worker] : workers_) {
    for (const auto& [key, held] : worker.draining) depth += held.release ? 1 : 0;
  }
  return depth;
}

void Core::GangCommands(const std::string& worker, const SweepRecord& sweep,
                        const TrialRecord& trial, std::vector<Command>& commands) const {
  const AttemptRecord& attempt = trial.attempts.back();
  const AttemptKey key{sweep.name, TrialNameOf(trial.index), attempt.number};
  const auto it = preparing_.find(key);
  if (trial.state != TrialState::kAllocated || it == preparing_.end() ||
      it->second.prepared.contains(worker)) {
    return;
  }
  commands.emplace_back(PrepareCommand{key, ShareOf(attempt, worker), attempt.token,
                                       sweep.spec.store, sweep.spec.store_hash});
}

}  // namespace sae::server
