#pragma once
// The codes of one batch on the device, with what the backward adds to them, in memory made once.
// Not thread-safe.

#include "sae/kernels/device/latents.h"
#include "sae/train/device/device_buffer.h"

namespace sae::train {

struct DeviceEntries {
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, std::int64_t tokens,
                                    std::int64_t capacity, std::int64_t latents, bool weighted);

  /// Entries by token; f_ is written where codes are weighted, else f is z.
  kernels::device::DeviceCodes codes() const {
    return {tokens_, capacity_, indptr_.data(), ids_.data(), rows_.data(), values_.data()};
  }
  kernels::device::DeviceIndex index() const {
    return {latents_, latent_indptr_.data(), positions_.data()};
  }
  float* f() const { return weights_.data() != nullptr ? weights_.data() : values_.data(); }
  float* weights() const { return weights_.data(); }
  float* u() const { return u_.data(); }
  float* delta() const { return delta_.data(); }
  /// Entries of the batch, on the device.
  const std::int32_t* count() const { return indptr_.data() + tokens_; }
  std::int64_t capacity() const { return capacity_; }

  void SetTokens(std::int64_t tokens) { tokens_ = tokens; }
  /// The batch becomes slots.tokens long.
  [[nodiscard]] absl::Status FromSlots(const kernels::device::Slots& slots, void* stream);
  [[nodiscard]] absl::Status BuildIndex(void* stream);

 private:
  std::int64_t tokens_ = 0, capacity_ = 0, latents_ = 0;
  DeviceBuffer<std::int32_t> indptr_, ids_, rows_, latent_indptr_, positions_, scan_;
  DeviceBuffer<float> values_, weights_, u_, delta_;
  DeviceBuffer<std::uint8_t> sort_;
};

/// Slots with their memory.
struct DeviceSlots {
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, std::int64_t tokens,
                                    std::int64_t capacity, std::int32_t* overflow);
  /// Of the first `tokens` tokens.
  kernels::device::Slots First(std::int64_t tokens) const {
    kernels::device::Slots out = view_;
    out.tokens = tokens;
    return out;
  }

 private:
  DeviceBuffer<float> values_;
  DeviceBuffer<std::int32_t> ids_, counts_;
  kernels::device::Slots view_;
};

}  // namespace sae::train
