#include "server/core/live_index.h"

namespace sae::server {

std::int64_t MemoryOn(const LiveIndex::Gang& gang, int slots) {
  if (gang.memory == 0 || gang.slots == 0) return 0;
  return gang.memory * slots / gang.slots + kRankOverhead * slots;
}

void LiveIndex::Count(const std::string& key, const Gang& gang, int sign) {
  for (const HostShare& share : gang.hosts) {
    Host& host = hosts_[share.worker];
    host.slots += sign * share.slots;
    host.memory += sign * MemoryOn(gang, share.slots);
    if (gang.ending()) host.ending_slots += sign * share.slots;
    sign > 0 ? static_cast<void>(host.gangs.insert(key)) : static_cast<void>(host.gangs.erase(key));
    if (host.gangs.empty()) hosts_.erase(share.worker);
  }
  const auto sweep = sweeps_.emplace(gang.sweep, 0).first;
  sweep->second += sign * gang.slots;
  if (sweep->second == 0) sweeps_.erase(sweep);
}

void LiveIndex::Sync(const SweepRecord& sweep, const TrialRecord& trial) {
  const TrialId id{sweep.name, trial.index};
  const AttemptRecord* attempt = trial.live_attempt();
  if (attempt == nullptr) return Remove(id);
  const std::string key = GangOf(sweep.name, TrialNameOf(trial.index), *attempt);
  if (const auto it = keys_.find(id); it != keys_.end() && it->second != key) Remove(id);
  const auto [at, added] = gangs_.try_emplace(key);
  Gang& gang = at->second;
  if (!added) Count(key, gang, -1);
  if (added) {
    gang.sweep = sweep.name;
    gang.hosts = attempt->hosts;
    if (gang.hosts.empty()) gang.hosts = {{attempt->worker, attempt->slots}};
    gang.slots = attempt->slots;
    gang.start = attempt->start;
  }
  if (gang.trials.insert(trial.index).second) {
    gang.memory += trial.memory;
    memories_[id] = trial.memory;
    keys_[id] = key;
  }
  if (trial.state == TrialState::kCheckpointing || sweep.cancel_requested)
    gang.stopping.insert(trial.index);
  Count(key, gang, +1);
}

void LiveIndex::Remove(const TrialId& id) {
  const auto it = keys_.find(id);
  if (it == keys_.end()) return;
  const std::string key = it->second;
  Gang& gang = gangs_.at(key);
  Count(key, gang, -1);
  gang.trials.erase(id.second);
  gang.stopping.erase(id.second);
  gang.memory -= memories_.at(id);
  memories_.erase(id);
  keys_.erase(it);
  if (gang.trials.empty()) {
    gangs_.erase(key);
  } else {
    Count(key, gang, +1);
  }
}

const LiveIndex::Host& LiveIndex::host(const std::string& worker) const {
  static const Host none;
  const auto it = hosts_.find(worker);
  return it == hosts_.end() ? none : it->second;
}

std::vector<TrialId> LiveIndex::On(const std::string& worker) const {
  std::vector<TrialId> out;
  for (const std::string& key : host(worker).gangs) {
    const Gang& gang = gangs_.at(key);
    for (const int trial : gang.trials) out.emplace_back(gang.sweep, trial);
  }
  return out;
}

}  // namespace sae::server
