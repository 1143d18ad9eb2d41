#pragma once
// Rows of split weights, a warp a row, eight bytes a load where the rows' addresses allow it. Lane
// l gets elements 4 l .. 4 l + 3, then those 128 further on: the order does not depend on
// addresses. For kernels alone.

#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/four-inl.h"

namespace sae::kernels::cuda {

/// Elements j .. j + kCount - 1 of a row of d; 0 from d on, which is not read. kWide: in one load;
/// d and j are multiples of kCount and the row is aligned to the pack.
template <int kCount, bool kWide, class T>
SAELOOM_DEVICE inline Pack<T, kCount> LoadPack(const T* row, std::int64_t j, std::int64_t d) {
  if constexpr (kWide) return *reinterpret_cast<const Pack<T, kCount>*>(row + j);
  Pack<T, kCount> pack = {};
  for (int i = 0; i < kCount; ++i) {
    if (j + i < d) pack.of[i] = row[j + i];
  }
  return pack;
}

/// visit(j, weight, hi) for the lane's elements of one row, ascending.
template <class Visit>
SAELOOM_DEVICE inline void VisitRow(const device::WeightRows& w, std::int64_t row, std::int64_t d,
                                    const Visit& visit) {
  const std::int64_t first = 4 * (threadIdx.x % 32);
  const std::uint16_t* const hi = w.hi + row * d;
  const std::int16_t* const lo = w.lo == nullptr ? nullptr : w.lo + row * d;
  const auto element = [&](std::int64_t j, std::uint16_t high, std::int16_t low) {
    visit(j, lo == nullptr ? Bf16ToFloat(high) : Join(high, low), high);
  };
  if (d % 4 == 0 && Aligned(hi, 8) && Aligned(lo, 8)) {
    for (std::int64_t j = first; j < d; j += 128) {
      const Four<std::uint16_t> high = *reinterpret_cast<const Four<std::uint16_t>*>(hi + j);
      Four<std::int16_t> low = {};
      if (lo != nullptr) low = *reinterpret_cast<const Four<std::int16_t>*>(lo + j);
      for (int i = 0; i < 4; ++i) element(j + i, high.of[i], low.of[i]);
    }
    return;
  }
  for (std::int64_t base = first; base < d; base += 128) {
    for (std::int64_t j = base; j < base + 4 && j < d; ++j)
      element(j, hi[j], lo == nullptr ? std::int16_t{0} : lo[j]);
  }
}

}  // namespace sae::kernels::cuda
