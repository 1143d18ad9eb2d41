// One warp a row, or a thread an element.
#include "sae/kernels/device.h"
#include "sae/kernels/device/prepare.h"
#include "sae/kernels/split_float.h"

namespace sae::kernels::cuda {
namespace {

using device::FillParams;
using device::FoldBiasParams;
using device::GatherRowsParams;
using device::ToBf16Params;
using device::WeightRows;

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = kThreads / 32;

SAELOOM_DEVICE inline float Weight(const WeightRows& w, std::int64_t at) {
  return w.lo == nullptr ? Bf16ToFloat(w.hi[at]) : Join(w.hi[at], w.lo[at]);
}

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
    for (std::int64_t j = lane; j < p.d; j += 32) {
      sum = __fma_rn(static_cast<double>(Weight(p.w, i * p.d + j)), static_cast<double>(p.b_dec[j]),
                     sum);
    }
  }
  for (unsigned lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_down_sync(0xffffffffU, sum, lanes);
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
  const bool there = p.ids == nullptr || p.first + r < *p.id_count;
  const std::int64_t from = !there ? 0 : p.ids != nullptr ? p.ids[p.first + r] : p.first + r;
  for (std::int64_t j = lane; j < p.d; j += 32) {
    const std::int64_t at = from * p.d + j;
    if (p.joined != nullptr) p.joined[r * p.d + j] = there ? Weight(p.w, at) : 0.0F;
    if (p.hi != nullptr) p.hi[r * p.d + j] = there ? p.w.hi[at] : std::uint16_t{0};
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
