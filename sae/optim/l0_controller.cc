#include "sae/optim/l0_controller.h"

#include <algorithm>
#include <cmath>

namespace sae::optim {
namespace {
constexpr double kRange = 1e4;  // lambda stays within this factor of where it started
constexpr double kSmallestL0 = 1e-3;
// Of a change of log L0, and of log L0 / target held over this share of the run.
constexpr double kProportional = 1;
constexpr double kIntegralShare = 0.15, kFastIntegralShare = 0.04;

// Coefficient of a running mean over min(steps, T / 50) steps.
double Beta(double steps, double total) { return 1 - 1 / std::max(1.0, std::min(steps, total / 50)); }
}  // namespace

L0Controller::L0Controller(double target, std::int64_t total_steps, std::int64_t start_step,
                           bool fast)
    : target_(target),
      integral_steps_((fast ? kFastIntegralShare : kIntegralShare) *
                      static_cast<double>(total_steps)),
      slew_(std::max(3e-4, 16 / static_cast<double>(total_steps))),
      mean_beta_(Beta(100, static_cast<double>(total_steps))),
      rate_beta_(Beta(20, static_cast<double>(total_steps))),
      start_step_(start_step) {}

double L0Controller::lambda() const { return std::exp(log_lambda_); }

void L0Controller::Calibrate(double lambda) {
  log_start_ = log_lambda_ = std::log(lambda);
  calibrated_ = 1;
}

void L0Controller::Observe(std::int64_t step, double l0) {
  const double level = std::log(std::max(l0, kSmallestL0) / target_);
  const double before = mean_;
  mean_ = seen_ == 0 ? level : mean_beta_ * mean_ + (1 - mean_beta_) * level;
  if (seen_ > 0) rate_ = rate_beta_ * rate_ + (1 - rate_beta_) * (mean_ - before);
  ++seen_;
  if (step < start_step_) return;
  const double move =
      std::clamp(kProportional * (rate_ + mean_ / integral_steps_), -slew_, slew_);
  log_lambda_ = std::clamp(log_lambda_ + move, log_start_ - std::log(kRange),
                           log_start_ + std::log(kRange));
}

void L0Controller::AddState(model::State* state) {
  state->scalars.push_back({"l0_calibrated", &calibrated_});
  state->scalars.push_back({"l0_seen", &seen_});
  state->scalars.push_back({"l0_log_start", &log_start_});
  state->scalars.push_back({"l0_log_lambda", &log_lambda_});
  state->scalars.push_back({"l0_level", &mean_});
  state->scalars.push_back({"l0_rate", &rate_});
}

}  // namespace sae::optim
