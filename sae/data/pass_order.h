#pragma once
// The order of rows in one pass over a store: f(data_seed, pass, global row), nothing else. Pass 0
// is the written order. A later pass permutes the shards, then the extents (4 MiB of rows) inside
// each shard, then the rows inside each window of 8 consecutive extents of that sequence. So reads
// are long, and a window of 32 MiB is all that must be in memory. Immutable; thread-safe.

#include <cstdint>
#include <span>
#include <vector>

namespace sae::data {

/// The constants are part of the order: a store read with others has another order.
struct PassOrderOptions {
  std::int64_t extent_bytes = std::int64_t{4} << 20;
  std::int64_t window_extents = 8;
};

struct Extent {
  std::int64_t shard = 0;
  std::int64_t first_row = 0;  ///< in the shard
  std::int64_t rows = 0;
};

class PassOrder {
 public:
  /// `shard_rows` are all positive; `row_bytes` as stored.
  PassOrder(const std::vector<std::int64_t>& shard_rows, std::int64_t row_bytes,
            std::uint64_t data_seed, std::int64_t pass, const PassOrderOptions& options = {});

  std::int64_t rows() const { return window_ends_.empty() ? 0 : window_ends_.back(); }
  std::int64_t windows() const { return static_cast<std::int64_t>(window_ends_.size()); }
  /// The window that holds the row at `position` (of this pass).
  std::int64_t WindowAt(std::int64_t position) const;
  /// Position of the window's first row, and rows in it.
  std::int64_t WindowFirst(std::int64_t window) const;
  std::int64_t WindowRows(std::int64_t window) const;
  std::span<const Extent> Extents(std::int64_t window) const;
  /// The i-th row to deliver is row order[i] of the window's extents laid end to end; empty = as
  /// they lie.
  std::vector<std::int32_t> RowOrder(std::int64_t window) const;

 private:
  std::uint64_t seed_;
  std::int64_t pass_;
  std::int64_t window_extents_;
  std::vector<Extent> extents_;
  std::vector<std::int64_t> window_ends_;
};

}  // namespace sae::data
