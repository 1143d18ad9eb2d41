#pragma once
// Batches on their way to the device. The host copies rows to pinned memory and from there they go
// to a buffer of the device's, on a stream of their own, while the device still works on the batch
// before; when it is through with that, rows move where kernels read them. Two pinned buffers take
// turns. Bytes of a batch beside the step's own: 2 pinned, 1 device. Not thread-safe.

#include <cstdint>

#include "sae/base/device_runtime.h"
#include "sae/base/parallel.h"
#include "sae/train/device/device_buffer.h"

namespace sae::train {

class DeviceInbox {
 public:
  DeviceInbox() = default;
  ~DeviceInbox();
  DeviceInbox(const DeviceInbox&) = delete;
  DeviceInbox& operator=(const DeviceInbox&) = delete;

  /// Of at most `tokens` rows of x, of width d, and of y, of width d_out: 0 where there is none.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, std::int64_t tokens, std::int64_t d,
                                    std::int64_t d_out);

  /// Copies x [tokens, d] and y [tokens, d_out] and starts them on their way. `pool` copies.
  [[nodiscard]] absl::Status Stage(const float* x, const float* y, std::int64_t tokens,
                                   ThreadPool& pool);
  /// In `stream`: what was staged last moves to x and y.
  [[nodiscard]] absl::Status Take(float* x, float* y, void* stream);

  /// What was staged last, on the host; until the next but one Stage. y: x where there is none.
  const float* x() const { return slots_[at_].rows; }
  const float* y() const { return d_out_ == 0 ? x() : x() + capacity_ * d_; }

 private:
  struct Slot {
    float* rows = nullptr;  // pinned: x, then y
    void* arrived = nullptr;
  };

  DeviceRuntime* runtime_ = nullptr;
  std::int64_t capacity_ = 0, d_ = 0, d_out_ = 0, tokens_ = 0;
  int at_ = 0;
  Slot slots_[2];
  DeviceBuffer<float> rows_;  // as a slot's
  void* stream_ = nullptr;
  void* taken_ = nullptr;
};

}  // namespace sae::train
