#pragma once
// The kB largest positive pre-activations of a batch over all ranks, on the device: slots with a
// floor that rises between chunks, a cut found by three histogram rounds, ties settled by (token,
// global latent). Collective. Owns its buffers. Not thread-safe. Source: spec numerics.md 3.

#include "sae/kernels/device/encode.h"
#include "sae/train/device/device_codes.h"
#include "sae/train/device/device_parts.h"

namespace sae::train {

class DeviceBatchTopK {
 public:
  struct Shape {
    std::int64_t tokens = 0, k = 0;
    std::int64_t latents = 0;        ///< n, over all ranks
    std::int64_t slot_capacity = 0;  ///< entries of one token; more: the step's overflow flag
    std::int64_t ties = 0;           ///< entries of one rank equal to the cut; likewise
    const std::int32_t* global_ids = nullptr;
    std::int64_t replicas = 1, replica = 0;  ///< equal parts of the tokens, and which is here
    bool certified = false;                  ///< z by the definition of `selection: certified`
  };
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                    std::int32_t* overflow);

  /// `all_tokens`: of all replicas, cut into parts as evenly as they go; here may be none.
  [[nodiscard]] absl::Status Select(kernels::cuda::DeviceLibrary* library,
                                    const kernels::device::EncodeParams& encode,
                                    std::int64_t all_tokens, DeviceCollectives& collectives,
                                    DeviceEntries* out, void* stream);
  /// After Select, on the device: the smallest kept value (BatchCut::value) and how many were
  /// found.
  const kernels::device::BatchCut* cut() const { return cut_.data(); }

 private:
  [[nodiscard]] absl::Status FindCut(std::int64_t tokens, std::int64_t wanted,
                                     DeviceCollectives& collectives, void* stream);

  DeviceRuntime* runtime_ = nullptr;
  Shape shape_;
  std::int32_t* overflow_ = nullptr;
  DeviceSlots slots_;
  DeviceBuffer<float> floor_;
  DeviceBuffer<std::int64_t> histogram_, keys_, all_keys_;
  DeviceBuffer<kernels::device::BatchCut> cut_;
};

}  // namespace sae::train
