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

  /// lr * min(1, (t + 1) / W) * clamp((T - t) / (phi T), 0, 1).
  double LearningRate(std::int64_t t) const;
  /// min(1, t / W_s): the share of the sparsity coefficient in force.
  double SparsityShare(std::int64_t t) const;
};

/// Of a resolved config.
Schedule ScheduleOf(const config::TrialConfig& config);

}  // namespace sae::optim
