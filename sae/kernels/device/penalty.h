#pragma once
// What losses and penalties add to a step beside the rules of latents.h: moments of the targets
// (the loss over the batch's variance, Matryoshka's prefix without latents), the coefficient of the
// quadratic L0 penalty, and the sums behind the pre-activation loss. All pointers are device
// memory; kernels are enqueued on `stream`. Float64 throughout, in fixed orders, so bits do not
// depend on the device. NaN propagates. Errors: kInvalidArgument where a size is not positive or a
// needed pointer is null. Partners: namespace plain, the same params with host memory, plain
// ascending sums (penalty_cpu.cc). Sources: sae algorithms 0.2, 3b.2, 4.3, 4.4.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// sums[j], squares[j] = sums over tokens of v and v^2, v = target_scale target in float32. Order:
/// row t in sum t mod 32, ascending; then the 32 sums, ascending.
struct TargetMomentsParams {
  const float* target = nullptr;  ///< tokens x d, raw
  float target_scale = 1;
  double* sums = nullptr;     ///< d
  double* squares = nullptr;  ///< d
  std::int64_t tokens = 0, d = 0;
};

/// *rho = 1 / V, V = sum over j of squares[j] - sums[j]^2 / tokens, the squared deviations from the
/// batch's mean; 1 / tokens where V is not above 0.
struct FvuScaleParams {
  const double* sums = nullptr;     ///< d
  const double* squares = nullptr;  ///< d
  std::int64_t tokens = 0, d = 0;
  double* rho = nullptr;  ///< device scalar
};

/// The loss rho weight sum of (b_dec - v)^2: gradient[j] += 2 rho weight (tokens b_j - sums[j]),
/// rounded, then added in float32; parts[j] = weight sum over tokens of (b_j - v)^2.
struct BiasOnlyParams {
  const double* sums = nullptr;     ///< d
  const double* squares = nullptr;  ///< d
  const float* b_dec = nullptr;     ///< d
  double weight = 0;
  const double* rho = nullptr;  ///< device scalar
  std::int64_t tokens = 0, d = 0;
  float* gradient = nullptr;  ///< d
  double* parts = nullptr;    ///< d
};

/// The penalty lambda off^2, off = *active / tokens / target - 1: *coefficient = 2 lambda off /
/// target, what one more active latent a token costs; *penalty += lambda off^2.
struct QuadraticL0Params {
  const std::int64_t* active = nullptr;  ///< device scalar: of all ranks
  const double* lambda = nullptr;        ///< device scalar
  double target = 0;
  std::int64_t tokens = 0;
  double* coefficient = nullptr;
  double* penalty = nullptr;  ///< null where another rank adds it
};

/// below[i] = sum over tokens of theta_i - z_i, from the sum of the tokens:
/// tokens (theta_i - c_i) - scale W_i . x_sum.
struct BelowSumsParams {
  WeightRows w;                  ///< latents x d, joined where lo is given
  const float* c = nullptr;      ///< latents: FoldBias's
  const float* theta = nullptr;  ///< latents
  const float* x_sum = nullptr;  ///< d, raw
  float scale = 1;
  std::int64_t latents = 0, d = 0, tokens = 0;
  double* below = nullptr;  ///< latents
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error TargetMoments(const device::TargetMomentsParams& params, void* stream);
[[nodiscard]] Error FvuScale(const device::FvuScaleParams& params, void* stream);
[[nodiscard]] Error BiasOnly(const device::BiasOnlyParams& params, void* stream);
[[nodiscard]] Error QuadraticL0(const device::QuadraticL0Params& params, void* stream);
[[nodiscard]] Error BelowSums(const device::BelowSumsParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void TargetMoments(const device::TargetMomentsParams& params);
void FvuScale(const device::FvuScaleParams& params);
void BiasOnly(const device::BiasOnlyParams& params);
void QuadraticL0(const device::QuadraticL0Params& params);
void BelowSums(const device::BelowSumsParams& params);
}  // namespace sae::kernels::plain
