// AppendAbove: ballots give each survivor its place, so that ids ascend.
#include "sae/kernels/device.h"
#include "sae/kernels/device/columns-inl.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::cuda {
namespace {

using device::AppendAboveParams;
using device::ChunkProducts;

constexpr int kThreads = 256;
constexpr int kGroups = 4;                      ///< of four columns, of a thread in a tile
constexpr int kWarpColumns = 32 * 4 * kGroups;  ///< a warp's are consecutive
constexpr int kTile = kThreads / 32 * kWarpColumns;

/// Whether column j with pre-activation z survives.
SAELOOM_DEVICE inline bool Survives(const AppendAboveParams& p, float floor, std::int64_t j,
                                    float z) {
  const ChunkProducts& chunk = p.chunk;
  if (z != z) {
    atomicExch(chunk.finite, 0);
    return false;
  }
  if (z == kNegativeInfinity) return false;  // an id behind the last row is not read
  if (p.lower == nullptr) return z > floor;
  const float bound = p.lower[chunk.ids != nullptr ? chunk.ids[j] : chunk.first_id + j];
  if (bound != bound) atomicExch(chunk.finite, 0);
  return z > bound;
}

/// Four columns from j on; -infinity behind the last.
SAELOOM_DEVICE inline Four<float> FourOf(const ChunkProducts& chunk, const float* row, bool aligned,
                                         std::int64_t j) {
  Four<float> z;
  if (aligned && j < chunk.columns) {
    const Four<float> x = LoadFour(row + j);
    const Four<float> c = LoadFour(chunk.c + j);
    for (int i = 0; i < 4; ++i) z.of[i] = __fmaf_rn(chunk.scale, x.of[i], c.of[i]);
    return z;
  }
  for (int i = 0; i < 4; ++i) {
    z.of[i] = j + i < chunk.columns ? __fmaf_rn(chunk.scale, row[j + i], chunk.c[j + i])
                                    : kNegativeInfinity;
  }
  return z;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) AppendKernel(AppendAboveParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  const std::int64_t token = blockIdx.x;
  Block block(scratch);
  const ChunkProducts& chunk = p.chunk;
  const float* const row = chunk.products + token * chunk.ld;
  const bool aligned = FourColumns(chunk, row);
  float* const values = p.out.values + token * p.out.capacity;
  std::int32_t* const ids = p.out.ids + token * p.out.capacity;
  const float floor = p.floor != nullptr ? *p.floor : 0.0F;
  std::int64_t count = p.out.counts[token];
  for (std::int64_t tile = 0; tile < chunk.columns; tile += kTile) {
    const std::int64_t first = tile + block.warp * kWarpColumns + 4 * block.lane;
    Four<float> z[kGroups];
    unsigned in[kGroups];  // bit i: column i of the group survives
    int own = 0;
    for (int g = 0; g < kGroups; ++g) z[g] = FourOf(chunk, row, aligned, first + g * 128);
    for (int g = 0; g < kGroups; ++g) {
      in[g] = 0;
      for (int i = 0; i < 4; ++i) {
        if (Survives(p, floor, first + g * 128 + i, z[g].of[i])) in[g] |= 1U << i;
      }
      own += __popc(in[g]);
    }
    std::int64_t total = 0;
    const std::int64_t at = count + block.WarpOffset(__reduce_add_sync(kAllLanes, own), &total);
    count += total;
    if (!__any_sync(kAllLanes, own > 0)) continue;
    std::int64_t group_at = at;
    for (int g = 0; g < kGroups; ++g) {
      int before = 0;
      int in_warp = 0;
      for (int i = 0; i < 4; ++i) {
        const unsigned ballot = __ballot_sync(kAllLanes, (in[g] >> i & 1U) != 0);
        before += block.Before(ballot);
        in_warp += __popc(ballot);
      }
      std::int64_t place = group_at + before;
      for (int i = 0; i < 4; ++i) {
        if ((in[g] >> i & 1U) == 0) continue;
        if (place < p.out.capacity) {
          const std::int64_t j = first + g * 128 + i;
          values[place] = z[g].of[i];
          ids[place] = chunk.ids != nullptr ? chunk.ids[j] : chunk.first_id + static_cast<int>(j);
        }
        ++place;
      }
      group_at += in_warp;
    }
  }
  if (block.thread != 0) return;
  if (count > p.out.capacity) {
    atomicExch(p.out.overflow, 1);
    count = p.out.capacity;
  }
  p.out.counts[token] = static_cast<std::int32_t>(count);
}

}  // namespace

Error AppendAbove(const AppendAboveParams& p, void* stream) {
  const ChunkProducts& chunk = p.chunk;
  if (chunk.tokens < 0 || chunk.columns < 0 || chunk.ld < chunk.columns ||
      p.out.tokens != chunk.tokens || p.out.capacity < 0) {
    return Error::kInvalidArgument;
  }
  if (chunk.tokens == 0 || chunk.columns == 0) return Error::kOk;
  if (chunk.products == nullptr || chunk.c == nullptr || chunk.finite == nullptr ||
      p.out.counts == nullptr || p.out.overflow == nullptr ||
      (p.out.capacity > 0 && (p.out.values == nullptr || p.out.ids == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(AppendKernel, static_cast<unsigned>(chunk.tokens), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
