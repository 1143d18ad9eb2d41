#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/device/step_scalars-inl.h"

namespace sae::kernels::plain {

void CollectSums(const device::CollectSumsParams& p) { device::Apply(p); }
void CheckCapacity(const device::CheckCapacityParams& p) { device::Apply(p); }
void SmallestKept(const device::SmallestKeptParams& p) {
  float smallest = p.cut->value;
  if (!(smallest > 0)) {
    smallest = std::numeric_limits<float>::infinity();
    for (std::int32_t e = 0; e < p.codes.indptr[p.codes.tokens]; ++e)
      smallest = std::min(smallest, p.codes.values[e]);
  }
  *p.smallest = smallest;
}
void Decide(const device::DecideParams& p) { device::Apply(p); }
void ClipScale(const device::ClipScaleParams& p) {
  *p.norm = std::sqrt(*p.shard + *p.shared);
  *p.scale = p.clip / (*p.norm > p.clip ? *p.norm : p.clip);
}

}  // namespace sae::kernels::plain
