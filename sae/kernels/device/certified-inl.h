#pragma once
// What the kernels of certified selection share: intervals of screened products, and ReferenceDot
// by half a warp. For kernels alone.

#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/certified.h"

namespace sae::kernels::cuda {

inline constexpr float kInfinity = HUGE_VALF;
inline constexpr unsigned kWholeBlocks = 264;  ///< two for each of an H100's 132 multiprocessors

struct Interval {
  float lower, upper;
  bool there;  ///< the column exists and is not masked
};

/// Where the true pre-activation of column j lies.
SAELOOM_DEVICE inline Interval Enclose(const device::ChunkProducts& chunk,
                                       const device::LatentBounds& latents,
                                       const device::TokenBounds& tokens, std::int64_t token,
                                       std::int64_t j) {
  if (j >= chunk.columns || chunk.c[j] == kNegativeInfinity) return {0, 0, false};
  const std::int64_t i = chunk.first_id + j;
  const float z = __fmaf_rn(chunk.scale, chunk.products[token * chunk.ld + j], chunk.c[j]);
  const float margin = __fmaf_rn(
      tokens.of_residual[token], latents.residual[i],
      __fmaf_rn(tokens.of_norm[token], latents.norm[i], latents.margin[i] + tokens.extra[token]));
  if (margin < kInfinity && z == z) return {z - margin, z + margin, true};
  return {kNegativeInfinity, kInfinity, true};
}

/// ReferenceDot by 16 lanes, to the first of them. Both halves of a warp come together; `live` is
/// whether this half has a row.
SAELOOM_DEVICE inline float HalfWarpDot(const device::WeightRows& w, std::int64_t row,
                                        const float* x, std::int64_t d, bool live) {
  const int lane = static_cast<int>(threadIdx.x) % 16;
  float sum = 0;
  std::int64_t j = lane;
  if (live) {
    constexpr int kAhead = 8;  // loads under way at a time; the chain of additions stays one
    for (; j + 16 * (kAhead - 1) < d; j += 16 * kAhead) {
      float weights[kAhead];
      float inputs[kAhead];
      for (int i = 0; i < kAhead; ++i) {
        weights[i] = Weight(w, row * d + j + 16 * i);
        inputs[i] = x[j + 16 * i];
      }
      for (int i = 0; i < kAhead; ++i) sum = __fmaf_rn(weights[i], inputs[i], sum);
    }
    for (; j < d; j += 16) sum = __fmaf_rn(Weight(w, row * d + j), x[j], sum);
    if (j - lane < d) sum = __fmaf_rn(0.0F, 0.0F, sum);  // padding
  }
  for (unsigned lanes = 8; lanes > 0; lanes /= 2)
    sum += __shfl_down_sync(kAllLanes, sum, lanes, 16);
  return sum;
}

SAELOOM_DEVICE inline void Count(std::int64_t* counter, std::int64_t more) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(more));
}

}  // namespace sae::kernels::cuda
