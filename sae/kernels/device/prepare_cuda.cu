// One warp a row, or a thread an element.
#include "sae/kernels/device.h"
#include "sae/kernels/device/prepare.h"
#include "sae/kernels/device/row_visit-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::FillParams;
using device::FoldBiasParams;
using device::GatherRowsParams;
using device::ToBf16Params;

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / 32;

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) FillKernel(FillParams p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < p.count) p.out[i] = p.value;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) FoldBiasKernel(FoldBiasParams p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + static_cast<int>(threadIdx.x) / 32;
  if (i >= p.latents) return;  // a whole warp
  double sum = 0;
  if (p.b_dec != nullptr) {
    VisitRow(p.w, i, p.d, [&](std::int64_t j, float weight, std::uint16_t) {
      sum = __fma_rn(static_cast<double>(weight), static_cast<double>(p.b_dec[j]), sum);
    });
  }
  sum = WarpSum(sum);
  const double bias = p.b_enc == nullptr ? 0.0 : static_cast<double>(p.b_enc[i]);
  if (lane == 0) p.c[i] = static_cast<float>(bias - sum);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) ToBf16Kernel(ToBf16Params p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < p.count) p.out[i] = FloatToBf16(p.x[i]);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) GatherRowsKernel(GatherRowsParams p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t r =
      static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + static_cast<int>(threadIdx.x) / 32;
  if (r >= p.rows) return;
  if (r == 0 && lane == 0 && p.ids != nullptr && p.overflow != nullptr &&
      *p.id_count > p.id_limit) {
    atomicExch(p.overflow, 1);
  }
  const bool there = p.first + r < p.all_rows && (p.ids == nullptr || p.first + r < *p.id_count);
  const std::int64_t from = !there ? 0 : p.ids != nullptr ? p.ids[p.first + r] : p.first + r;
  if (!there) {
    for (std::int64_t j = lane; j < p.d; j += 32) {
      if (p.joined != nullptr) p.joined[r * p.d + j] = 0;
      if (p.hi != nullptr) p.hi[r * p.d + j] = 0;
    }
  } else if (p.joined != nullptr || p.hi != nullptr) {
    VisitRow(p.w, from, p.d, [&](std::int64_t j, float weight, std::uint16_t hi) {
      if (p.joined != nullptr) p.joined[r * p.d + j] = weight;
      if (p.hi != nullptr) p.hi[r * p.d + j] = hi;
    });
  }
  if (p.c_out == nullptr || lane != 0) return;
  if (!there) {
    p.c_out[r] = -HUGE_VALF;
  } else {
    p.c_out[r] = p.c == nullptr ? 0.0F : p.c[from];
  }
}

unsigned Blocks(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

}  // namespace

Error Fill(const FillParams& p, void* stream) {
  if (p.count < 0 || (p.count > 0 && p.out == nullptr)) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(FillKernel, Blocks(p.count, kThreads), kThreads, 0, stream, p);
}

Error FoldBias(const FoldBiasParams& p, void* stream) {
  if (p.latents < 0 || p.d < 0) return Error::kInvalidArgument;
  if (p.latents == 0) return Error::kOk;
  if (p.c == nullptr || (p.b_dec != nullptr && p.d > 0 && p.w.hi == nullptr))
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(FoldBiasKernel, Blocks(p.latents, kRowsPerBlock), kThreads, 0, stream, p);
}

Error ToBf16(const ToBf16Params& p, void* stream) {
  if (p.count < 0) return Error::kInvalidArgument;
  if (p.count == 0) return Error::kOk;
  if (p.x == nullptr || p.out == nullptr) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(ToBf16Kernel, Blocks(p.count, kThreads), kThreads, 0, stream, p);
}

Error GatherRows(const GatherRowsParams& p, void* stream) {
  if (p.first < 0 || p.rows < 0 || p.d < 0) return Error::kInvalidArgument;
  if (p.rows == 0) return Error::kOk;
  if ((p.ids != nullptr && p.id_count == nullptr) ||
      ((p.joined != nullptr || p.hi != nullptr) && p.d > 0 && p.w.hi == nullptr)) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(GatherRowsKernel, Blocks(p.rows, kRowsPerBlock), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
