// Lazy rows: what a step leaves alone catches up when it is touched, and all of it before moments
// are read by anyone else.
#include "sae/train/device/device_engine.h"

namespace sae::train {

absl::Status DeviceEngine::AllocateRows() {
  const bool dense = context_.options.rows == model::RowMode::kDense;
  SAE_RETURN_IF_ERROR(last_step_.Create(runtime_, dense ? 0 : OwnLatents(), "last steps of rows"));
  return AllocateHistory();
}

// All rows have the moments of the last finished step. Waits for the stream.
absl::Status DeviceEngine::RowsAreCurrent() {
  if (last_step_.count() == 0) return absl::OkStatus();
  const std::vector<std::int64_t> steps(static_cast<std::size_t>(last_step_.count()), step_);
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(last_step_.data(), steps.data(), last_step_.bytes(), stream_));
  return runtime_.Synchronize(stream_);
}

absl::Status DeviceEngine::CatchUpRows() {
  if (deferred()) return CatchUpDecoder(nullptr);
  if (last_step_.count() == 0) return absl::OkStatus();
  kernels::device::CatchUpRowsParams p;
  p.latents = OwnLatents();
  p.d = context_.d;
  p.d_out = context_.d_out;
  p.enc_moments = parameters_->w_enc().moments();
  p.dec_moments = parameters_->w_dec().moments();
  p.last_step = last_step_.data();
  p.beta2 = context_.config.train.beta2;
  p.t = step_;
  SAE_RETURN_IF_ERROR(Launched(kernels::cuda::CatchUpRows(p, stream_), "CatchUpRows"));
  return RowsAreCurrent();
}

}  // namespace sae::train
