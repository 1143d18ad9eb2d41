#pragma once
// Scalars of a step that do not depend on where it is computed: the CPU engine and the device engine
// take them from here. Pure but for FoldThreshold.

#include <algorithm>
#include <optional>

#include "sae/optim/l0_controller.h"
#include "sae/optim/schedule.h"
#include "sae/train/engine/context.h"

namespace sae::train {

/// The sparsity coefficient of step `step`; 0 for architectures that choose by rank.
inline double LambdaAt(const Context& context, const std::optional<optim::L0Controller>& controller,
                       const optim::Schedule& schedule, std::int64_t step) {
  if (context.options.ranked()) return 0;
  const config::SaeConfig& sae = context.config.sae;
  const bool jump = context.options.architecture == model::Architecture::kJumpRelu;
  const double given = jump ? sae.l0_coefficient : sae.l1_coefficient;
  return (controller ? controller->lambda() : given) * schedule.SparsityShare(step);
}

/// AuxK's alpha V0, V0 = R(x - mean x) on the initial sample.
inline double AlphaVariance(const Context& context, double sample_variance) {
  const model::LossReduction loss = context.options.loss;
  double variance = sample_variance;
  if (loss == model::LossReduction::kMean) variance /= static_cast<double>(context.d_out);
  if (loss == model::LossReduction::kOpenAi || loss == model::LossReduction::kFvu) variance = 1;
  return context.config.sae.aux_alpha * variance;
}

/// Of log theta as resolved; of theta itself in units of the window, whose width follows the data's.
inline double ThresholdRate(const config::SaeConfig& sae, double bandwidth) {
  constexpr double kBandwidths = 0.3;
  return sae.threshold_lr.value_or(kBandwidths * bandwidth);
}

/// BatchTopK's running mean of the smallest kept value, and its weight.
inline void FoldThreshold(const config::TrialConfig& config, double smallest, double* mean,
                          double* weight) {
  const double steps = static_cast<double>(config::TotalSteps(config));
  const double beta = 1 - 1 / std::max(1.0, std::min(1000.0, 0.1 * steps));
  *mean = beta * *mean + (1 - beta) * smallest;
  *weight = beta * *weight + (1 - beta);
}

}  // namespace sae::train
