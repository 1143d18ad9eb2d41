#pragma once
// What is still to be done about checkpoints: those that a worker is to link below TRIAL/kept or to
// delete, by the runs folder where they are, and sweeps whose policy is to be looked at again. Kept
// as events are applied, so that no command costs a walk over all trials. Not thread-safe.

#include <map>
#include <set>
#include <string>

#include "server/core/checkpoint_policy.h"
#include "server/core/live_index.h"
#include "server/core/state.h"

namespace sae::server {

/// It stays, and a trainer may remove it yet.
bool IsToBeSecured(const CheckpointRecord& checkpoint);
/// Of the runs folder where it is; "" = unknown.
std::string RunsIdOf(const TrialRecord& trial, const CheckpointRecord& checkpoint);

class RetentionIndex {
 public:
  /// Makes the index say what the trial's record says.
  void Sync(const SweepRecord& sweep, const TrialRecord& trial);
  /// What follows for it from an event that was applied.
  void Follow(const State& state, const LogEvent& event);
  void Rebuild(const State& state);

  /// Trials with something to do in that runs folder.
  const std::set<TrialId>& In(const std::string& runs_id) const;
  /// Checkpoints to secure or to delete.
  std::int64_t depth() const { return depth_; }

  /// Trials whose checkpoints may have another fate than before.
  const std::map<std::string, std::set<int>>& changed() const { return changed_; }
  std::map<std::string, std::set<int>> TakeChanged() { return std::exchange(changed_, {}); }
  void SetChanged(const std::string& sweep, int trial) { changed_[sweep].insert(trial); }

  /// As the function of that name.
  std::set<int> SweepBest(const SweepRecord& sweep) const;
  /// SweepBest as the fates of the sweep's checkpoints were judged last; begins empty.
  std::set<int>& judged_best(const std::string& sweep) { return judged_best_[sweep]; }

 private:
  void Remove(const TrialId& id);
  void Rank(const SweepRecord& sweep, const TrialRecord& trial);
  void Forget(const std::string& sweep);

  struct Work {
    std::set<std::string> runs;
    std::int64_t checkpoints = 0;
  };
  std::map<TrialId, Work> work_;
  std::map<std::string, std::set<TrialId>> by_runs_;
  std::map<std::string, std::set<int>> changed_;
  std::int64_t depth_ = 0;
  struct Ranking {
    std::set<RankedTrial> order;
    std::map<int, RankedTrial> places;  ///< by trial
  };
  std::map<std::string, Ranking> rankings_;  ///< of sweeps that keep their best
  std::map<std::string, std::set<int>> judged_best_;
};

}  // namespace sae::server
