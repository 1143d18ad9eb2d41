#pragma once
// Inside this folder: what one token's entries do to rows of width d, in the one order that
// SparseDecode, LatentGradient and TokenPass share. Entries lie one token after the other, so the
// rows to be fetched early are simply those of the next entries. Allocates nothing; thread-safe.

#include <algorithm>
#include <array>
#include <cstdint>

#include "sae/kernels/row_ops.h"

namespace sae::kernels {

template <class T>
struct TokenRows {
  const std::int32_t* ids = nullptr;
  const T* decoder = nullptr;    ///< latents x d
  const T* row_scale = nullptr;  ///< latents or null: direction(i) = row_scale[i] * decoder[i]
  std::int64_t d = 0;

  /// out += sum of values[e] * direction(ids[e]) over [first, last). Entries up to `end` will be
  /// wanted soon.
  void Add(std::int64_t first, std::int64_t last, std::int64_t end, const T* values, T* out) const {
    std::array<T, kRows> a{};
    std::array<const T*, 2 * kRows> rows{};
    for (std::int64_t e = first; e < last; e += kRows) {
      const std::int64_t count = std::min(kRows, last - e);
      const std::int64_t fetched = std::min(kRows, end - e - count);
      for (std::int64_t q = 0; q < count + fetched; ++q) {
        rows[static_cast<std::size_t>(q)] = decoder + ids[e + q] * d;
      }
      for (std::int64_t q = 0; q < count; ++q) {
        const T scale = row_scale == nullptr ? T(1) : row_scale[ids[e + q]];
        a[static_cast<std::size_t>(q)] = values[e + q] * scale;
      }
      AddRows(d, {count, a.data(), rows.data()}, {fetched, nullptr, rows.data() + count}, out);
    }
  }

  /// u[e] = direction(ids[e]) . y for e in [first, last).
  void Dot(std::int64_t first, std::int64_t last, const T* y, T* u) const {
    std::array<const T*, kRows> rows{};
    for (std::int64_t e = first; e < last; e += kRows) {
      const std::int64_t count = std::min(kRows, last - e);
      for (std::int64_t q = 0; q < count; ++q) {
        rows[static_cast<std::size_t>(q)] = decoder + ids[e + q] * d;
      }
      DotRows(d, count, rows.data(), y, u + e);
      for (std::int64_t q = e; row_scale != nullptr && q < e + count; ++q) {
        u[q] *= row_scale[ids[q]];
      }
    }
  }

 private:
  static constexpr std::int64_t kRows = 32;  // at once
};

}  // namespace sae::kernels
