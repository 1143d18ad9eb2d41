#pragma once
// Chunks of products for the tests of selection: odd sizes, ties, masks, signs of zero, NaN.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "sae/base/random.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::testing {

enum class Fill { kNormal, kTies, kEqual, kNegative, kZeros, kRising };

struct SelectCase {
  std::string name;
  std::int64_t tokens = 1, columns = 1;
  std::int64_t chunk = 1;  ///< columns of a call
  std::int64_t k = 1;
  Fill fill = Fill::kNormal;
  bool masked = false;   ///< some c are -infinity, the ids there are not to be read
  bool ids = false;      ///< columns name their latents: 3 j + 1
  bool nan = false;      ///< two products are NaN, one of them in a column that may be masked
  bool reverse = false;  ///< the last chunk first
  float scale = 1;
};

/// Room for the largest id that a case of `columns` columns names.
inline std::int64_t LatentsOf(const SelectCase& s) { return 3 * s.columns + 1; }

struct SelectData {
  std::vector<float> products;  ///< [tokens, columns]
  std::vector<float> c;
  std::vector<std::int32_t> ids;  ///< empty: consecutive

  explicit SelectData(const SelectCase& s) {
    Random random(static_cast<std::uint64_t>(7 * s.tokens + 11 * s.columns + s.k));
    for (std::int64_t i = 0; i < s.tokens * s.columns; ++i) {
      products.push_back(s.fill == Fill::kRising ? static_cast<float>(i % s.columns)
                                                 : Draw(s, random));
    }
    for (std::int64_t j = 0; j < s.columns; ++j) {
      const bool ties = s.fill != Fill::kNormal && s.fill != Fill::kNegative;
      c.push_back(ties ? 0.0F : static_cast<float>(0.5 * random.Normal()));
      if (s.fill == Fill::kNegative) c.back() = -std::abs(c.back());
      const bool masked = s.masked && j % 5 == 3;
      if (masked) c.back() = -std::numeric_limits<float>::infinity();
      if (s.ids) ids.push_back(masked ? 0x7ffffff0 : static_cast<std::int32_t>(3 * j + 1));
    }
    for (const std::int64_t j : {std::int64_t{3}, s.columns / 2}) {
      if (s.nan)
        products[static_cast<std::size_t>((s.tokens - 1) * s.columns + j)] =
            std::numeric_limits<float>::quiet_NaN();
    }
  }

  static float Draw(const SelectCase& s, Random& random) {
    switch (s.fill) {
      case Fill::kNormal:
        return static_cast<float>(random.Normal());
      case Fill::kTies:
        return static_cast<float>(random.Below(7)) - 3;
      case Fill::kEqual:
        return 2;
      case Fill::kNegative:
        return static_cast<float>(-std::abs(random.Normal()) - 1e-3);
      case Fill::kRising:
        break;
      case Fill::kZeros:
        return random.Below(2) == 0 ? 0.0F : -0.0F;
    }
    return 0;
  }
};

/// First columns of the chunks, in the order of the calls.
inline std::vector<std::int64_t> Starts(const SelectCase& s) {
  std::vector<std::int64_t> starts;
  for (std::int64_t first = 0; first < s.columns; first += s.chunk) starts.push_back(first);
  if (s.reverse) std::reverse(starts.begin(), starts.end());
  return starts;
}

/// The chunk that begins at column `first`, of arrays that hold all columns.
inline device::ChunkProducts ChunkAt(const SelectCase& s, const float* products, const float* c,
                                     const std::int32_t* ids, std::int32_t* finite,
                                     std::int64_t first) {
  device::ChunkProducts chunk;
  chunk.products = products + first;
  chunk.ld = s.columns;
  chunk.tokens = s.tokens;
  chunk.columns = s.chunk < s.columns - first ? s.chunk : s.columns - first;
  chunk.c = c + first;
  chunk.scale = s.scale;
  chunk.first_id = static_cast<std::int32_t>(first);
  chunk.ids = s.ids ? ids + first : nullptr;
  chunk.finite = finite;
  return chunk;
}

inline std::vector<SelectCase> SelectCases() {
  std::vector<SelectCase> cases;
  cases.push_back({"one", 1, 1, 1, 1});
  cases.push_back({"k of one", 3, 700, 131, 1});
  cases.push_back({"odd", 3, 1501, 367, 5, Fill::kNormal, true, true, false, false, 0.75F});
  cases.push_back({"reverse", 2, 1200, 500, 32, Fill::kTies, false, false, false, true});
  cases.push_back({"more than columns", 2, 37, 10, 64, Fill::kNormal, true});
  cases.push_back({"ties", 3, 1100, 1100, 33, Fill::kTies});
  cases.push_back({"equal", 2, 1300, 450, 40, Fill::kEqual, false, true, false, true});
  cases.push_back({"negative", 2, 300, 128, 17, Fill::kNegative, true, true});
  cases.push_back({"zeros", 2, 600, 256, 20, Fill::kZeros});
  cases.push_back({"nan", 2, 500, 200, 9, Fill::kNormal, false, false, true});
  cases.push_back({"masked nan", 2, 500, 200, 9, Fill::kNormal, true, true, true});
  cases.push_back({"large k", 1, 4500, 1700, 700, Fill::kNormal, true});
  cases.push_back({"large k of ties", 1, 4500, 4500, 700, Fill::kTies, false, false, false, true});
  cases.push_back({"two sweeps", 2, 4096, 2048, 32});
  cases.push_back({"sweep of ids", 2, 3200, 3200, 7, Fill::kNormal, true, true, true});
  cases.push_back({"rising", 2, 3072, 3072, 20, Fill::kRising});
  cases.push_back({"rising again", 2, 2400, 1200, 20, Fill::kRising});
  cases.push_back({"rising a little", 2, 1800, 600, 300, Fill::kRising});
  cases.push_back({"many chunks", 2, 6000, 500, 32});
  cases.push_back({"rising to the rank's cut", 1, 1516, 1516, 20, Fill::kRising});
  cases.push_back({"rising beyond the rank's cut", 1, 1517, 1517, 20, Fill::kRising});
  return cases;
}

}  // namespace sae::kernels::testing
