#pragma once
// `reduction: fixed` on a device: sums over all latents of all ranks with the same bits at every
// number of ranks P that divides V = kVirtualBlocks, P = 1 included (reconstructor.h is the CPU's
// way). Each rank sums its V / P virtual blocks apart, the blocks are gathered by every rank, and a
// kernel adds them in order (sae/kernels/device/virtual_blocks.h).
//
// Reconstructions go by chunks of FixedChunkTokens tokens through one buffer of V x chunk x d_out
// floats, made once: at most kFixedChunkFloats of them (64 MiB), or V d_out where one token takes
// more. Of each token and reconstruction (main, AuxK's, the gate's, Multi-TopK's, each of
// Matryoshka's groups) a rank sends V / P (P - 1) 4 d_out bytes: V / 2 times what the all-reduce of
// `fast` sends. WeightedRowSum sends V / P (P - 1) 8 d bytes, Total V / P (P - 1) 8.
//
// Everything is enqueued on one stream, and captured where collectives are ordered. Collective:
// every rank makes the same calls. Not thread-safe.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/virtual_blocks.h"
#include "sae/model/shard.h"
#include "sae/train/device/device_buffer.h"
#include "sae/train/device/device_parts.h"
#include "sae/train/engine/reconstructor.h"

namespace sae::train {

inline constexpr std::int64_t kFixedChunkFloats = std::int64_t{1} << 24;
constexpr std::int64_t FixedChunkTokens(std::int64_t tokens, std::int64_t d_out) {
  return std::clamp<std::int64_t>(kFixedChunkFloats / (kVirtualBlocks * d_out), 1,
                                  std::max<std::int64_t>(1, tokens));
}

/// EncodeSchedule::fixed_columns: of the latents of one virtual block, and of dead ones for AuxK.
/// They follow the whole dictionary's size alone.
constexpr std::int64_t FixedColumns(std::int64_t latents) {
  return std::clamp<std::int64_t>(latents / kVirtualBlocks, 1, 8192);
}
constexpr std::int64_t FixedAuxColumns(std::int64_t latents) {
  return std::min<std::int64_t>(FixedColumns(latents), 512);
}

class DeviceReconstructor {
 public:
  struct Shape {
    model::LatentShard shard;
    int rank = 0;
    std::int64_t tokens = 0;  ///< at most, of a call
    std::int64_t d = 0, d_out = 0;
    std::int64_t chunk_tokens = 0;  ///< 0: FixedChunkTokens; where data's size decides: tests
  };
  /// `runtime` and `collectives` are borrowed; the number of ranks divides kVirtualBlocks, which
  /// divides shard.latents.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, const Shape& shape,
                                    DeviceCollectives* collectives, void* stream);
  bool on() const { return collectives_ != nullptr; }

  /// kernels::cuda::Decode over all ranks: decode.parts [groups, tokens, d_out] on every rank,
  /// which all give the same bias.
  [[nodiscard]] absl::Status Run(const kernels::device::DecodeParams& decode);
  /// out [d] = sum over latents of weights_i w_i, in float64.
  [[nodiscard]] absl::Status WeightedRowSum(const float* weights,
                                            const kernels::device::WeightRows& w, double* out);
  /// *out = sum over latents of values_i.
  [[nodiscard]] absl::Status Total(const double* values, double* out);

  /// Of the host: the virtual block of each local latent, from this rank's first, and how many.
  const std::vector<std::uint8_t>& host_blocks() const { return host_blocks_; }
  int own_blocks() const { return blocks_.count; }

 private:
  /// This rank's part of `data`, V equal parts of `count`.
  template <class V>
  V* Own(V* data, std::int64_t count) const {
    return data + shape_.rank * blocks_.count * count;
  }
  template <class V>
  [[nodiscard]] absl::Status Gather(V* data, std::int64_t count);

  Shape shape_;
  DeviceCollectives* collectives_ = nullptr;
  void* stream_ = nullptr;
  std::int64_t chunk_ = 0;
  kernels::device::VirtualBlocks blocks_;
  std::vector<std::uint8_t> host_blocks_;
  DeviceBuffer<std::uint8_t> block_;
  DeviceBuffer<std::int32_t> members_;
  DeviceBuffer<float> parts_;
  DeviceBuffer<double> sums_, scratch_;
};

}  // namespace sae::train
