#pragma once
// Transposed copies of row-major matrices, in cache-sized tiles. Thread-safe on distinct outputs.

#include <algorithm>
#include <cstdint>

#include "sae/base/parallel.h"

namespace sae::train {

/// out[c, r] = in[r, c]; ld_out >= rows.
template <class T>
void Transpose(const T* in, std::int64_t rows, std::int64_t columns, T* out, std::int64_t ld_out,
               ThreadPool& pool) {
  constexpr std::int64_t kTile = 32;
  pool.ParallelFor((columns + kTile - 1) / kTile, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t c_end = std::min(columns, (tile + 1) * kTile);
      for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
        const std::int64_t r_end = std::min(rows, r0 + kTile);
        for (std::int64_t c = tile * kTile; c < c_end; ++c) {
          for (std::int64_t r = r0; r < r_end; ++r) out[c * ld_out + r] = in[r * columns + c];
        }
      }
    }
  });
}

}  // namespace sae::train
