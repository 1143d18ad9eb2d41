#pragma once
// The formulas of certified.h in float64, for kernels and their partners alike. C++17.

#include <cmath>
#include <cstdint>

#include "sae/kernels/bf16.h"

namespace sae::kernels::device {

/// Covers what float64 sums and float32 bounds round away.
inline constexpr double kUp = 1 + 0x1p-20;

/// Above v: kUp outweighs the rounding of a normal number, the last term that of a subnormal one.
SAELOOM_HOST_DEVICE inline float Up(double v) {
  const double bound = v * kUp + 0x1p-140;
  return bound < 0x1p126 ? static_cast<float>(bound) : HUGE_VALF;
}

SAELOOM_HOST_DEVICE inline double Gamma(std::int64_t m) {
  const double mu = static_cast<double>(m) * 0x1p-23;
  return mu < 0.5 ? mu / (1 - mu) : HUGE_VAL;
}

/// Squared norms to a latent's three bounds. Sizes are limited so that no product overflows.
SAELOOM_HOST_DEVICE inline void LatentBound(double exact, double residual, double c, float* norm,
                                            float* rest, float* margin) {
  const double w = std::sqrt(exact) * kUp;
  const double r = std::sqrt(residual) * kUp;
  const double bias = std::fabs(c);
  const bool fits = w + r < 0x1p49 && (bias < 0x1p99 || bias == HUGE_VAL);
  *norm = fits ? Up(w) : 0.0F;
  *rest = fits ? Up(r) : 0.0F;
  *margin = fits && bias < HUGE_VAL ? Up(bias * 0x1p-22 + 0x1p-140) : HUGE_VALF;
}

/// Squared norms to a token's three coefficients.
SAELOOM_HOST_DEVICE inline void TokenBound(double exact, double residual, std::int64_t d,
                                           float scale, float* of_residual, float* of_norm,
                                           float* extra) {
  const double s = std::fabs(static_cast<double>(scale));
  const double gamma = Gamma(d);
  const double gamma_r = Gamma((d + 15) / 16 + 4);  // ReferenceDepth
  const double flush = static_cast<double>(d) * 0x1p-126;
  const double r = std::sqrt(residual) * kUp;
  const double x = std::sqrt(exact) * kUp + r;
  const bool fits = (x + 1) * (s + 1) < 0x1p50 && gamma < HUGE_VAL;
  // 2^-22: both roundings of scale * dot + c.
  *of_residual = fits ? Up(s * (x * (1 + gamma + 0x1p-22) + flush)) : 0.0F;
  *of_norm = fits ? Up(s * (r + (gamma + gamma_r + 0x1p-22) * x + flush)) : HUGE_VALF;
  *extra = fits ? Up(s * flush * (x + 4)) : 0.0F;
}

}  // namespace sae::kernels::device
