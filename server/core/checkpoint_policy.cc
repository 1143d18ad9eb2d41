#include "server/core/checkpoint_policy.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace sae::server {
namespace {

/// Smaller is better. What was not measured comes after what is not finite.
auto Rank(const config::SweepSpec& spec, const CheckpointRecord& c) {
  const double loss =
      c.value ? search::LossOf(spec, c.value->value, c.value->feasible) : search::kWorst;
  return std::make_tuple(loss == search::kWorst, !c.value.has_value(), loss, -c.step);
}

/// Of those that are not being deleted, the best first.
std::vector<std::size_t> ByRank(const config::SweepSpec& spec, const TrialRecord& trial) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < trial.checkpoints.size(); ++i) {
    if (!trial.checkpoints[i].deleting) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return Rank(spec, trial.checkpoints[a]) < Rank(spec, trial.checkpoints[b]);
  });
  return order;
}

/// Of those that a next attempt may go on from, the newest first, as many as stay.
std::vector<std::size_t> Newest(const config::CheckpointPolicy& policy, const TrialRecord& trial) {
  std::vector<std::size_t> order;
  for (std::size_t i = trial.checkpoints.size(); i-- > 0;) {
    const CheckpointRecord& c = trial.checkpoints[i];
    if (!c.deleting && !IsSuperseded(trial, c)) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return trial.checkpoints[a].step > trial.checkpoints[b].step;
  });
  const auto latest = static_cast<std::size_t>(std::max<std::int64_t>(1, policy.keep_latest));
  if (order.size() > latest) order.resize(latest);
  return order;
}

/// Whether another attempt of it may begin.
bool MayGoOn(const TrialRecord& trial) {
  return !HasEnded(trial.state) || trial.state == TrialState::kFailed ||
         trial.state == TrialState::kCancelled;
}

void Stay(CheckpointFate& fate, const std::string& why) {
  fate.stays = true;
  absl::StrAppend(&fate.why, fate.why.empty() ? "" : ", ", why);
}

}  // namespace

bool CoordinatorDeletes(const config::CheckpointPolicy& policy) {
  return policy.keep_best > 0 || policy.keep_sweep_best > 0;
}

int TrainerKeeps(const config::CheckpointPolicy& policy) {
  return CoordinatorDeletes(policy) ? -1 : static_cast<int>(policy.keep_latest);
}

ForkSources ForkSourcesOf(const State& state) {
  ForkSources sources;
  for (const std::string& name : state.sweep_order()) {
    const SweepRecord& sweep = *state.sweep(name);
    if (!sweep.forked_from.empty() && !HasEnded(sweep.state)) sources.insert(sweep.forked_from);
  }
  return sources;
}

bool IsSuperseded(const TrialRecord& trial, const CheckpointRecord& checkpoint) {
  return checkpoint.step > trial.EffectiveUpTo(checkpoint.attempt);
}

bool IsAmongNewest(const config::CheckpointPolicy& policy, const TrialRecord& trial,
                   const CheckpointRecord& checkpoint) {
  const std::vector<std::size_t> newest = Newest(policy, trial);
  return std::any_of(newest.begin(), newest.end(),
                     [&](std::size_t i) { return trial.checkpoints[i].name == checkpoint.name; });
}

std::optional<RankedTrial> RankOf(const config::SweepSpec& spec, const TrialRecord& trial) {
  std::optional<RankedTrial> best;
  for (const CheckpointRecord& c : trial.checkpoints) {
    if (c.deleting) continue;
    const auto [worst, unmeasured, loss, step] = Rank(spec, c);
    const RankedTrial one{worst, unmeasured, loss, trial.index};
    if (!best || one < *best) best = one;
  }
  return best;
}

std::set<int> SweepBest(const SweepRecord& sweep) {
  const auto most = static_cast<std::size_t>(sweep.spec.checkpoints.keep_sweep_best);
  std::set<int> best;
  if (most == 0) return best;
  std::vector<RankedTrial> ranked;
  for (const TrialRecord& trial : sweep.trials) {
    if (const auto rank = RankOf(sweep.spec, trial)) ranked.push_back(*rank);
  }
  const std::size_t n = std::min(most, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(n), ranked.end());
  for (std::size_t i = 0; i < n; ++i) best.insert(ranked[i].trial);
  return best;
}

std::vector<CheckpointFate> FatesOf(const SweepRecord& sweep, const TrialRecord& trial,
                                    bool sweep_best, const ForkSources& forks) {
  const config::CheckpointPolicy& policy = sweep.spec.checkpoints;
  std::vector<CheckpointFate> fates(trial.checkpoints.size());
  const std::vector<std::size_t> newest = Newest(policy, trial);
  for (std::size_t i = 0; i < newest.size(); ++i) {
    Stay(fates[newest[i]],
         i == 0 && MayGoOn(trial) ? "its trial goes on from it" : "among the newest of its trial");
  }
  const std::vector<std::size_t> ranked = ByRank(sweep.spec, trial);
  const auto best = static_cast<std::size_t>(policy.keep_best);
  for (std::size_t i = 0; i < std::min(best, ranked.size()); ++i) {
    fates[ranked[i]].best = true;
    Stay(fates[ranked[i]], "among the best of its trial");
  }
  if (sweep_best && !ranked.empty()) {
    fates[ranked[0]].best = true;
    Stay(fates[ranked[0]], "among the best of its sweep");
  }
  const std::string prefix = absl::StrCat(sweep.name, "/", TrialNameOf(trial.index), "/");
  for (std::size_t i = 0; i < fates.size(); ++i) {
    const CheckpointRecord& c = trial.checkpoints[i];
    if (c.deleting) {
      fates[i].why = "being deleted";
      continue;
    }
    if (c.is_protected) Stay(fates[i], "protected");
    if (forks.contains(prefix + c.name)) Stay(fates[i], "a fork begins from it");
    if (!fates[i].stays) fates[i].why = "neither among the newest nor the best";
  }
  return fates;
}

}  // namespace sae::server
