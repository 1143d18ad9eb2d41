#pragma once
// Which trials join one that was placed, in its gang. Part of the scheduler.

#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "server/core/placement.h"

namespace sae::server {

class Packer {
 public:
  explicit Packer(const std::vector<SchedulableWorker>& workers) : workers_(workers) {}

  bool taken(const PendingQueue::Entry& entry) const { return taken_.contains(&entry); }
  void Take(const PendingQueue::Entry& entry) {
    if (taken_.insert(&entry).second) ++counts_[&entry.batch->second];
  }
  /// How many of the batch are taken.
  std::int64_t TakenOf(const PendingQueue::Batch& batch) const {
    const auto it = counts_.find(&batch);
    return it == counts_.end() ? 0 : it->second;
  }
  /// Who joins `first` on `worker`, at most `room`; they are taken. Not `first` itself.
  std::vector<int> Join(const PendingQueue::Sweep& sweep, int first, std::size_t worker,
                        std::int64_t room);

 private:
  std::int64_t Size(const PendingQueue::Entry& first) const;

  const std::vector<SchedulableWorker> workers_;  ///< as the cycle found them
  std::unordered_set<const PendingQueue::Entry*> taken_;
  std::unordered_map<const PendingQueue::Batch*, std::int64_t> counts_;
  std::unordered_map<const std::set<int>*, std::set<int>::const_iterator> cursors_;
};

}  // namespace sae::server
