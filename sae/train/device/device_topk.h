#pragma once
// Exact top-k over all ranks on the device: a chunked encode with a threshold filter, then values
// of a capacity from each rank, a certificate, and a second round for the tokens it leaves open.
// Serves the main codes, AuxK's, and both of Multi-TopK. Collective. Owns its buffers. Not
// thread-safe. Source: spec numerics.md 3.

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
    std::int64_t narrow = 0;                   ///< below k; above 0: Narrow may follow a Select
  };
  /// `overflow`: the step's flag. `unsafe`: tokens that a second round has room for; 0: by default.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                    std::int32_t* overflow, std::int64_t unsafe);

  /// The positive winners of each token.
  [[nodiscard]] absl::Status Select(kernels::cuda::DeviceLibrary* library,
                                    const kernels::device::EncodeParams& encode,
                                    DeviceCollectives& collectives, DeviceEntries* out,
                                    void* stream);
  /// Of the last Select the `narrow` first.
  [[nodiscard]] absl::Status Narrow(DeviceCollectives& collectives, DeviceEntries* out,
                                    void* stream);

 private:
  /// The k first over all ranks.
  struct Cut {
    std::int64_t k = 0;
    DeviceSlots slots;
    DeviceBuffer<float> values;  // empty: all of the state win
    DeviceBuffer<std::int64_t> ids;
    DeviceBuffer<std::int32_t> unsafe, unsafe_count;
  };

  [[nodiscard]] absl::Status CreateCut(DeviceRuntime& runtime, std::int64_t k, bool all, Cut* cut);
  [[nodiscard]] absl::Status Offer(DeviceCollectives& collectives, void* stream);
  [[nodiscard]] absl::Status FindCut(const Cut& cut, DeviceCollectives& collectives, void* stream);
  [[nodiscard]] absl::Status Winners(const Cut& cut, DeviceEntries* out, void* stream);

  Shape shape_;
  std::int64_t tokens_ = 0;  // of the last Select
  std::int64_t width_ = 0, unsafe_capacity_ = 0;
  std::int32_t* overflow_ = nullptr;
  DeviceBuffer<float> values_;
  DeviceBuffer<std::int32_t> ids_, counts_;
  Cut cut_, narrow_;
  // Where there is a cut to find; of all ranks: where there are more than one.
  DeviceBuffer<float> offered_, all_offered_, second_values_, all_second_values_;
  DeviceBuffer<std::int64_t> second_ids_, all_second_ids_;
};

}  // namespace sae::train
