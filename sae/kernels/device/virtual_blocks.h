#pragma once
// Sums that are the same at every number of ranks P: the dictionary is cut into V virtual blocks of
// equally many latents, a rank has V / P of them, consecutive ones; each block is summed by itself
// and the blocks are added in order. A block's latents are known by their local ids, ascending,
// which is the order of global ids; orders of additions depend on places in that list alone, never
// on the rank's other blocks. All pointers are device memory; kernels are enqueued on `stream`.
// Row-major, contiguous. NaN propagates. Errors: kInvalidArgument where a size is negative or a
// needed pointer is null. Partners: namespace plain, the same params with host memory
// (virtual_blocks_cpu.cc): the same bits but for BlockSums. Source: numerics 2.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/slots.h"

namespace sae::kernels::device {

/// Of one rank.
struct VirtualBlocks {
  int count = 0;                          ///< own blocks
  std::int64_t latents = 0;               ///< of each
  const std::uint8_t* block = nullptr;    ///< of each local latent, from the rank's first
  const std::int32_t* members = nullptr;  ///< count x latents: local ids, ascending in each block
};

/// parts[v, t] = sum over the entries of token first_token + t that lie in block v and in
/// [first_latent, last_latent) of f_e row_scale_i W_i, from 0, entries ascending, one chain of
/// fused multiply-adds an element. f_e row_scale_i is rounded to float32.
struct DecodeBlocksParams {
  DeviceCodes codes;
  const float* f = nullptr;          ///< decode weights, per entry
  WeightRows w;                      ///< latents x d; lo null: hi alone
  const float* row_scale = nullptr;  ///< latents, or null
  VirtualBlocks blocks;
  std::int32_t first_latent = 0, last_latent = 0x7fffffff;  ///< local ids
  std::int64_t first_token = 0, tokens = 0;
  float* parts = nullptr;  ///< blocks.count x tokens x d
  std::int64_t d = 0;
};

/// out[t] = bias + parts[0, t] + parts[1, t] + ..., from left to right.
struct AddBlocksParams {
  const float* parts = nullptr;  ///< count x tokens x d
  int count = 0;                 ///< blocks of all ranks
  const float* bias = nullptr;   ///< d, or null: 0
  float* out = nullptr;          ///< tokens x d
  std::int64_t tokens = 0, d = 0;
};

/// Parts of a block that its rows are summed in, side by side.
constexpr std::int64_t RowSumParts(std::int64_t latents) {
  return latents < 128 ? 1 : latents < 64 * 64 ? latents / 64 : 64;
}
/// out[v, j] = sum over the block's latents of weights_i W_ij in float64: RowSumParts(latents) runs
/// of the list, ascending, then the runs in order. Rows of weight 0 are not read.
struct BlockRowSumsParams {
  const float* weights = nullptr;  ///< latents
  WeightRows w;                    ///< latents x d, joined where lo is given
  VirtualBlocks blocks;
  std::int64_t d = 0;
  double* scratch = nullptr;  ///< blocks.count RowSumParts(blocks.latents) d
  double* out = nullptr;      ///< blocks.count x d
};

/// Parts of a block that its values are summed in, side by side.
constexpr std::int64_t BlockSumParts(std::int64_t latents) {
  return latents < 1024 ? 1 : latents < 32 * 512 ? latents / 512 : 32;
}
/// out[v] = sum over the block's latents of values_i, in a tree that BlockSumParts(latents) fixes.
struct BlockSumsParams {
  const double* values = nullptr;  ///< latents
  VirtualBlocks blocks;
  double* scratch = nullptr;  ///< blocks.count BlockSumParts(blocks.latents)
  double* out = nullptr;      ///< blocks.count
};

/// out[j] = parts[0, j] + parts[1, j] + ..., from left to right.
struct AddBlockSumsParams {
  const double* parts = nullptr;  ///< count x width
  int count = 0;                  ///< blocks of all ranks
  std::int64_t width = 0;
  double* out = nullptr;
};

/// sums[i] += values[i]^2, exact before the addition.
struct AddSquaresParams {
  const float* values = nullptr;
  std::int64_t count = 0;
  double* sums = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error DecodeBlocks(const device::DecodeBlocksParams& params, void* stream);
[[nodiscard]] Error AddBlocks(const device::AddBlocksParams& params, void* stream);
[[nodiscard]] Error BlockRowSums(const device::BlockRowSumsParams& params, void* stream);
[[nodiscard]] Error BlockSums(const device::BlockSumsParams& params, void* stream);
[[nodiscard]] Error AddBlockSums(const device::AddBlockSumsParams& params, void* stream);
[[nodiscard]] Error AddSquares(const device::AddSquaresParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void DecodeBlocks(const device::DecodeBlocksParams& params);
void AddBlocks(const device::AddBlocksParams& params);
void BlockRowSums(const device::BlockRowSumsParams& params);
void BlockSums(const device::BlockSumsParams& params);
void AddBlockSums(const device::AddBlockSumsParams& params);
void AddSquares(const device::AddSquaresParams& params);
}  // namespace sae::kernels::plain
