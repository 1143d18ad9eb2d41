#pragma once
// Trials that may not start before a time (SinceBoot). Plain data; not thread-safe.

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "server/core/live_index.h"

namespace sae::server {

class BackOffs {
 public:
  void Set(const TrialId& id, absl::Duration at) {
    Erase(id);
    at_[id] = at;
    due_.emplace(at, id);
    ++counts_[id.first];
  }
  void Erase(const TrialId& id) {
    const auto it = at_.find(id);
    if (it == at_.end()) return;
    due_.erase({it->second, id});
    at_.erase(it);
    if (--counts_[id.first] == 0) counts_.erase(id.first);
  }
  bool contains(const TrialId& id) const { return at_.contains(id); }
  /// How many of a sweep's trials wait; sweeps without any are not there.
  const std::map<std::string, std::int64_t>& counts() const { return counts_; }
  /// When the first is due.
  absl::Duration next() const {
    return due_.empty() ? absl::InfiniteDuration() : due_.begin()->first;
  }
  /// Those that are due; they are here no longer.
  std::vector<TrialId> TakeDue(absl::Duration now) {
    std::vector<TrialId> out;
    while (!due_.empty() && due_.begin()->first <= now) {
      out.push_back(due_.begin()->second);
      Erase(out.back());
    }
    return out;
  }

 private:
  std::map<TrialId, absl::Duration> at_;
  std::set<std::pair<absl::Duration, TrialId>> due_;
  std::map<std::string, std::int64_t> counts_;
};

}  // namespace sae::server
