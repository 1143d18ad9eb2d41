// TopKUpdate: the state and a chunk's survivors meet in shared memory.
#include "sae/kernels/device.h"
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

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kSelectThreads) UpdateKernel(TopKUpdateParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  const std::int64_t token = blockIdx.x;
  Block block(scratch);
  TopKBuffer buffer(keys, static_cast<int>(p.k));
  float* const values = p.values + token * p.k;
  std::int32_t* const ids = p.ids + token * p.k;
  buffer.Load(block, values, ids, p.counts[token]);
  const float* const row = p.chunk.products + token * p.chunk.ld;
  for (std::int64_t base = block.thread; base - block.thread < p.chunk.columns; base += kTile) {
    buffer.Take(block, [&](int i) {
      return ColumnKey(p.chunk, row, base + i * kSelectThreads, buffer.bound());
    });
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
