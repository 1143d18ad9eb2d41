#pragma once
// Which live attempts hold which slots, kept as events are applied so that no question costs a walk
// over all trials: gangs by worker, slots in use by sweep. Derived from State; not thread-safe.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/core/state.h"

namespace sae::server {

/// Sweep and index of a trial.
using TrialId = std::pair<std::string, int>;

/// Bytes that a gang plans for beyond its trials': programs and libraries of each rank.
inline constexpr std::int64_t kRankOverhead = std::int64_t{160} << 20;

class LiveIndex {
 public:
  /// Attempts that share their slots.
  struct Gang {
    std::string sweep;
    std::set<int> trials;
    std::set<int> stopping;        ///< of them, those that were told to end
    std::vector<HostShare> hosts;  ///< at least one
    int slots = 0;
    std::int64_t memory = 0;  ///< planned, of its trials together; 0 = unknown
    absl::Time start;
    bool ending() const { return stopping.size() == trials.size(); }
  };
  struct Host {
    std::set<std::string> gangs;  ///< keys
    int slots = 0;
    int ending_slots = 0;     ///< of `slots`: of gangs that were told to end
    std::int64_t memory = 0;  ///< planned
  };

  /// Makes the index say what the trial's record says.
  void Sync(const SweepRecord& sweep, const TrialRecord& trial);
  void Remove(const TrialId& id);
  void Clear() { *this = LiveIndex(); }

  /// An empty one when nothing of it is live.
  const Host& host(const std::string& worker) const;
  const std::map<std::string, Gang>& gangs() const { return gangs_; }
  /// Slots in use by a sweep; sweeps that use none are not there.
  const std::map<std::string, std::int64_t>& sweeps() const { return sweeps_; }
  /// Live attempts that `worker` runs, or holds slots for.
  std::vector<TrialId> On(const std::string& worker) const;

 private:
  void Count(const std::string& key, const Gang& gang, int sign);

  std::map<std::string, Gang> gangs_;  ///< by GangOf
  std::map<std::string, Host> hosts_;
  std::map<std::string, std::int64_t> sweeps_;
  std::map<TrialId, std::string> keys_;
  std::map<TrialId, std::int64_t> memories_;
};

/// A gang's planned bytes on a host that has `slots` of its slots.
std::int64_t MemoryOn(const LiveIndex::Gang& gang, int slots);

}  // namespace sae::server
