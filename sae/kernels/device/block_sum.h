#pragma once
// For .cu files: float64 sums over a warp and over a block in one fixed order, and reading of split
// weights. C++17.

#include "sae/kernels/device.h"
#include "sae/kernels/device/rows.h"
#include "sae/kernels/split_float.h"

namespace sae::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffU;
inline constexpr int kMaxWarps = 32;

/// Over all lanes, in a fixed tree (16 + 16, 8 + 8, ...); every lane gets it.
template <class T>
SAELOOM_DEVICE inline T WarpSum(T value) {
  for (int half = 16; half > 0; half /= 2) value += __shfl_xor_sync(kAllLanes, value, half);
  return value;
}

/// kValues sums over the block's threads, warps in order; every thread gets them. All threads call
/// it. One barrier: what threads wrote before it the others see after it. `shared` has two halves
/// of kValues * kMaxWarps, used in turns, so that no second barrier is needed.
template <int kValues>
class BlockSum {
 public:
  SAELOOM_DEVICE explicit BlockSum(double* shared) : shared_(shared) {}

  SAELOOM_DEVICE void operator()(double (&values)[kValues]) {
    double* const half = shared_ + turn_ * kValues * kMaxWarps;
    turn_ = 1 - turn_;
    const int warps = static_cast<int>(blockDim.x) / 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    for (int k = 0; k < kValues; ++k) {
      const double sum = WarpSum(values[k]);
      if (threadIdx.x % 32 == 0) half[k * kMaxWarps + warp] = sum;
    }
    SAELOOM_BARRIER(1);
    for (int k = 0; k < kValues; ++k) {
      values[k] = 0;
      for (int w = 0; w < warps; ++w) values[k] += half[k * kMaxWarps + w];
    }
  }

 private:
  double* shared_;
  int turn_ = 0;
};

/// Elements of split weights where the caller knows which it has: loops without a branch.
struct HighWeights {
  const std::uint16_t* hi;
  SAELOOM_DEVICE float operator()(std::int64_t at) const { return Bf16ToFloat(hi[at]); }
};
struct JoinedWeights {
  const std::uint16_t* hi;
  const std::int16_t* lo;
  SAELOOM_DEVICE float operator()(std::int64_t at) const { return Join(hi[at], lo[at]); }
};
SAELOOM_DEVICE inline float Weight(const device::WeightRows& w, std::int64_t at) {
  return w.lo == nullptr ? Bf16ToFloat(w.hi[at]) : Join(w.hi[at], w.lo[at]);
}
SAELOOM_DEVICE inline float Weight(const device::MutableWeightRows& w, std::int64_t at) {
  return w.lo == nullptr ? Bf16ToFloat(w.hi[at]) : Join(w.hi[at], w.lo[at]);
}
SAELOOM_DEVICE inline void SetWeight(const device::MutableWeightRows& w, std::int64_t at,
                                     float value) {
  const SplitFloat split = Split(value);
  w.hi[at] = split.hi;
  if (w.lo != nullptr) w.lo[at] = split.lo;
}

}  // namespace sae::kernels::cuda
