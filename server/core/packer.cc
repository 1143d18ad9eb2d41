#include "server/core/packer.h"

#include <algorithm>

#include "server/core/live_index.h"
#include "server/core/scheduler.h"

namespace sae::server {
namespace {

bool MayHold(const SchedulableWorker& worker, const PendingQueue::Entry& entry) {
  const std::string& runs_id = entry.batch->first.runs_id;
  return runs_id.empty() || worker.runs_id == runs_id;
}

bool Avoids(const PendingQueue::Entry& entry, const std::string& worker) {
  return entry.hints != nullptr && std::find(entry.hints->avoid.begin(), entry.hints->avoid.end(),
                                             worker) != entry.hints->avoid.end();
}

}  // namespace

std::int64_t Packer::Size(const PendingQueue::Entry& first) const {
  if (first.pack > 0) return first.pack;
  // Of its own accord: all that wait, spread over all slots that could ever hold them.
  std::int64_t places = 0;
  for (const SchedulableWorker& w : workers_) {
    if (w.cordon.empty() && MayHold(w, first))
      places += w.slots / std::max(first.batch->first.slots, 1);
  }
  const auto waiting = static_cast<std::int64_t>(first.stream->size());
  return std::min(kAutoPacked, (waiting + places - 1) / std::max<std::int64_t>(places, 1));
}

std::vector<int> Packer::Join(const PendingQueue::Sweep& sweep, int first_index, std::size_t on,
                              std::int64_t room) {
  const PendingQueue::Entry& first = sweep.entries.at(first_index);
  std::vector<int> others;
  if (first.stream == nullptr) return others;
  const SchedulableWorker& worker = workers_[on];
  const Shape& shape = first.batch->first;
  const bool known = worker.memory > 0 && shape.memory > 0;
  if (first.pack == 0 && !known) return others;
  const std::int64_t size = std::min(Size(first) - 1, room);
  const std::int64_t limit = worker.memory * shape.slots / std::max(worker.slots, 1);
  std::int64_t memory = shape.memory + kRankOverhead * shape.slots;

  auto& cursor = cursors_.try_emplace(first.stream, first.stream->begin()).first->second;
  while (cursor != first.stream->end() && taken(sweep.entries.at(*cursor))) ++cursor;
  for (auto it = cursor; it != first.stream->end(); ++it) {
    if (static_cast<std::int64_t>(others.size()) >= size) break;
    const PendingQueue::Entry& entry = sweep.entries.at(*it);
    const std::int64_t more = entry.batch->first.memory;
    if (taken(entry) || !MayHold(worker, entry) || Avoids(entry, worker.id)) continue;
    if (known && memory + more > limit) continue;
    memory += more;
    Take(entry);
    others.push_back(*it);
  }
  return others;
}

}  // namespace sae::server
