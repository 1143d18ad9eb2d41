#pragma once
// Top-k selections: the order, the buffers, and the exact global choice among shards.
// Order: larger value first, then lower global latent id. -0 equals +0. Values are raw
// pre-activations, so they may be negative. NaN is in no order and must not be passed. Thread
// safety: functions are reentrant on distinct outputs. Errors: sizes that cannot be right are bugs.
// Source: Gao et al. 2024 (arXiv 2406.04093); exact iff each shard offers min(k, its latents)
// candidates.

#include <cstdint>
#include <vector>

#include "sae/base/parallel.h"

namespace sae::kernels {

enum class TopKOrder { kByValue, kById };

/// Per token `width` winners in the order above, or by ascending id. Row b: values[b * width ...],
/// ids[b * width ...].
template <class T>
struct TopK {
  std::int64_t tokens = 0;
  std::int64_t width = 0;         ///< min(k, latents offered)
  std::vector<T> values;          ///< tokens x width
  std::vector<std::int32_t> ids;  ///< tokens x width: global latent ids
  TopKOrder order = TopKOrder::kByValue;
};

/// One shard's candidates as they come out of an all-gather: tokens x width, in the order above.
template <class T>
struct Candidates {
  const T* values = nullptr;
  const std::int32_t* ids = nullptr;
  std::int64_t width = 0;
};

/// The k first of the union of all shards' candidates, per token; since each shard's list is in
/// order, the winners of a shard are a prefix of its list: counts[b] = length of that prefix for
/// shard `own`. Fewer than k candidates in all: all win.
template <class T>
void CountWinners(const std::vector<Candidates<T>>& shards, std::int64_t tokens, std::int64_t k,
                  int own, std::int32_t* counts, ThreadPool& pool);

/// A value and its global latent id.
template <class T>
struct Scored {
  T value;
  std::int32_t id;
};

/// The order above.
template <class T>
constexpr bool Before(const Scored<T>& a, const Scored<T>& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

}  // namespace sae::kernels
