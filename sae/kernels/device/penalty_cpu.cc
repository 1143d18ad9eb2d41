// Plain ascending sums: the definition of what penalty_cuda.cu computes.
#include "sae/kernels/device/penalty.h"
#include "sae/kernels/device/plain_rows.h"

namespace sae::kernels::plain {

void TargetMoments(const device::TargetMomentsParams& p) {
  for (std::int64_t j = 0; j < p.d; ++j) {
    p.sums[j] = p.squares[j] = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      const auto v = static_cast<double>(p.target_scale * p.target[t * p.d + j]);
      p.sums[j] += v;
      p.squares[j] += v * v;
    }
  }
}

void FvuScale(const device::FvuScaleParams& p) {
  const auto tokens = static_cast<double>(p.tokens);
  double deviations = 0;
  for (std::int64_t j = 0; j < p.d; ++j)
    deviations += p.squares[j] - p.sums[j] * p.sums[j] / tokens;
  *p.rho = deviations > 0 ? 1 / deviations : 1 / tokens;
}

void BiasOnly(const device::BiasOnlyParams& p) {
  const auto tokens = static_cast<double>(p.tokens);
  for (std::int64_t j = 0; j < p.d; ++j) {
    const auto bias = static_cast<double>(p.b_dec[j]);
    p.gradient[j] += static_cast<float>(2 * (*p.rho * p.weight) * (tokens * bias - p.sums[j]));
    p.parts[j] = p.weight * (p.squares[j] - 2 * bias * p.sums[j] + tokens * bias * bias);
  }
}

void QuadraticL0(const device::QuadraticL0Params& p) {
  const double off = static_cast<double>(*p.active) / static_cast<double>(p.tokens) / p.target - 1;
  *p.coefficient = 2 * *p.lambda * off / p.target;
  if (p.penalty != nullptr) *p.penalty += *p.lambda * off * off;
}

void BelowSums(const device::BelowSumsParams& p) {
  for (std::int64_t i = 0; i < p.latents; ++i) {
    double dot = 0;
    for (std::int64_t j = 0; j < p.d; ++j)
      dot += static_cast<double>(Weight(p.w, i * p.d + j)) * static_cast<double>(p.x_sum[j]);
    const double margin = static_cast<double>(p.theta[i]) - static_cast<double>(p.c[i]);
    p.below[i] = static_cast<double>(p.tokens) * margin - static_cast<double>(p.scale) * dot;
  }
}

}  // namespace sae::kernels::plain
