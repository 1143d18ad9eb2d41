// Deferred decoder rows: a step moves those that have a gradient; the others replay what they have
// missed before a step reads them, and all of them do before anyone else does. Adam's constants of
// the steps that may be replayed lie in a table of one window, a function of the step alone; when a
// window is over, all rows catch up and the table is that of the next.
#include "sae/kernels/device/deferred_rows.h"
#include "sae/kernels/row_ops.h"
#include "sae/train/device/device_engine.h"

namespace sae::train {

namespace device = kernels::device;

bool DeviceEngine::deferred() const { return context_.options.rows == model::RowMode::kDeferred; }

absl::Status DeviceEngine::AllocateHistory() {
  if (!deferred()) return absl::OkStatus();
  if (context_.d_out > device::kMostDeferredWidth) {
    return absl::UnimplementedError(absl::StrCat(
        "train.rows: deferred is not built for devices with rows of ", context_.d_out,
        " values: use at most ", device::kMostDeferredWidth, ", or rows dense, or train on CPUs"));
  }
  return history_.Create(runtime_, parts_.deferred_window, "steps that rows may have missed");
}

// Before the next step, outside of any graph.
absl::Status DeviceEngine::ExtendHistory() {
  if (!deferred()) return absl::OkStatus();
  const std::int64_t size = history_.count(), window = step_ / size;
  if (window == history_window_) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(CatchUpDecoder(nullptr));
  const config::TrainConfig& train = context_.config.train;
  std::vector<device::RestStep> steps;
  for (std::int64_t t = window * size + 1; t <= (window + 1) * size; ++t) {
    const kernels::Adam adam = kernels::Adam::At(t, schedule_.LearningRate(t - 1), *train.beta1,
                                                 train.beta2, *train.epsilon);
    steps.push_back(device::RestStepOf(adam.lr, adam.correction1, adam.correction2));
  }
  SAE_RETURN_IF_ERROR(runtime_.CopyAsync(history_.data(), steps.data(), history_.bytes(), stream_));
  SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream_));
  history_window_ = window;
  return absl::OkStatus();
}

// Rows of latents with entries up to the step before the one on the device; without an index all
// rows up to the last finished step.
absl::Status DeviceEngine::CatchUpDecoder(const device::DeviceIndex* index) {
  if (!deferred() || history_window_ < 0) return absl::OkStatus();  // no row has missed a step
  const config::TrainConfig& train = context_.config.train;
  device::CatchUpDecoderParams p;
  p.latents = context_.shard.count;
  p.d = context_.d_out;
  p.rule = context_.options.decoder == model::DecoderMode::kFree ? device::RowRule::kFree
                                                                 : device::RowRule::kUnit;
  p.w = parameters_->w_dec().mutable_weights();
  p.moments = parameters_->w_dec().moments();
  p.last_step = last_step_.data();
  p.steps = history_.data();
  p.window = history_.count();
  p.beta1 = *train.beta1;
  p.beta2 = train.beta2;
  p.epsilon = *train.epsilon;
  p.t = step_;
  if (index != nullptr) {
    p.indptr = index->indptr;
    p.adam = &at()->adam;
  }
  return Launched(kernels::cuda::CatchUpDecoder(p, stream_), "CatchUpDecoder");
}

absl::Status DeviceEngine::CatchUpTouched(const DeviceEntries& entries) {
  const device::DeviceIndex index = entries.index();
  return CatchUpDecoder(&index);
}

}  // namespace sae::train
