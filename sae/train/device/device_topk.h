#pragma once
// Exact top-k over all ranks on the device: a chunked encode with a threshold filter, then values
// of a capacity from each rank, a certificate, and a second round for the tokens it leaves open.
// Serves the main codes and AuxK's. Collective. Owns its buffers. Not thread-safe. Source: spec
// numerics.md 3.

#include "sae/kernels/device/encode.h"
#include "sae/train/device/device_codes.h"
#include "sae/train/device/device_parts.h"

namespace sae::train {

class DeviceTopK {
 public:
  struct Shape {
    std::int64_t tokens = 0;  ///< of a batch, at most
    std::int64_t k = 0;
    const std::int32_t* global_ids = nullptr;  ///< device, of the shard's latents
    bool certified = false;                    ///< z by the definition of `selection: certified`
  };
  /// `overflow`: the step's flag. `unsafe`: tokens that a second round has room for; 0: by default.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                    std::int32_t* overflow, std::int64_t unsafe);

  /// The positive winners of each token.
  [[nodiscard]] absl::Status Select(kernels::cuda::DeviceLibrary* library,
                                    const kernels::device::EncodeParams& encode,
                                    DeviceCollectives& collectives, DeviceEntries* out,
                                    void* stream);

 private:
  [[nodiscard]] absl::Status GlobalCut(std::int64_t tokens, DeviceCollectives& collectives,
                                       void* stream);

  Shape shape_;
  std::int64_t width_ = 0, unsafe_capacity_ = 0;
  std::int32_t* overflow_ = nullptr;
  DeviceBuffer<float> values_;
  DeviceBuffer<std::int32_t> ids_, counts_;
  DeviceSlots slots_;
  // More than one rank.
  DeviceBuffer<float> offered_, all_offered_, cut_values_, second_values_, all_second_values_;
  DeviceBuffer<std::int64_t> cut_ids_, second_ids_, all_second_ids_;
  DeviceBuffer<std::int32_t> unsafe_, unsafe_count_;
};

}  // namespace sae::train
