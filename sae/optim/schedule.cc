#include "sae/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sae::optim {

double Schedule::LearningRate(std::int64_t t) const {
  double rate = lr;
  const double warmup = static_cast<double>(warmup_steps);
  if (cosine && t < warmup_steps) {
    rate *= 0.1 + 0.45 * (1 - std::cos(std::numbers::pi * static_cast<double>(t) / warmup));
  } else if (warmup_steps > 0) {
    rate *= std::min(1.0, static_cast<double>(t + 1) / warmup);
  }
  const double decay_steps = decay_fraction * static_cast<double>(total_steps);
  if (decay_steps > 0)
    rate *= std::clamp(static_cast<double>(total_steps - t) / decay_steps, 0.0, 1.0);
  return rate;
}

double Schedule::SparsityShare(std::int64_t t) const {
  if (sparsity_warmup_steps <= 0) return 1;
  return std::min(1.0, static_cast<double>(t) / static_cast<double>(sparsity_warmup_steps));
}

Schedule ScheduleOf(const config::TrialConfig& c) {
  return {config::TotalSteps(c), c.train.lr_warmup_steps.value_or(0), c.train.lr_decay_fraction,
          c.train.sparsity_warmup_steps.value_or(0), c.train.lr.value_or(0), c.train.lr_warmup == "cosine"};
}

}  // namespace sae::optim
