// Bounds: a warp a row. Screen: a block a token, its list in shared memory. Rescore: half a warp a
// candidate, whose 16 lanes are ReferenceDot's.
#include "sae/kernels/device.h"
#include "sae/kernels/device/bounds-inl.h"
#include "sae/kernels/device/certified-inl.h"
#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/row_visit-inl.h"
#include "sae/kernels/device/topk-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::ChunkProducts;
using device::LatentBoundsParams;
using device::RescoreParams;
using device::ScreenChunkParams;
using device::TokenBoundsParams;
using device::WeightRows;

constexpr int kRowsPerBlock = kSelectThreads / 32;

SAELOOM_DEVICE inline std::int64_t RowOfWarp() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / 32;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) LatentKernel(LatentBoundsParams p) {
  const std::int64_t i = RowOfWarp();
  if (i >= p.latents) return;
  double exact = 0;
  double residual = 0;
  VisitRow(p.w, i, p.d, [&](std::int64_t, float weight, std::uint16_t hi) {
    const auto value = static_cast<double>(weight);
    const double rest = value - static_cast<double>(Bf16ToFloat(hi));
    exact = __fma_rn(value, value, exact);
    residual = __fma_rn(rest, rest, residual);
  });
  exact = WarpSum(exact);
  residual = WarpSum(residual);
  if (threadIdx.x % 32 != 0) return;
  device::LatentBound(exact, residual, static_cast<double>(p.c[i]), p.out.norm + i,
                      p.out.residual + i, p.out.margin + i);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) TokenKernel(TokenBoundsParams p) {
  const std::int64_t t = RowOfWarp();
  if (t >= p.tokens) return;
  double exact = 0;
  double residual = 0;
  for (std::int64_t base = 4 * (threadIdx.x % 32); base < p.d; base += 128) {
    for (std::int64_t j = base; j < base + 4 && j < p.d; ++j) {
      const float x = p.x[t * p.d + j];
      const auto value = static_cast<double>(x);
      const double rest = value - static_cast<double>(Bf16ToFloat(FloatToBf16(x)));
      exact = __fma_rn(value, value, exact);
      residual = __fma_rn(rest, rest, residual);
    }
  }
  exact = WarpSum(exact);
  residual = WarpSum(residual);
  if (threadIdx.x % 32 != 0) return;
  device::TokenBound(exact, residual, p.d, p.scale, p.out.of_residual + t, p.out.of_norm + t,
                     p.out.extra + t);
}

/// One token's list in shared memory.
struct List {
  float* upper;
  float* lower;
  std::int32_t* ids;
  int count;
  unsigned floor;  ///< OrderedBits of a value that k lower ends reach
};

