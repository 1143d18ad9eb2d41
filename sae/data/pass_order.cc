#include "sae/data/pass_order.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "sae/base/random.h"

namespace sae::data {
namespace {

/// Streams of random numbers of one pass, told apart by what they permute.
enum Purpose : std::uint64_t { kShards = 1, kExtents = 2, kRows = 3 };

Random Stream(std::uint64_t seed, std::int64_t pass, Purpose purpose, std::int64_t index) {
  const std::uint64_t of_pass = HashCounter(seed, static_cast<std::uint64_t>(pass), purpose);
  return Random(HashCounter(of_pass, static_cast<std::uint64_t>(index)));
}

/// Fisher-Yates.
template <class T>
void Shuffle(std::span<T> values, Random random) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.Below(i)]);
}

}  // namespace

PassOrder::PassOrder(const std::vector<std::int64_t>& shard_rows, std::int64_t row_bytes,
                     std::uint64_t data_seed, std::int64_t pass, const PassOrderOptions& options)
    : seed_(data_seed), pass_(pass), window_extents_(options.window_extents) {
  const std::int64_t extent_rows = std::max<std::int64_t>(1, options.extent_bytes / row_bytes);
  std::vector<std::int64_t> shards(shard_rows.size());
  std::iota(shards.begin(), shards.end(), 0);
  if (pass > 0) Shuffle(std::span(shards), Stream(seed_, pass, kShards, 0));
  for (const std::int64_t shard : shards) {
    const std::size_t begin = extents_.size();
    const std::int64_t rows = shard_rows[static_cast<std::size_t>(shard)];
    for (std::int64_t first = 0; first < rows; first += extent_rows) {
      extents_.push_back({shard, first, std::min(extent_rows, rows - first)});
    }
    if (pass > 0) Shuffle(std::span(extents_).subspan(begin), Stream(seed_, pass, kExtents, shard));
  }
  std::int64_t end = 0;
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    end += extents_[i].rows;
    const bool last =
        i + 1 == extents_.size() || static_cast<std::int64_t>(i + 1) % window_extents_ == 0;
    if (last) window_ends_.push_back(end);
  }
}

std::int64_t PassOrder::WindowAt(std::int64_t position) const {
  return std::upper_bound(window_ends_.begin(), window_ends_.end(), position) -
         window_ends_.begin();
}

std::int64_t PassOrder::WindowFirst(std::int64_t window) const {
  return window == 0 ? 0 : window_ends_[static_cast<std::size_t>(window - 1)];
}

std::int64_t PassOrder::WindowRows(std::int64_t window) const {
  return window_ends_[static_cast<std::size_t>(window)] - WindowFirst(window);
}

std::span<const Extent> PassOrder::Extents(std::int64_t window) const {
  const auto begin = static_cast<std::size_t>(window * window_extents_);
  return std::span(extents_).subspan(
      begin, std::min(static_cast<std::size_t>(window_extents_), extents_.size() - begin));
}

std::vector<std::int32_t> PassOrder::RowOrder(std::int64_t window) const {
  if (pass_ == 0) return {};
  std::vector<std::int32_t> order(static_cast<std::size_t>(WindowRows(window)));
  std::iota(order.begin(), order.end(), 0);
  Shuffle(std::span(order), Stream(seed_, pass_, kRows, window));
  return order;
}

}  // namespace sae::data
