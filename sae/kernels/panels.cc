#include "sae/kernels/panels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/panels-inl.h"
#include <hwy/foreach_target.h>

#include "sae/kernels/panels-inl.h"

#if HWY_ONCE
namespace sae::kernels {

HWY_EXPORT(Pack);
HWY_EXPORT(Multiply);

void PackPanels(const float* w, const std::int32_t* rows, std::int64_t count, std::int64_t d,
                float* panels) {
  HWY_DYNAMIC_DISPATCH(Pack)(w, rows, count, d, panels);
}

void MultiplyPanels(const float* x, std::int64_t tokens, std::int64_t d, const float* panels,
                    std::int64_t count, float* z, std::int64_t ld) {
  HWY_DYNAMIC_DISPATCH(Multiply)(x, tokens, d, panels, count, z, ld);
}

}  // namespace sae::kernels
#endif  // HWY_ONCE
