#include "server/core/retention_index.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"

namespace sae::server {
namespace {

/// One that was linked, and stays only as long as it is among the newest.
bool HasLoose(const TrialRecord& trial) {
  return std::any_of(trial.checkpoints.begin(), trial.checkpoints.end(),
                     [](const CheckpointRecord& c) { return c.secured && !c.is_protected; });
}

}  // namespace

bool IsToBeSecured(const CheckpointRecord& c) {
  return (c.is_protected || c.kept) && !c.secured && !c.deleting;
}

std::string RunsIdOf(const TrialRecord& trial, const CheckpointRecord& checkpoint) {
  const AttemptRecord* attempt = trial.attempt(checkpoint.attempt);
  return attempt == nullptr ? "" : attempt->runs_id;
}

void RetentionIndex::Remove(const TrialId& id) {
  const auto it = work_.find(id);
  if (it == work_.end()) return;
  depth_ -= it->second.checkpoints;
  for (const std::string& runs_id : it->second.runs) {
    const auto in = by_runs_.find(runs_id);
    in->second.erase(id);
    if (in->second.empty()) by_runs_.erase(in);
  }
  work_.erase(it);
}

void RetentionIndex::Rank(const SweepRecord& sweep, const TrialRecord& trial) {
  if (sweep.spec.checkpoints.keep_sweep_best <= 0) return;
  Ranking& ranking = rankings_[sweep.name];
  if (const auto old = ranking.places.find(trial.index); old != ranking.places.end()) {
    ranking.order.erase(old->second);
    ranking.places.erase(old);
  }
  const auto rank = RankOf(sweep.spec, trial);
  if (!rank) return;
  ranking.order.insert(*rank);
  ranking.places.emplace(trial.index, *rank);
}

std::set<int> RetentionIndex::SweepBest(const SweepRecord& sweep) const {
  std::set<int> best;
  const auto it = rankings_.find(sweep.name);
  if (it == rankings_.end()) return best;
  for (const RankedTrial& ranked : it->second.order) {
    if (static_cast<std::int64_t>(best.size()) == sweep.spec.checkpoints.keep_sweep_best) break;
    best.insert(ranked.trial);
  }
  return best;
}

void RetentionIndex::Forget(const std::string& sweep) {
  std::vector<TrialId> gone;
  for (auto it = work_.lower_bound({sweep, 0}); it != work_.end() && it->first.first == sweep; ++it)
    gone.push_back(it->first);
  for (const TrialId& id : gone) Remove(id);
  changed_.erase(sweep);
  rankings_.erase(sweep);
  judged_best_.erase(sweep);
}

void RetentionIndex::Sync(const SweepRecord& sweep, const TrialRecord& trial) {
  Rank(sweep, trial);
  const TrialId id{sweep.name, trial.index};
  Remove(id);
  Work work;
  for (const CheckpointRecord& c : trial.checkpoints) {
    if (!c.deleting && !IsToBeSecured(c)) continue;
    ++work.checkpoints;
    work.runs.insert(RunsIdOf(trial, c));
  }
  if (work.checkpoints == 0) return;
  depth_ += work.checkpoints;
  for (const std::string& runs_id : work.runs) by_runs_[runs_id].insert(id);
  work_.emplace(id, std::move(work));
}

void RetentionIndex::Follow(const State& state, const LogEvent& event) {
  const Body& body = event.body;
  const SweepRecord* sweep = state.sweep(event.sweep);
  if (std::holds_alternative<SweepDeleted>(body)) Forget(event.sweep);
  const bool ended =
      std::holds_alternative<SweepDeleted>(body) || std::holds_alternative<SweepChanged>(body);
  if (ended && sweep != nullptr && !sweep->forked_from.empty()) {
    const std::vector<std::string> source = absl::StrSplit(sweep->forked_from, '/');
    const SweepRecord* from = state.sweep(source[0]);
    const TrialRecord* trial =
        from == nullptr || source.size() != 3 ? nullptr : from->trial(source[1]);
    if (trial != nullptr) changed_[from->name].insert(trial->index);
  }
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(event.trial);
  if (trial == nullptr) return;
  const bool saved = std::holds_alternative<CheckpointSaved>(body);
  bool marked = std::holds_alternative<CheckpointMarked>(body);
  const bool running = std::holds_alternative<AttemptRunning>(body);
  if (!saved && !marked && !running && !std::holds_alternative<CheckpointsDeleted>(body)) return;
  Sync(*sweep, *trial);
  marked = marked || HasLoose(*trial);
  if (CoordinatorDeletes(sweep->spec.checkpoints) || marked)
    changed_[sweep->name].insert(trial->index);
}

void RetentionIndex::Rebuild(const State& state) {
  *this = RetentionIndex();
  for (const std::string& name : state.sweep_order()) {
    const SweepRecord& sweep = *state.sweep(name);
    const bool all = CoordinatorDeletes(sweep.spec.checkpoints);
    for (const TrialRecord& trial : sweep.trials) {
      if (trial.checkpoints.empty()) continue;
      Sync(sweep, trial);
      if (all || HasLoose(trial)) changed_[name].insert(trial.index);
    }
  }
}

const std::set<TrialId>& RetentionIndex::In(const std::string& runs_id) const {
  static const std::set<TrialId> none;
  const auto it = by_runs_.find(runs_id);
  return it == by_runs_.end() ? none : it->second;
}

}  // namespace sae::server
