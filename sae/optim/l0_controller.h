#pragma once
// Holds the mean L0 at a target by the sparsity coefficient: log lambda follows log(L0 / target) and
// its change, so that a run of a few hundred steps settles where one of 1e5 does. SynthSAEBench's
// autotuner (spec algorithms.md 13.2) integrates alone and stands still while L0 moves the right
// way, which is too slow for short runs; slew, horizons and limits are those of numerics.md
// 6. A value with state; not thread-safe.

#include <cstdint>

#include "sae/model/state.h"

namespace sae::optim {

class L0Controller {
 public:
  /// Acts from `start_step` on, on a run of `total_steps`. `fast`: L0 follows lambda within few
  /// steps (a penalty on L0 itself), not by the slow shrinking of codes (L1).
  L0Controller(double target, std::int64_t total_steps, std::int64_t start_step, bool fast);

  double lambda() const;
  /// 0 = not calibrated yet.
  bool calibrated() const { return calibrated_ != 0; }
  void Calibrate(double lambda);
  /// After step `step` (from 0) whose batch had this mean L0.
  void Observe(std::int64_t step, double l0);
  /// Running mean of log(L0 / target).
  double level() const { return mean_; }
  void AddState(model::State* state);

 private:
  double target_;
  double integral_steps_;
  double slew_;
  double mean_beta_, rate_beta_;
  std::int64_t start_step_;
  std::int64_t calibrated_ = 0;
  std::int64_t seen_ = 0;
  double log_start_ = 0;
  double log_lambda_ = 0;
  double mean_ = 0;
  double rate_ = 0;
};

}  // namespace sae::optim
