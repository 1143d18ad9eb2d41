#pragma once
// Schedules of a run, functions of the step alone (the first step is 0): nothing to save but the
// step. Values; thread-safe. Source: spec algorithms.md 0.5, defaults of numerics.md 6 as resolved
// in the config.

#include <cstdint>

#include "sae/config/run_config.h"

namespace sae::optim {

struct Schedule {
  std::int64_t total_steps = 1;
  std::int64_t warmup_steps = 0;
  double decay_fraction = 0;  ///< linear decay to 0 over this last share of the steps
  std::int64_t sparsity_warmup_steps = 0;
  double lr = 0;
  bool cosine = false;  ///< warm-up along a cosine from 0.1 to 1 (Gemma Scope) instead of a line

  /// lr * warm-up * clamp((T - t) / (phi T), 0, 1); warm-up: min(1, (t + 1) / W), or
  /// 0.1 + 0.9 (1 - cos(pi t / W)) / 2 below W.
  double LearningRate(std::int64_t t) const;
  /// min(1, t / W_s): the share of the sparsity coefficient in force.
  double SparsityShare(std::int64_t t) const;
};

/// Of a resolved config.
Schedule ScheduleOf(const config::TrialConfig& config);

}  // namespace sae::optim
