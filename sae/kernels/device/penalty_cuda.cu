// Columns of the targets: 8 adjacent ones (32 bytes of a row) a block. Latents: a warp each.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/penalty.h"
#include "sae/kernels/device/row_visit-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::BelowSumsParams;
using device::BiasOnlyParams;
using device::FvuScaleParams;
using device::QuadraticL0Params;
using device::TargetMomentsParams;

constexpr int kThreads = 256;
constexpr int kColumns = 8;
constexpr int kRows = kThreads / kColumns;

unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

SAELOOM_KERNEL void TargetMomentsKernel(TargetMomentsParams p) {
  SAELOOM_SHARED(double, sums, kThreads);
  SAELOOM_SHARED(double, squares, kThreads);
  const std::int64_t column = blockIdx.x * kColumns + threadIdx.x % kColumns;
  double sum = 0, square = 0;
  for (std::int64_t t = threadIdx.x / kColumns; column < p.d && t < p.tokens; t += kRows) {
    const auto v = static_cast<double>(p.target_scale * p.target[t * p.d + column]);
    sum += v;
    square += v * v;
  }
  sums[threadIdx.x] = sum;
  squares[threadIdx.x] = square;
  SAELOOM_BARRIER(1);
  if (threadIdx.x >= kColumns || column >= p.d) return;
  sum = square = 0;
  for (int r = 0; r < kRows; ++r) {
    sum += sums[r * kColumns + threadIdx.x];
    square += squares[r * kColumns + threadIdx.x];
  }
  p.sums[column] = sum;
  p.squares[column] = square;
}

SAELOOM_KERNEL void FvuScaleKernel(FvuScaleParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const auto tokens = static_cast<double>(p.tokens);
  double deviations[1] = {0};
  for (std::int64_t j = threadIdx.x; j < p.d; j += kThreads)
    deviations[0] += p.squares[j] - p.sums[j] * p.sums[j] / tokens;
  BlockSum<1> block_sum(shared);
  block_sum(deviations);
  if (threadIdx.x == 0) *p.rho = deviations[0] > 0 ? 1 / deviations[0] : 1 / tokens;
}

SAELOOM_KERNEL void BiasOnlyKernel(BiasOnlyParams p) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= p.d) return;
  const auto tokens = static_cast<double>(p.tokens);
  const auto bias = static_cast<double>(p.b_dec[j]);
  p.gradient[j] += static_cast<float>(2 * (*p.rho * p.weight) * (tokens * bias - p.sums[j]));
  p.parts[j] = p.weight * (p.squares[j] - 2 * bias * p.sums[j] + tokens * bias * bias);
}

SAELOOM_KERNEL void QuadraticL0Kernel(QuadraticL0Params p) {
  const double off = static_cast<double>(*p.active) / static_cast<double>(p.tokens) / p.target - 1;
  *p.coefficient = 2 * *p.lambda * off / p.target;
  if (p.penalty != nullptr) *p.penalty += *p.lambda * off * off;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) BelowSumsKernel(BelowSumsParams p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (i >= p.latents) return;  // a whole warp
  double dot = 0;
  VisitRow(p.w, i, p.d, [&](std::int64_t j, float weight, std::uint16_t) {
    dot = __fma_rn(static_cast<double>(weight), static_cast<double>(p.x_sum[j]), dot);
  });
  dot = WarpSum(dot);
  if (threadIdx.x % 32 != 0) return;
  const double margin = static_cast<double>(p.theta[i]) - static_cast<double>(p.c[i]);
  p.below[i] = static_cast<double>(p.tokens) * margin - static_cast<double>(p.scale) * dot;
}

}  // namespace

Error TargetMoments(const TargetMomentsParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.target == nullptr || p.sums == nullptr || p.squares == nullptr)
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(TargetMomentsKernel, Grid(p.d, kColumns), kThreads, 0, stream, p);
}

Error FvuScale(const FvuScaleParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.sums == nullptr || p.squares == nullptr || p.rho == nullptr)
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(FvuScaleKernel, 1, kThreads, 0, stream, p);
}

Error BiasOnly(const BiasOnlyParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.sums == nullptr || p.squares == nullptr || p.b_dec == nullptr ||
      p.rho == nullptr || p.gradient == nullptr || p.parts == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(BiasOnlyKernel, Grid(p.d, kThreads), kThreads, 0, stream, p);
}

Error QuadraticL0(const QuadraticL0Params& p, void* stream) {
  if (p.tokens < 1 || !(p.target > 0) || p.active == nullptr || p.lambda == nullptr ||
      p.coefficient == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(QuadraticL0Kernel, 1, 1, 0, stream, p);
}

Error BelowSums(const BelowSumsParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.latents < 1 || p.w.hi == nullptr || p.c == nullptr ||
      p.theta == nullptr || p.x_sum == nullptr || p.below == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(BelowSumsKernel, Grid(p.latents, kThreads / 32), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
