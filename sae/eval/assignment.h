#pragma once
// One-to-one assignment of the greatest total weight (Kuhn 1955; shortest augmenting paths with
// potentials, O(rows^2 cols) for rows <= cols). Exact: among assignments of the greatest total the
// one whose partners, row by row, are the lowest. Totals within 1e-12 of each other, relative to
// the largest weight, count as tied. Pure; thread-safe. Memory: the matrix, twice where rows >
// cols.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/status.h"

namespace sae::eval {

struct Assignment {
  std::vector<std::int64_t> column;  ///< of each row; -1: without a partner (rows > cols)
  double total = 0;
};

/// `weights`: [rows, cols], row-major, finite. min(rows, cols) pairs. With rows > cols the lowest
/// partners are taken column by column. INVALID_ARGUMENT for sizes or values that do not fit.
[[nodiscard]] absl::StatusOr<Assignment> AssignMax(std::span<const double> weights,
                                                   std::int64_t rows, std::int64_t cols);

}  // namespace sae::eval