/// Raises the floor to the k-th largest lower end and drops what does not reach it.
SAELOOM_DEVICE inline void Raise(Block& block, int k, List* list) {
  SAELOOM_BARRIER(1);
  const float* const lower = list->lower;
  if (list->count >= k) {
    const RadixCut cut = block.Largest(list->count, k, 32, 0, true, [lower](std::int64_t i) {
      return static_cast<Key>(OrderedBits(lower[i]));
    });
    const auto reached = static_cast<unsigned>(cut.bound);
    list->floor = reached > list->floor ? reached : list->floor;
  }
  int kept = 0;
  for (int base = 0; base < list->count; base += block.threads) {
    const int i = base + block.thread;
    float upper = 0;
    float low = 0;
    std::int32_t id = 0;
    bool keep = false;
    if (i < list->count) {
      upper = list->upper[i];
      low = lower[i];
      id = list->ids[i];
      keep = OrderedBits(upper) >= list->floor;
    }
    const unsigned ballot = __ballot_sync(kAllLanes, keep);
    std::int64_t total = 0;
    const int at =
        kept + static_cast<int>(block.WarpOffset(__popc(ballot), &total)) + block.Before(ballot);
    if (keep) {  // at or before what was read
      list->upper[at] = upper;
      list->lower[at] = low;
      list->ids[at] = id;
    }
    kept += static_cast<int>(total);
  }
  list->count = kept;
  SAELOOM_BARRIER(2);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) ScreenChunkKernel(ScreenChunkParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_DYNAMIC_SHARED(float, memory);
  const std::int64_t token = blockIdx.x;
  const int count = p.lists.counts[token];
  if (count < 0) return;  // the whole block
  const bool screens = p.tokens.of_norm[token] < kInfinity;
  Block block(scratch);
  const int limit = static_cast<int>(p.lists.limit);
  const int room = limit + kTile;
  const int k = static_cast<int>(p.k);
  List list = {memory, memory + room, reinterpret_cast<std::int32_t*>(memory + 2 * room), count,
               p.lists.floors[token]};
  for (int i = block.thread; i < count; i += block.threads) {
    list.upper[i] = p.lists.upper[token * limit + i];
    list.lower[i] = p.lists.lower[token * limit + i];
    list.ids[i] = p.lists.ids[token * limit + i];
  }
  bool whole = !screens;
  bool changed = false;
  for (std::int64_t base = 0; base < p.chunk.columns && !whole;) {
    Interval own[4];
    unsigned ballots[4];
    int in_warp = 0;
    for (int i = 0; i < 4; ++i) {
      own[i] =
          Enclose(p.chunk, p.latents, p.tokens, token, base + i * kSelectThreads + block.thread);
      own[i].there = own[i].there && OrderedBits(own[i].upper) >= list.floor;
      ballots[i] = __ballot_sync(kAllLanes, own[i].there);
      in_warp += __popc(ballots[i]);
    }
    std::int64_t total = 0;
    int at = list.count + static_cast<int>(block.WarpOffset(in_warp, &total));
    if (list.count + total > room) {
      Raise(block, k, &list);
      whole = list.count > limit;
      continue;
    }
    for (int i = 0; i < 4; ++i) {
      if (own[i].there) {
        const int place = at + block.Before(ballots[i]);
        list.lower[place] = own[i].lower;
        list.upper[place] = own[i].upper;
        list.ids[place] =
            p.chunk.first_id + static_cast<int>(base + i * kSelectThreads + block.thread);
      }
      at += __popc(ballots[i]);
    }
    list.count += static_cast<int>(total);
    changed = changed || total > 0;
    base += kTile;
  }
  if (!whole && !changed) return;
  if (!whole) {
    Raise(block, k, &list);
    whole = list.count > limit;
  }
  if (block.thread == 0) {
    p.lists.counts[token] = whole ? -1 : list.count;
    p.lists.floors[token] = list.floor;
  }
  for (int i = block.thread; i < list.count && !whole; i += block.threads) {
    p.lists.upper[token * limit + i] = list.upper[i];
    p.lists.lower[token * limit + i] = list.lower[i];
    p.lists.ids[token * limit + i] = list.ids[i];
  }
}

/// The key of latent i in the first lane of each half warp, else undefined; 0 for NaN and
/// -infinity.
SAELOOM_DEVICE inline Key ReferenceKey(const RescoreParams& p, std::int64_t token, std::int64_t i,
                                       bool live) {
  const float dot = HalfWarpDot(p.w, i, p.x + token * p.d, p.d, live);
  if (!live || threadIdx.x % 16 != 0) return 0;
  const float z = __fmaf_rn(p.scale, dot, p.c[i]);
  if (z != z) atomicExch(p.finite, 0);
  return z > kNegativeInfinity ? EntryKey(z, static_cast<std::int32_t>(i)) : 0;
}

SAELOOM_DEVICE inline void StoreState(Block& block, TopKBuffer& buffer, const RescoreParams& p,
                                      std::int64_t token) {
  buffer.Cut(block);
  buffer.Store(block, p.values + token * p.k, p.ids + token * p.k);
  if (block.thread == 0) p.counts[token] = buffer.count();
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) RescoreKernel(RescoreParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  const std::int64_t token = blockIdx.x;
  const int count = p.lists.counts[token];
  if (count < 0) return;
  Block block(scratch);
  // Rows of NaN make no key: places come from ballots, in rounds of 16 candidates.
  TopKBuffer buffer(keys, static_cast<int>(p.k));
  int taken = 0;
  for (int base = 0; base < count; base += kSelectThreads / 16) {
    const int at = base + block.thread / 16;
    const bool live = at < count;
    const std::int64_t id = live ? p.lists.ids[token * p.lists.limit + at] : 0;
    const Key key = ReferenceKey(p, token, id, live);
    const unsigned ballot = __ballot_sync(kAllLanes, key != 0);
    std::int64_t total = 0;
    const int place = taken + static_cast<int>(block.WarpOffset(__popc(ballot), &total));
    if (key != 0) keys[place + block.Before(ballot)] = key;
    taken += static_cast<int>(total);
  }
  buffer.Adopt(taken);
  StoreState(block, buffer, p, token);
  if (block.thread == 0 && p.stats != nullptr) Count(&p.stats->candidates, count);
}

