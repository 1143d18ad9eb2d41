// Dead latents start over, four times a run: the host does it with the CPU engine's own code. The
// device's values go there and back, to the same addresses, so a captured graph stays valid.
#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

// After the step whose rows batch_ still holds.
absl::Status DeviceEngine::ResampleDead() {
  SAE_RETURN_IF_ERROR(DownloadState());
  SAE_ASSIGN_OR_RETURN(const std::vector<float> x_hat,
                       Fetch(runtime_, x_hat_.data(), batch_.tokens() * context_.d_out, stream_));
  SAE_RETURN_IF_ERROR(host_->ResampleDead(batch_, x_hat.data()));
  return parameters_->Upload(host_->whole_state(), stream_);
}

}  // namespace sae::train
