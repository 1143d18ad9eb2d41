#include "sae/train/device/device_reconstructor.h"

#include "sae/base/check.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

namespace {

// Local ids, ascending, of block 0, then of block 1, ...
std::vector<std::int32_t> MembersOf(const std::vector<std::uint8_t>& block, int blocks) {
  std::vector<std::size_t> at(static_cast<std::size_t>(blocks));
  for (std::size_t v = 0; v < at.size(); ++v) at[v] = v * block.size() / at.size();
  std::vector<std::int32_t> members(block.size());
  for (std::size_t i = 0; i < block.size(); ++i)
    members[at[block[i]]++] = static_cast<std::int32_t>(i);
  return members;
}

}  // namespace

absl::Status DeviceReconstructor::Create(DeviceRuntime& runtime, const Shape& shape,
                                         DeviceCollectives* collectives, void* stream) {
  SAE_CHECK_MSG(
      kVirtualBlocks % collectives->size() == 0 && shape.shard.latents % kVirtualBlocks == 0,
      "%d ranks, %ld latents", collectives->size(), static_cast<long>(shape.shard.latents));
  shape_ = shape;
  stream_ = stream;
  chunk_ =
      shape.chunk_tokens > 0 ? shape.chunk_tokens : FixedChunkTokens(shape.tokens, shape.d_out);
  const auto own = static_cast<int>(kVirtualBlocks / collectives->size());
  host_blocks_ = model::VirtualBlocks(shape.shard, kVirtualBlocks);
  for (std::uint8_t& block : host_blocks_)
    block = static_cast<std::uint8_t>(block - own * shape.rank);
  const std::vector<std::int32_t> members = MembersOf(host_blocks_, own);
  const std::int64_t n = shape.shard.count, each = shape.shard.latents / kVirtualBlocks;
  SAE_RETURN_IF_ERROR(block_.Create(runtime, n, "virtual blocks"));
  SAE_RETURN_IF_ERROR(members_.Create(runtime, n, "latents of virtual blocks"));
  SAE_RETURN_IF_ERROR(
      parts_.Create(runtime, kVirtualBlocks * chunk_ * shape.d_out, "blocks of reconstructions"));
  SAE_RETURN_IF_ERROR(sums_.Create(runtime, kVirtualBlocks * shape.d, "sums of blocks"));
  SAE_RETURN_IF_ERROR(scratch_.Create(
      runtime,
      own *
          std::max<std::int64_t>(device::RowSumParts(each) * shape.d, device::BlockSumParts(each)),
      "scratch of blocks"));
  SAE_RETURN_IF_ERROR(
      runtime.CopyAsync(block_.data(), host_blocks_.data(), block_.bytes(), stream));
  SAE_RETURN_IF_ERROR(runtime.CopyAsync(members_.data(), members.data(), members_.bytes(), stream));
  SAE_RETURN_IF_ERROR(runtime.Synchronize(stream));
  blocks_ = {own, each, block_.data(), members_.data()};
  collectives_ = collectives;
  return absl::OkStatus();
}

template <class V>
absl::Status DeviceReconstructor::Gather(V* data, std::int64_t count) {
  if (collectives_->size() == 1) return absl::OkStatus();
  return collectives_->ShareParts(data, kVirtualBlocks * count * std::int64_t{sizeof(V)});
}

absl::Status DeviceReconstructor::Run(const device::DecodeParams& decode) {
  const std::int64_t all = decode.codes.tokens, d = shape_.d_out;
  for (std::int64_t first = 0; first < all; first += chunk_) {
    const std::int64_t tokens = std::min(chunk_, all - first);
    for (int g = 0; g < decode.groups.count; ++g) {
      device::DecodeBlocksParams blocks;
      blocks.codes = decode.codes;
      blocks.f = decode.f;
      blocks.w = decode.w;
      blocks.row_scale = decode.row_scale;
      blocks.blocks = blocks_;
      blocks.first_latent = g == 0 ? 0 : decode.groups.last[g - 1];
      blocks.last_latent = decode.groups.last[g];
      blocks.first_token = first;
      blocks.tokens = tokens;
      blocks.parts = Own(parts_.data(), tokens * d);
      blocks.d = d;
      SAE_RETURN_IF_ERROR(Launched(cuda::DecodeBlocks(blocks, stream_), "DecodeBlocks"));
      SAE_RETURN_IF_ERROR(Gather(parts_.data(), tokens * d));
      device::AddBlocksParams add;
      add.parts = parts_.data();
      add.count = kVirtualBlocks;
      add.bias = g == 0 ? decode.bias : nullptr;
      add.out = decode.parts + (g * all + first) * d;
      add.tokens = tokens;
      add.d = d;
      SAE_RETURN_IF_ERROR(Launched(cuda::AddBlocks(add, stream_), "AddBlocks"));
    }
  }
  return absl::OkStatus();
}

absl::Status DeviceReconstructor::WeightedRowSum(const float* weights, const device::WeightRows& w,
                                                 double* out) {
  device::BlockRowSumsParams rows;
  rows.weights = weights;
  rows.w = w;
  rows.blocks = blocks_;
  rows.d = shape_.d;
  rows.scratch = scratch_.data();
  rows.out = Own(sums_.data(), shape_.d);
  SAE_RETURN_IF_ERROR(Launched(cuda::BlockRowSums(rows, stream_), "BlockRowSums"));
  SAE_RETURN_IF_ERROR(Gather(sums_.data(), shape_.d));
  const device::AddBlockSumsParams add{sums_.data(), kVirtualBlocks, shape_.d, out};
  return Launched(cuda::AddBlockSums(add, stream_), "AddBlockSums");
}

absl::Status DeviceReconstructor::Total(const double* values, double* out) {
  const device::BlockSumsParams sums{values, blocks_, scratch_.data(), Own(sums_.data(), 1)};
  SAE_RETURN_IF_ERROR(Launched(cuda::BlockSums(sums, stream_), "BlockSums"));
  SAE_RETURN_IF_ERROR(Gather(sums_.data(), 1));
  const device::AddBlockSumsParams add{sums_.data(), kVirtualBlocks, 1, out};
  return Launched(cuda::AddBlockSums(add, stream_), "AddBlockSums");
}

}  // namespace sae::train
