#include "sae/kernels/screen_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/screen_dot-inl.h"
#include <hwy/foreach_target.h>

#include "sae/kernels/screen_dot-inl.h"

#if HWY_ONCE
namespace sae::kernels {

HWY_EXPORT(Dot);
HWY_EXPORT(Dots);
HWY_EXPORT(Tile);
HWY_EXPORT(Activate);

float ReferenceDot(std::int64_t d, const float* w, const float* x) {
  return HWY_DYNAMIC_DISPATCH(Dot)(d, w, x);
}

void ReferenceDots(std::int64_t d, const float* row, const float* others, const std::int32_t* rows,
                   std::int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(Dots)(d, row, others, rows, count, out);
}

void ReferenceTile(std::int64_t m, std::int64_t n, std::int64_t d, const float* x, const float* w,
                   float* z, std::int64_t ld) {
  HWY_DYNAMIC_DISPATCH(Tile)(m, n, d, x, w, z, ld);
}

void ReferenceZ(std::int64_t size, float scale, const float* c, float* z) {
  HWY_DYNAMIC_DISPATCH(Activate)(size, scale, c, z);
}

}  // namespace sae::kernels
#endif  // HWY_ONCE
