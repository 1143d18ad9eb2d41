// A block a token; ballots keep ids ascending. Half a warp a candidate.
#include "sae/kernels/device.h"
#include "sae/kernels/device/certified-inl.h"
#include "sae/kernels/device/certified_above.h"

namespace sae::kernels::cuda {
namespace {

using device::ChunkProducts;
using device::RescoreAboveParams;
using device::ScreenAboveParams;

constexpr int kThreads = 256;
constexpr int kEach = 4;  ///< columns of a thread in a tile; a warp's are consecutive
constexpr int kTile = kThreads * kEach;
constexpr int kAtOnce = kThreads / 16;  ///< candidates

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) ScreenKernel(ScreenAboveParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  const std::int64_t token = blockIdx.x;
  std::int64_t count = p.out.counts[token];
  if (count < 0) return;  // the whole block
  if (!(p.tokens.of_norm[token] < kInfinity)) {
    if (threadIdx.x == 0) p.out.counts[token] = -1;
    return;
  }
  Block block(scratch);
  const std::int64_t at_token = token * p.out.capacity;
  const float floor = p.floor != nullptr ? *p.floor : 0.0F;
  for (std::int64_t tile = 0; tile < p.chunk.columns; tile += kTile) {
    const std::int64_t first = tile + block.warp * 32 * kEach + block.lane;
    Interval own[kEach];
    unsigned ballots[kEach];
    int in_warp = 0;
    for (int i = 0; i < kEach; ++i) {
      const std::int64_t j = first + i * 32;
      own[i] = Enclose(p.chunk, p.latents, p.tokens, token, j);
      if (own[i].there) {
        const float bound = p.lower != nullptr ? p.lower[p.chunk.first_id + j] : floor;
        if (bound != bound) atomicExch(p.chunk.finite, 0);
        own[i].there = own[i].upper > bound;
      }
      ballots[i] = __ballot_sync(kAllLanes, own[i].there);
      in_warp += __popc(ballots[i]);
    }
    std::int64_t total = 0;
    std::int64_t at = count + block.WarpOffset(in_warp, &total);
    for (int i = 0; i < kEach; ++i) {
      const std::int64_t place = at + block.Before(ballots[i]);
      if (own[i].there && place < p.out.capacity) {
        p.out.values[at_token + place] = own[i].upper;
        p.out.ids[at_token + place] = p.chunk.first_id + static_cast<int>(first + i * 32);
        if (p.lower_ends != nullptr) p.lower_ends[at_token + place] = own[i].lower;
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

/// z of latent i in the first lane of each half warp that is live, else -infinity; NaN is reported.
SAELOOM_DEVICE inline float ReferenceOf(const RescoreAboveParams& p, std::int64_t token,
                                        std::int64_t i, bool live) {
  const float dot = HalfWarpDot(p.w, i, p.x + token * p.d, p.d, live);
  if (!live || threadIdx.x % 16 != 0) return kNegativeInfinity;
  const float z = __fmaf_rn(p.scale, dot, p.c[i]);
  if (z != z) atomicExch(p.finite, 0);
  return z;
}

SAELOOM_DEVICE inline bool Above(const RescoreAboveParams& p, float z, std::int64_t i) {
  if (!(z > kNegativeInfinity)) return false;
  return z > (p.lower != nullptr ? p.lower[i] : p.floor != nullptr ? *p.floor : 0.0F);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) RescoreKernel(RescoreAboveParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  const std::int64_t token = blockIdx.x;
  const int count = p.slots.counts[token];
  if (count < 0) return;  // the whole block
  Block block(scratch);
  float* const values = p.slots.values + token * p.slots.capacity;
  std::int32_t* const ids = p.slots.ids + token * p.slots.capacity;
  std::int64_t kept = 0;
  for (int base = 0; base < count; base += kAtOnce) {
    const int at = base + block.thread / 16;
    const std::int32_t id = at < count ? ids[at] : 0;
    const float z = ReferenceOf(p, token, id, at < count);
    const bool keep = Above(p, z, id);
    const unsigned ballot = __ballot_sync(kAllLanes, keep);
    std::int64_t total = 0;
    const std::int64_t to = kept + block.WarpOffset(__popc(ballot), &total) + block.Before(ballot);
    if (keep) {  // at or before what was read
      values[to] = z;
      ids[to] = id;
    }
    kept += total;
  }
  if (block.thread != 0) return;
  p.slots.counts[token] = static_cast<std::int32_t>(kept);
  if (p.stats != nullptr) Count(&p.stats->candidates, count);
}

/// After it: tokens with count -1, dealt to the blocks in turn; a tile of z at a time in shared
/// memory.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) WholeKernel(RescoreAboveParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_SHARED(float, row, kTile);
  Block block(scratch);
  for (std::int64_t token = blockIdx.x; token < p.slots.tokens; token += gridDim.x) {
    if (p.slots.counts[token] >= 0) continue;
    std::int64_t count = 0;
    for (std::int64_t tile = 0; tile < p.latents; tile += kTile) {
      for (int at = block.thread / 16; at < kTile; at += kAtOnce) {
        const float z = ReferenceOf(p, token, tile + at, tile + at < p.latents);
        if (block.thread % 16 == 0) row[at] = z;
      }
      SAELOOM_BARRIER(1);
      const int first = block.warp * 32 * kEach + block.lane;
      float z[kEach];
      unsigned ballots[kEach];
      int in_warp = 0;
      for (int i = 0; i < kEach; ++i) {
        z[i] = row[first + i * 32];
        ballots[i] = __ballot_sync(kAllLanes, Above(p, z[i], tile + first + i * 32));
        in_warp += __popc(ballots[i]);
      }
      std::int64_t total = 0;  // its barrier: all have read `row`
      std::int64_t at = count + block.WarpOffset(in_warp, &total);
      for (int i = 0; i < kEach; ++i) {
        const std::int64_t place = at + block.Before(ballots[i]);
        if ((ballots[i] >> block.lane & 1U) != 0 && place < p.slots.capacity) {
          p.slots.values[token * p.slots.capacity + place] = z[i];
          p.slots.ids[token * p.slots.capacity + place] =
              static_cast<std::int32_t>(tile + first + i * 32);
        }
        at += __popc(ballots[i]);
      }
      count += total;
    }
    if (block.thread != 0) continue;
    if (count > p.slots.capacity) {
      atomicExch(p.slots.overflow, 1);
      count = p.slots.capacity;
    }
    p.slots.counts[token] = static_cast<std::int32_t>(count);
    if (p.stats != nullptr) Count(&p.stats->whole, 1);
  }
}

bool Valid(const device::Slots& slots) {
  return slots.counts != nullptr && slots.overflow != nullptr &&
         (slots.capacity == 0 || (slots.values != nullptr && slots.ids != nullptr));
}

}  // namespace

Error ScreenAbove(const ScreenAboveParams& p, void* stream) {
  const ChunkProducts& chunk = p.chunk;
  if (chunk.tokens < 0 || chunk.columns < 0 || chunk.ld < chunk.columns || chunk.ids != nullptr ||
      p.out.tokens != chunk.tokens || p.out.capacity < 0) {
    return Error::kInvalidArgument;
  }
  if (chunk.tokens == 0 || chunk.columns == 0) return Error::kOk;
  if (!Valid(p.out) || chunk.products == nullptr || chunk.c == nullptr || chunk.finite == nullptr ||
      p.latents.norm == nullptr || p.latents.residual == nullptr || p.latents.margin == nullptr ||
      p.tokens.of_residual == nullptr || p.tokens.of_norm == nullptr || p.tokens.extra == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(ScreenKernel, static_cast<unsigned>(chunk.tokens), kThreads, 0, stream, p);
}

Error RescoreAbove(const RescoreAboveParams& p, void* stream) {
  if (p.latents < 0 || p.d < 1 || p.slots.tokens < 0 || p.slots.capacity < 0)
    return Error::kInvalidArgument;
  if (p.slots.tokens == 0) return Error::kOk;
  if (!Valid(p.slots) || p.w.hi == nullptr || p.c == nullptr || p.x == nullptr ||
      p.finite == nullptr) {
    return Error::kInvalidArgument;
  }
  const auto tokens = static_cast<unsigned>(p.slots.tokens);
  const Error error = SAELOOM_LAUNCH(RescoreKernel, tokens, kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(WholeKernel, tokens < kWholeBlocks ? tokens : kWholeBlocks, kThreads, 0,
                        stream, p);
}

}  // namespace sae::kernels::cuda
