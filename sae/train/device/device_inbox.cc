#include "sae/train/device/device_inbox.h"

#include <algorithm>

namespace sae::train {

namespace {

constexpr std::int64_t kFloat = sizeof(float);
constexpr std::int64_t kPiece = 1 << 16;  // floats that one thread copies at a time

void CopyRows(const float* from, std::int64_t count, float* to, ThreadPool& pool) {
  pool.ParallelFor((count + kPiece - 1) / kPiece, [&](std::int64_t begin, std::int64_t end, int) {
    const std::int64_t last = std::min(count, end * kPiece);
    std::copy(from + begin * kPiece, from + last, to + begin * kPiece);
  });
}

}  // namespace

DeviceInbox::~DeviceInbox() {
  if (runtime_ == nullptr) return;
  if (stream_ != nullptr) runtime_->DestroyStream(stream_);  // waits
  for (const Slot& slot : slots_) {
    if (slot.rows != nullptr) runtime_->FreePinned(slot.rows);
    if (slot.arrived != nullptr) runtime_->DestroyEvent(slot.arrived);
  }
  if (taken_ != nullptr) runtime_->DestroyEvent(taken_);
}

absl::Status DeviceInbox::Create(DeviceRuntime& runtime, std::int64_t tokens, std::int64_t d,
                                 std::int64_t d_out) {
  runtime_ = &runtime;
  capacity_ = tokens;
  d_ = d;
  d_out_ = d_out;
  const std::int64_t count = tokens * (d + d_out);
  SAE_ASSIGN_OR_RETURN(stream_, runtime.CreateStream());
  SAE_ASSIGN_OR_RETURN(taken_, runtime.CreateEvent());
  for (Slot& slot : slots_) {
    SAE_ASSIGN_OR_RETURN(void* rows, runtime.AllocatePinned(count * kFloat));
    slot.rows = static_cast<float*>(rows);
    SAE_ASSIGN_OR_RETURN(slot.arrived, runtime.CreateEvent());
  }
  return rows_.Create(runtime, count, "next batch");
}

absl::Status DeviceInbox::Stage(const float* x, const float* y, std::int64_t tokens,
                                ThreadPool& pool) {
  at_ = 1 - at_;
  tokens_ = tokens;
  const Slot& slot = slots_[at_];
  SAE_RETURN_IF_ERROR(runtime_->SynchronizeEvent(slot.arrived));  // of the batch before the last
  CopyRows(x, tokens * d_, slot.rows, pool);
  if (d_out_ > 0) CopyRows(y, tokens * d_out_, slot.rows + capacity_ * d_, pool);
  SAE_RETURN_IF_ERROR(runtime_->WaitEvent(stream_, taken_));
  SAE_RETURN_IF_ERROR(runtime_->CopyAsync(rows_.data(), slot.rows, tokens * d_ * kFloat, stream_));
  if (d_out_ > 0) {
    SAE_RETURN_IF_ERROR(runtime_->CopyAsync(rows_.data() + capacity_ * d_,
                                            slot.rows + capacity_ * d_, tokens * d_out_ * kFloat,
                                            stream_));
  }
  return runtime_->RecordEvent(slot.arrived, stream_);
}

absl::Status DeviceInbox::Take(float* x, float* y, void* stream) {
  SAE_RETURN_IF_ERROR(runtime_->WaitEvent(stream, slots_[at_].arrived));
  SAE_RETURN_IF_ERROR(runtime_->CopyAsync(x, rows_.data(), tokens_ * d_ * kFloat, stream));
  if (d_out_ > 0) {
    SAE_RETURN_IF_ERROR(
        runtime_->CopyAsync(y, rows_.data() + capacity_ * d_, tokens_ * d_out_ * kFloat, stream));
  }
  return runtime_->RecordEvent(taken_, stream);
}

}  // namespace sae::train
