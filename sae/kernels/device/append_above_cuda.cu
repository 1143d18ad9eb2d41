// AppendAbove: ballots give each survivor its place, so that ids ascend.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::cuda {
namespace {

using device::AppendAboveParams;
using device::ChunkProducts;

constexpr int kThreads = 256;
constexpr int kEach = 4;  ///< columns of a thread in a tile; a warp's are consecutive

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) AppendKernel(AppendAboveParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  const std::int64_t token = blockIdx.x;
  Block block(scratch);
  const ChunkProducts& chunk = p.chunk;
  const float* const row = chunk.products + token * chunk.ld;
  float* const values = p.out.values + token * p.out.capacity;
  std::int32_t* const ids = p.out.ids + token * p.out.capacity;
  const float floor = p.floor != nullptr ? *p.floor : 0.0F;
  std::int64_t count = p.out.counts[token];
  for (std::int64_t tile = 0; tile < chunk.columns; tile += kThreads * kEach) {
    const std::int64_t first = tile + block.warp * 32 * kEach + block.lane;
    float z[kEach];
    std::int32_t id[kEach];
    unsigned ballots[kEach];
    int in_warp = 0;
    for (int i = 0; i < kEach; ++i) {
      const std::int64_t j = first + i * 32;
      bool in = false;
      if (j < chunk.columns) {
        z[i] = __fmaf_rn(chunk.scale, row[j], chunk.c[j]);
        if (z[i] != z[i]) {
          atomicExch(chunk.finite, 0);
        } else if (z[i] != kNegativeInfinity) {  // an id behind the last row is not read
          id[i] = chunk.ids != nullptr ? chunk.ids[j] : chunk.first_id + static_cast<int>(j);
          const float bound = p.lower != nullptr ? p.lower[id[i]] : floor;
          if (bound != bound) atomicExch(chunk.finite, 0);
          in = z[i] > bound;
        }
      }
      ballots[i] = __ballot_sync(kAllLanes, in);
      in_warp += __popc(ballots[i]);
    }
    std::int64_t total = 0;
    std::int64_t at = count + block.WarpOffset(in_warp, &total);
    for (int i = 0; i < kEach; ++i) {
      const std::int64_t place = at + block.Before(ballots[i]);
      if ((ballots[i] >> block.lane & 1U) != 0 && place < p.out.capacity) {
        values[place] = z[i];
        ids[place] = id[i];
      }
      at += __popc(ballots[i]);
    }
    count += total;
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
