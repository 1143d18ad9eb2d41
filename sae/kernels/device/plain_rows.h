#pragma once
// For the partners (namespace plain): split weights on the host.

#include "sae/kernels/device/rows.h"
#include "sae/kernels/split_float.h"

namespace sae::kernels::plain {

inline float Weight(const device::WeightRows& w, std::int64_t at) {
  return w.lo == nullptr ? Bf16ToFloat(w.hi[at]) : Join(w.hi[at], w.lo[at]);
}
inline device::WeightRows Read(const device::MutableWeightRows& w) { return {w.hi, w.lo}; }
inline void SetWeight(const device::MutableWeightRows& w, std::int64_t at, float value) {
  const SplitFloat split = Split(value);
  w.hi[at] = split.hi;
  if (w.lo != nullptr) w.lo[at] = split.lo;
}
/// Device flags.
inline bool IsOn(const std::int32_t* flag) { return flag == nullptr || *flag != 0; }

}  // namespace sae::kernels::plain