/// Tokens without a list, dealt to the blocks in turn; a row of z at a time in shared memory.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) WholeKernel(RescoreParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_SHARED(Key, row, kTile);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  Block block(scratch);
  for (std::int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x) {
    if (p.lists.counts[token] >= 0) continue;
    TopKBuffer buffer(keys, static_cast<int>(p.k));
    for (std::int64_t base = 0; base < p.latents; base += kTile) {
      for (int at = block.thread / 16; at < kTile; at += kSelectThreads / 16) {
        const Key key = ReferenceKey(p, token, base + at, base + at < p.latents);
        if (block.thread % 16 == 0) row[at] = key;
      }
      SAELOOM_BARRIER(3);
      // Its last barrier comes after all have read `row`.
      buffer.Take(block, [&](int i) { return row[i * kSelectThreads + block.thread]; });
    }
    StoreState(block, buffer, p, token);
    if (block.thread == 0 && p.stats != nullptr) Count(&p.stats->whole, 1);
  }
}

unsigned RowBlocks(std::int64_t rows) {
  return static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock);
}

bool Valid(const device::CandidateLists& lists, std::int64_t k) {
  return k >= 1 && k <= device::kMaxTopK && lists.limit >= k &&
         lists.limit <= device::kMaxCandidates && lists.upper != nullptr &&
         lists.lower != nullptr && lists.ids != nullptr && lists.counts != nullptr &&
         lists.floors != nullptr;
}

}  // namespace

Error BoundLatents(const LatentBoundsParams& p, void* stream) {
  if (p.latents < 0 || p.d < 1) return Error::kInvalidArgument;
  if (p.latents == 0) return Error::kOk;
  if (p.w.hi == nullptr || p.c == nullptr || p.out.norm == nullptr || p.out.residual == nullptr ||
      p.out.margin == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(LatentKernel, RowBlocks(p.latents), kSelectThreads, 0, stream, p);
}

Error BoundTokens(const TokenBoundsParams& p, void* stream) {
  if (p.tokens < 0 || p.d < 1) return Error::kInvalidArgument;
  if (p.tokens == 0) return Error::kOk;
  if (p.x == nullptr || p.out.of_residual == nullptr || p.out.of_norm == nullptr ||
      p.out.extra == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(TokenKernel, RowBlocks(p.tokens), kSelectThreads, 0, stream, p);
}

Error ScreenChunk(const ScreenChunkParams& p, void* stream) {
  const ChunkProducts& chunk = p.chunk;
  if (chunk.tokens < 0 || chunk.columns < 0 || chunk.ld < chunk.columns || chunk.ids != nullptr)
    return Error::kInvalidArgument;
  if (chunk.tokens == 0 || chunk.columns == 0) return Error::kOk;
  if (!Valid(p.lists, p.k) || chunk.products == nullptr || chunk.c == nullptr ||
      p.latents.norm == nullptr || p.latents.residual == nullptr || p.latents.margin == nullptr ||
      p.tokens.of_residual == nullptr || p.tokens.of_norm == nullptr || p.tokens.extra == nullptr) {
    return Error::kInvalidArgument;
  }
  const std::size_t shared = static_cast<std::size_t>(p.lists.limit + kTile) * 12;
  return SAELOOM_LAUNCH(ScreenChunkKernel, static_cast<unsigned>(chunk.tokens), kSelectThreads,
                        shared, stream, p);
}

Error Rescore(const RescoreParams& p, void* stream) {
  if (p.latents < 0 || p.d < 1 || p.tokens < 0) return Error::kInvalidArgument;
  if (p.tokens == 0) return Error::kOk;
  if (!Valid(p.lists, p.k) || p.w.hi == nullptr || p.c == nullptr || p.x == nullptr ||
      p.values == nullptr || p.ids == nullptr || p.counts == nullptr || p.finite == nullptr) {
    return Error::kInvalidArgument;
  }
  const Error error =
      SAELOOM_LAUNCH(RescoreKernel, static_cast<unsigned>(p.tokens), kSelectThreads,
                     static_cast<std::size_t>(p.lists.limit) * sizeof(Key), stream, p);
  if (error != Error::kOk) return error;
  const unsigned blocks = p.tokens < kWholeBlocks ? static_cast<unsigned>(p.tokens) : kWholeBlocks;
  return SAELOOM_LAUNCH(WholeKernel, blocks, kSelectThreads,
                        static_cast<std::size_t>(TopKRoom(p.k)) * sizeof(Key), stream, p);
}

}  // namespace sae::kernels::cuda
