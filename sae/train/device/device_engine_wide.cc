// Multi-TopK: the loss of the 4k largest codes beside that of the k largest, L = L(k) + L(4k) / 8.
// One encoder pass selects 4k; the k largest are found among those. Source: spec algorithms.md 3.7.
#include <algorithm>

#include "sae/train/device/device_engine.h"
#include "sae/train/engine/wide_loss.h"

namespace sae::train {

absl::Status DeviceEngine::AllocateWide() {
  const std::int64_t batch = context_.batch(), n = context_.shard.count;
  const std::int64_t values = batch * context_.d_out;
  if (wide_g_.count() == 0) {
    SAE_RETURN_IF_ERROR(wide_g_.Create(runtime_, values, "Multi-TopK gradient"));
    SAE_RETURN_IF_ERROR(wide_hat_.Create(runtime_, values, "Multi-TopK x_hat"));
  }
  return wide_entries_.Create(runtime_, batch, batch * std::min(SelectedK(), n), n, false);
}

// Its squares come weighted, so that rho serves both losses.
absl::Status DeviceEngine::WideLoss() {
  SAE_RETURN_IF_ERROR(wide_entries_.BuildIndex(stream_));
  SAE_RETURN_IF_ERROR(CatchUpTouched(wide_entries_));
  kernels::device::Groups one = OneGroup();
  SAE_RETURN_IF_ERROR(Decode(wide_entries_, wide_entries_.f(), true, wide_g_.data(), one));
  one.weight[0] = train::WideLoss<float>::kWeight;
  SAE_RETURN_IF_ERROR(Residual(one, wide_g_.data(), wide_hat_.data()));
  SAE_RETURN_IF_ERROR(LatentGradients(wide_entries_, one, wide_g_.data(), wide_entries_.u()));
  return Sum(token_squares_.data(), batch_.tokens(), &at()->gate_squares);
}

}  // namespace sae::train
