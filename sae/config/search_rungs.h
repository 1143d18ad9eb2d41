#pragma once
// Where a search looks at its trials: rungs of `search: asha` and `hyperband`, in tokens seen by a
// trial, and what that asks of a trial's configuration. Pure functions of the spec.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/config/sweep_spec.h"

namespace sae::config {

/// Whether trials may be ended or paused by what others have reached: asha, hyperband, median_stop.
bool IsSearching(const SweepSpec& spec);

/// Rising; the last one is max_time (default: train.tokens of all trials). Rung i of n lies at
/// max_time / eta^(n - 1 - i); n is max_rungs, or fewer so that the first rung is not below
/// min_time (or one token), and one more than log_eta(max_trials) at most. Empty without rungs.
std::vector<double> RungTokens(const SweepSpec& spec);
/// Brackets, from 1: bracket b has the last (rungs - b) rungs. 0 without rungs.
int BracketCount(const SweepSpec& spec);

/// Which points of a trial's events carry the objective: its evaluations, or its training metrics.
bool IsEvaluationMetric(const std::string& metric);

/// Sets what the search needs where the user left it `auto`: an evaluation at least at every
/// rung's distance from the start.
void FillForSearch(const SweepSpec& spec, TrialConfig& config);

}  // namespace sae::config
