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

/// Columns from `first` on, with a bound; places behind the buffer's come from *end. Those from
/// kRankCut on are counted alone.
SAELOOM_DEVICE inline void Sweep(const Block& block, TopKBuffer& buffer, const ChunkProducts& chunk,
                                 const float* row, std::int64_t first, int* end) {
  const float least = OrderedValue(static_cast<unsigned>(buffer.bound() >> 32));
  VisitFrom(block, chunk, row, static_cast<int>(first), least, [&](int j) {
    const Key key = ColumnKey(chunk, row, j, buffer.bound());
    if (key < buffer.bound()) return;
    const int at = atomicAdd(end, 1);
    if (at < kRankCut) buffer.Place(at, key);
  });
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) UpdateKernel(TopKUpdateParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_SHARED(int, end, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  const std::int64_t token = blockIdx.x;
  const int k = static_cast<int>(p.k);
  Block block(scratch);
  TopKBuffer buffer(keys, k);
  float* const values = p.values + token * p.k;
  std::int32_t* const ids = p.ids + token * p.k;
  if (block.thread == 0) *end = k;  // shown by the barrier of what sets the bound
  buffer.Load(block, values, ids, p.counts[token]);
  const float* const row = p.chunk.products + token * p.chunk.ld;
  std::int64_t tile = 0;
  for (; tile < p.chunk.columns && (k >= kRankCut || !buffer.bounded()); tile += kTile) {
    TakeTile(block, buffer, p.chunk, row, tile);
    if (!buffer.bounded() && buffer.count() > k) buffer.Cut(block);
  }
  if (tile < p.chunk.columns) {
    Sweep(block, buffer, p.chunk, row, tile, end);
    SAELOOM_BARRIER(1);
    if (*end <= kRankCut) {
      buffer.Placed(*end);
    } else {
      for (; tile < p.chunk.columns; tile += kTile) TakeTile(block, buffer, p.chunk, row, tile);
    }
  }
  if (!buffer.changed()) return;
  buffer.Cut(block);
  buffer.Store(block, values, ids);
  if (block.thread == 0) p.counts[token] = buffer.count();
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
