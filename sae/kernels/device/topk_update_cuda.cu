// TopKUpdate: the state and a chunk's survivors meet in shared memory. Once k entries are known few
// columns reach the least of them: the row is then read in one sweep, without a barrier, and
// whatever survives takes the next free place, for a cut by rank forgets the order. Until then, and
// where there are too many for such a cut, tile by tile.
#include "sae/kernels/device.h"
#include "sae/kernels/device/columns-inl.h"
#include "sae/kernels/device/select.h"
#include "sae/kernels/device/topk-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::ChunkProducts;
using device::TopKUpdateParams;

/// 0 where column j cannot reach `bound`. Ids are read of the few that can.
SAELOOM_DEVICE inline Key ColumnKey(const ChunkProducts& chunk, const float* row, std::int64_t j,
                                    Key bound) {
  if (j >= chunk.columns) return 0;
  const float z = __fmaf_rn(chunk.scale, row[j], chunk.c[j]);
  if (z != z) {
    atomicExch(chunk.finite, 0);
    return 0;
  }
  if (z == kNegativeInfinity || OrderedBits(z) < static_cast<unsigned>(bound >> 32)) return 0;
  return EntryKey(z, chunk.ids != nullptr ? chunk.ids[j] : chunk.first_id + static_cast<int>(j));
}

SAELOOM_DEVICE inline void TakeTile(Block& block, TopKBuffer& buffer, const ChunkProducts& chunk,
                                    const float* row, std::int64_t tile) {
  const std::int64_t base = tile + block.thread;
  buffer.Take(block, [&](int i) {
    return ColumnKey(chunk, row, base + i * kSelectThreads, buffer.bound());
  });
}

/// The columns' keys from the bound on; places from *end, those from kRankCut on counted alone.
SAELOOM_DEVICE inline void Sweep(const Block& block, Key bound, const ChunkProducts& chunk,
                                 const float* row, std::int64_t first, Key* keys, int* end) {
  const float least = OrderedValue(static_cast<unsigned>(bound >> 32));
  VisitFrom(block, chunk, row, static_cast<int>(first), least, [&](int j) {
    const Key key = ColumnKey(chunk, row, j, bound);
    if (key < bound) return;
    const int at = atomicAdd(end, 1);
    if (at < kRankCut) keys[at] = key;
  });
}

struct State {
  float* values;
  std::int32_t* ids;
  std::int32_t* count;
};

/// Of a state that holds k: false where too many survive, with nothing changed.
SAELOOM_DEVICE inline bool UpdateFull(Block& block, const ChunkProducts& chunk, const float* row,
                                      int k, const State& state, Key* keys, int* end) {
  if (block.thread == 0) *end = k;  // shown by Min's barrier
  Key least = ~Key{0};
  for (int i = block.thread; i < k; i += block.threads) {
    const Key key = EntryKey(state.values[i], state.ids[i]);
    keys[i] = key;
    least = key < least ? key : least;
  }
  Sweep(block, block.Min(least) + 1, chunk, row, 0, keys, end);
  SAELOOM_BARRIER(1);
  const int count = *end;
  if (count == k) return true;
  if (count > kRankCut) return false;
  for (int first = 0; first < count; first += block.threads) {
    const int i = first + block.thread;
    if (first + 32 * block.warp >= count) break;  // nothing for the whole warp
    const Key own = i < count ? keys[i] : 0;
    const int rank = RankOf(keys, count, own);
    if (i >= count || rank >= k) continue;
    state.values[rank] = KeyValue(own);
    state.ids[rank] = KeyId(own);
  }
  return true;
}

/// Of any state and any number of survivors.
SAELOOM_DEVICE SAELOOM_NO_INLINE void UpdateAny(ChunkProducts chunk, const float* row, int k,
                                                State state, BlockScratch* scratch, Key* keys,
                                                int* end) {
  Block block(scratch);
  TopKBuffer buffer(keys, k);
  SAELOOM_BARRIER(2);               // *end was read, keys were
  if (block.thread == 0) *end = k;  // shown by the barrier of what sets the bound
  buffer.Load(block, state.values, state.ids, *state.count);
  std::int64_t tile = 0;
  // Until no more than a half of what a cut by rank takes is to be expected of the rest.
  while (tile < chunk.columns &&
         (k >= kRankCut || !buffer.bounded() || k * (chunk.columns - tile) > kRankCut / 2 * tile)) {
    TakeTile(block, buffer, chunk, row, tile);
    tile += kTile;
    if (k < kRankCut && buffer.count() > k) buffer.Cut(block);
  }
  if (tile < chunk.columns) {
    Sweep(block, buffer.bound(), chunk, row, tile, keys, end);
    SAELOOM_BARRIER(3);
    if (*end <= kRankCut) {
      buffer.Placed(*end);
    } else {
      for (; tile < chunk.columns; tile += kTile) TakeTile(block, buffer, chunk, row, tile);
    }
  }
  if (!buffer.changed()) return;
  buffer.Cut(block);
  buffer.Store(block, state.values, state.ids);
  if (block.thread == 0) *state.count = buffer.count();
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads, 4) UpdateKernel(TopKUpdateParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_SHARED(int, end, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  const std::int64_t token = blockIdx.x;
  const int k = static_cast<int>(p.k);
  const State state = {p.values + token * p.k, p.ids + token * p.k, p.counts + token};
  const float* const row = p.chunk.products + token * p.chunk.ld;
  Block block(scratch);
  if (*state.count == k && k < kRankCut && UpdateFull(block, p.chunk, row, k, state, keys, end)) {
    return;
  }
  UpdateAny(p.chunk, row, k, state, scratch, keys, end);
}

}  // namespace

Error TopKUpdate(const TopKUpdateParams& p, void* stream) {
  const ChunkProducts& chunk = p.chunk;
  if (chunk.tokens < 0 || chunk.columns < 0 || chunk.ld < chunk.columns || p.k < 1 ||
      p.k > device::kMaxTopK) {
    return Error::kInvalidArgument;
  }
  if (chunk.tokens == 0 || chunk.columns == 0) return Error::kOk;
  if (chunk.products == nullptr || chunk.c == nullptr || chunk.finite == nullptr ||
      p.values == nullptr || p.ids == nullptr || p.counts == nullptr) {
    return Error::kInvalidArgument;
  }
  const std::size_t shared = static_cast<std::size_t>(TopKRoom(p.k)) * sizeof(Key);
  return SAELOOM_LAUNCH(UpdateKernel, static_cast<unsigned>(chunk.tokens), kSelectThreads, shared,
                        stream, p);
}

}  // namespace sae::kernels::cuda
