#pragma once
// One token's columns of a chunk of products, sixteen bytes a load where addresses allow it. For
// kernels alone.

#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/four-inl.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::cuda {

/// Groups of four columns that a thread asks for before it needs the first.
inline constexpr int kColumnGroups = 4;

/// Every address of columns that are a multiple of four is one of sixteen bytes.
SAELOOM_DEVICE inline bool FourColumns(const device::ChunkProducts& chunk, const float* row) {
  return chunk.columns % 4 == 0 && Aligned(row, 16) && Aligned(chunk.c, 16);
}

/// visit(j) for those of the thread's columns in [first, chunk.columns) whose pre-activation is not
/// below `least` (a NaN is not), first a multiple of four.
template <class Visit>
SAELOOM_DEVICE inline void VisitFrom(const Block& block, const device::ChunkProducts& chunk,
                                     const float* row, int first, float least, const Visit& visit) {
  const auto columns = static_cast<int>(chunk.columns);
  if (!FourColumns(chunk, row)) {
    for (int j = first + block.thread; j < columns; j += block.threads) {
      if (!(__fmaf_rn(chunk.scale, row[j], chunk.c[j]) < least)) visit(j);
    }
    return;
  }
  const int step = 4 * block.threads;
  for (int base = first + 4 * block.thread; base < columns; base += kColumnGroups * step) {
    Four<float> x[kColumnGroups], c[kColumnGroups];
    for (int g = 0; g < kColumnGroups; ++g) {
      const int j = base + g * step;
      if (j >= columns) continue;
      x[g] = LoadFour(row + j);
      c[g] = LoadFour(chunk.c + j);
    }
    unsigned found = 0;  // few: one visit's code for all
    for (int g = 0; g < kColumnGroups; ++g) {
      if (base + g * step >= columns) continue;
      for (int i = 0; i < 4; ++i) {
        if (!(__fmaf_rn(chunk.scale, x[g].of[i], c[g].of[i]) < least)) found |= 1U << (4 * g + i);
      }
    }
    for (; found != 0; found &= found - 1) {
      const int bit = __ffs(static_cast<int>(found)) - 1;
      visit(base + bit / 4 * step + bit % 4);
    }
  }
}

}  // namespace sae::kernels::cuda
