#include "sae/kernels/screen_bounds.h"

#include "sae/base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/screen_bounds-inl.h"
#include <hwy/foreach_target.h>

#include "sae/kernels/screen_bounds-inl.h"

#if HWY_ONCE
namespace sae::kernels {

HWY_EXPORT(Round);
HWY_EXPORT(From);
HWY_EXPORT(Above);
HWY_EXPORT(Lower);
HWY_EXPORT(Reached);
HWY_EXPORT(Keep);
HWY_EXPORT(Ordered);

RoundedNorms RoundRow(std::int64_t d, const float* row, std::int64_t padded, std::uint16_t* out) {
  return HWY_DYNAMIC_DISPATCH(Round)(d, row, padded, out);
}

std::int64_t SiftFrom(const ScreenedRow& row, float floor, const Bounded& out) {
  return HWY_DYNAMIC_DISPATCH(From)(row, floor, out);
}

std::int64_t SiftAbove(const ScreenedRow& row, const float* floors, const Bounded& out) {
  return HWY_DYNAMIC_DISPATCH(Above)(row, floors, out);
}

void LowerEnds(const ScreenedRow& row, float* out) { HWY_DYNAMIC_DISPATCH(Lower)(row, out); }

float ReachedBy(const float* values, std::int64_t count, std::int64_t k, std::int64_t surplus,
                float floor) {
  SAE_CHECK_MSG(1 <= k && k <= count, "%ld of %ld", static_cast<long>(k), static_cast<long>(count));
  return HWY_DYNAMIC_DISPATCH(Reached)(values, count, k, surplus, floor);
}

std::int64_t KeepFrom(const Bounded& entries, std::int64_t count, float floor) {
  return HWY_DYNAMIC_DISPATCH(Keep)(entries, count, floor);
}

bool Comparable(const float* values, std::int64_t count) {
  return HWY_DYNAMIC_DISPATCH(Ordered)(values, count);
}

}  // namespace sae::kernels
#endif  // HWY_ONCE
