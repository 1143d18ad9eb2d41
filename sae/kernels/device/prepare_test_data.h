#pragma once
// Split weights for the tests of this folder.

#include <cstdint>
#include <vector>

#include "sae/kernels/split_float.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels::testing {

/// Random rows, whole and split.
struct SplitRows {
  std::vector<float> exact;
  std::vector<std::uint16_t> hi;
  std::vector<std::int16_t> lo;

  explicit SplitRows(std::vector<float> rows) : exact(std::move(rows)) {
    for (const float value : exact) {
      const SplitFloat split = Split(value);
      hi.push_back(split.hi);
      lo.push_back(split.lo);
    }
  }
  SplitRows(std::int64_t rows, std::int64_t d, std::uint64_t seed = 1)
      : SplitRows(Normal<float>(seed, rows * d)) {}
};

}  // namespace sae::kernels::testing
