#include "server/core/pending_queue.h"

namespace sae::server {

std::int64_t PlannedMemory(std::int64_t bytes) {
  if (bytes <= 0) return 0;
  std::int64_t unit = 1;
  while (bytes / unit >= 16) unit *= 2;
  return (bytes + unit - 1) / unit * unit;
}

void PendingQueue::Add(const SchedulableTrial& trial) {
  Remove(trial.sweep, trial.index);
  Sweep& sweep = sweeps_[trial.sweep];
  const Shape shape{trial.order, trial.slots, PlannedMemory(trial.memory), trial.runs_id};
  Entry& entry = sweep.entries[trial.index];
  entry.batch = sweep.batches.try_emplace(shape).first;
  entry.batch->second.trials.insert(trial.index);
  entry.batch->second.runs_directory = trial.runs_directory;
  entry.pack = trial.pack;
  if (trial.pack != 1 && !trial.stream.empty()) {
    entry.stream = &sweep.streams[trial.stream];
    entry.stream->insert(trial.index);
  }
  if (!trial.avoid.empty() || !trial.prefer.empty())
    entry.hints = std::make_unique<Hints>(Hints{trial.avoid, trial.prefer});
}

void PendingQueue::Remove(const std::string& name, int index) {
  const auto at = sweeps_.find(name);
  if (at == sweeps_.end()) return;
  Sweep& sweep = at->second;
  const auto it = sweep.entries.find(index);
  if (it == sweep.entries.end()) return;
  if (it->second.stream != nullptr) it->second.stream->erase(index);  // an empty one stays: few
  it->second.batch->second.trials.erase(index);
  if (it->second.batch->second.trials.empty()) sweep.batches.erase(it->second.batch);
  sweep.entries.erase(it);
  if (sweep.entries.empty()) sweeps_.erase(at);
}

const Shape* PendingQueue::ShapeOf(const std::string& sweep, int index) const {
  const auto at = sweeps_.find(sweep);
  if (at == sweeps_.end()) return nullptr;
  const auto it = at->second.entries.find(index);
  return it == at->second.entries.end() ? nullptr : &it->second.batch->first;
}

}  // namespace sae::server
