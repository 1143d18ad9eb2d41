#pragma once
// The codes of all ranks' latents on every rank of a device gang, for a decoder cut by columns (see
// column_codes.h): winners are exchanged as (global id, f) and lie in ascending global id inside a
// token, the same at every number of ranks. What a rank sends has a fixed room, so that a captured
// step can send it: more winners than fit set the step's overflow flag. Of one rank the codes are
// its own. Collective. Owns its buffers; borrows the own codes from Gather to the next. Not
// thread-safe. Bytes a rank contributes to a batch of B tokens with room for C entries of its own,
// and M = min(L C, most) of all ranks': 8 C + 4 (B + 1) for the winners, 4 (8 / L) M for the parts
// of their gradients, 4 C for other values. C is by default 9/8 of a rank's share of a TopK or
// BatchTopK batch, which is B k / L. Source: spec numerics.md 2, performance.md (f).

#include "sae/kernels/device/decoder_columns.h"
#include "sae/train/device/device_codes.h"
#include "sae/train/device/device_parts.h"

namespace sae::train {

class DeviceWinners {
 public:
  struct Shape {
    std::int64_t tokens = 0;        ///< of a batch, at most
    std::int64_t own_capacity = 0;  ///< of the own codes
    std::int64_t room = 0;          ///< C
    std::int64_t most = 0;          ///< entries of all ranks, at most
    std::int64_t latents = 0;       ///< of all ranks
    int ranks = 1, rank = 0;
    const std::int32_t* global_ids = nullptr;  ///< device, of the shard's latents
    bool second = false;                       ///< GatherValues is called
  };
  /// `overflow`: the step's flag.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, const Shape& shape,
                                    std::int32_t* overflow);

  /// `own`: with its index.
  [[nodiscard]] absl::Status Gather(const DeviceEntries& own, DeviceCollectives& collectives,
                                    void* stream);
  /// Other values of the same entries: second() afterwards, by all().
  [[nodiscard]] absl::Status GatherValues(const float* own, DeviceCollectives& collectives,
                                          void* stream);
  /// Of all ranks, with global ids and their index.
  const DeviceEntries& all() const { return shape_.ranks == 1 ? *own_ : merged_; }
  const float* second() const { return second_; }
  /// For the own block's part of each entry's gradient.
  float* part(std::int64_t block) const {
    return parts_.data() + (shape_.rank * own_blocks_ + block) * stride_;
  }
  /// `u`, by all(), or null, and `own_u`, by the own codes: sums of the 8 blocks' parts.
  [[nodiscard]] absl::Status AddParts(float* u, float* own_u, DeviceCollectives& collectives,
                                      void* stream);

 private:
  Shape shape_;
  std::int64_t own_blocks_ = 0, stride_ = 0;
  std::int32_t* overflow_ = nullptr;
  const DeviceEntries* own_ = nullptr;
  const float* second_ = nullptr;
  DeviceEntries merged_;
  DeviceBuffer<std::int32_t> sent_, received_, place_;
  DeviceBuffer<float> parts_, received_values_, placed_;
};

}  // namespace sae::train
