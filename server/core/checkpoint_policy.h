#pragma once
// Which checkpoints of a sweep stay, and which may go. Each trial keeps its newest ones
// (keepLatest) and its best ones by the objective (keepBest); the sweep keeps one best of each of
// its best trials (keepSweepBest). Beyond that stays what a person protected, what a fork that has
// not ended began from, and always the one that a trial would go on from. Pure functions of the
// state.

#include <compare>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/core/state.h"

namespace sae::server {

/// Whether the sweep keeps others than the newest. The trainer then removes none: which may go is
/// known here alone, and it goes by DeleteCheckpoints. Else the trainer removes all but the newest.
bool CoordinatorDeletes(const config::CheckpointPolicy& policy);
/// For StartCommand.
int TrainerKeeps(const config::CheckpointPolicy& policy);

/// "SWEEP/TRIAL/CHECKPOINT" that sweeps which have not ended began from.
using ForkSources = std::set<std::string>;
ForkSources ForkSourcesOf(const State& state);

/// Its points were superseded by an attempt that went on from an earlier one.
bool IsSuperseded(const TrialRecord& trial, const CheckpointRecord& checkpoint);

/// Whether it stays for its step alone.
bool IsAmongNewest(const config::CheckpointPolicy& policy, const TrialRecord& trial,
                   const CheckpointRecord& checkpoint);

/// A trial by its best checkpoint that is not being deleted; smaller is better.
struct RankedTrial {
  bool worst = false;  ///< not finite, or infeasible, or not measured
  bool unmeasured = false;
  double loss = 0;
  int trial = 0;
  auto operator<=>(const RankedTrial&) const = default;
};
/// nullopt where it has none. A loss is never NaN.
std::optional<RankedTrial> RankOf(const config::SweepSpec& spec, const TrialRecord& trial);

/// Indices of the trials of which the sweep keeps one, by a walk over all (RetentionIndex knows
/// them without): those with the best checkpoints. Feasible finite values before all else; equal
/// ones: the lower trial.
std::set<int> SweepBest(const SweepRecord& sweep);

struct CheckpointFate {
  bool stays = false;
  bool best = false;  ///< of its trial or its sweep
  std::string why;
};
/// One for each of trial.checkpoints; those that are being deleted do not stay, and no other goes
/// in their place. `sweep_best`: SweepBest has the trial. Of equal values the later step is better.
std::vector<CheckpointFate> FatesOf(const SweepRecord& sweep, const TrialRecord& trial,
                                    bool sweep_best, const ForkSources& forks);

}  // namespace sae::server
