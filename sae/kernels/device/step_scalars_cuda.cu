#include "sae/kernels/device.h"
#include "sae/kernels/device/step_scalars-inl.h"

namespace sae::kernels::cuda {
namespace {

template <class Params>
SAELOOM_KERNEL void ApplyKernel(Params p) {
  device::Apply(p);
}

SAELOOM_KERNEL void ClipScaleKernel(device::ClipScaleParams p) {
  const double norm = sqrt(*p.shard + *p.shared);
  *p.norm = norm;
  *p.scale = p.clip / (norm > p.clip ? norm : p.clip);
}

constexpr int kThreads = 256;

SAELOOM_KERNEL void SmallestKeptKernel(device::SmallestKeptParams p) {
  SAELOOM_SHARED(float, least, kThreads);
  const int lane = static_cast<int>(threadIdx.x);
  float smallest = INFINITY;
  if (p.cut->value > 0) {
    smallest = p.cut->value;
  } else {
    for (std::int32_t e = lane; e < p.codes.indptr[p.codes.tokens]; e += kThreads)
      smallest = p.codes.values[e] < smallest ? p.codes.values[e] : smallest;
  }
  least[lane] = smallest;
  SAELOOM_BARRIER(1);
  if (lane != 0) return;
  for (int i = 1; i < kThreads; ++i) smallest = least[i] < smallest ? least[i] : smallest;
  *p.smallest = smallest;
}

}  // namespace

Error CollectSums(const device::CollectSumsParams& p, void* stream) {
  return SAELOOM_LAUNCH((ApplyKernel<device::CollectSumsParams>), 1, 1, 0, stream, p);
}
Error CheckCapacity(const device::CheckCapacityParams& p, void* stream) {
  return SAELOOM_LAUNCH((ApplyKernel<device::CheckCapacityParams>), 1, 1, 0, stream, p);
}
Error Decide(const device::DecideParams& p, void* stream) {
  return SAELOOM_LAUNCH((ApplyKernel<device::DecideParams>), 1, 1, 0, stream, p);
}
Error SmallestKept(const device::SmallestKeptParams& p, void* stream) {
  return SAELOOM_LAUNCH(SmallestKeptKernel, 1, kThreads, 0, stream, p);
}
Error ClipScale(const device::ClipScaleParams& p, void* stream) {
  return SAELOOM_LAUNCH(ClipScaleKernel, 1, 1, 0, stream, p);
}

}  // namespace sae::kernels::cuda
