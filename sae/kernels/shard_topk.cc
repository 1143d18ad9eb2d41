#include "sae/kernels/shard_topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "sae/base/check.h"

namespace sae::kernels {
namespace {

// Copies the positive values of all lists, which are prefixes of them.
template <class T>
std::int64_t CopyPositive(std::span<const ShardList<T>> lists, T* scratch) {
  std::int64_t count = 0;
  for (const ShardList<T>& list : lists) {
    for (std::int64_t j = 0; j < list.width && list.values[j] > T(0); ++j)
      scratch[count++] = list.values[j];
  }
  return count;
}

// What the list may hide lies at or below this; 0: it hides nothing positive.
template <class T>
T HiddenBound(const ShardList<T>& list) {
  if (list.whole || list.width == 0) return T(0);
  return std::max(T(0), list.values[list.width - 1]);
}

}  // namespace

std::int64_t ShardCapacity(std::int64_t k, std::int64_t shards, double miss) {
  SAE_CHECK_MSG(k >= 1 && shards >= 1, "k %ld over %ld shards", static_cast<long>(k),
                static_cast<long>(shards));
  if (shards == 1) return k;
  // Logarithms of the binomial's terms, by their ratios; the tail is summed from its thin end.
  const double share = 1 / static_cast<double>(shards);
  const double odds = std::log(share / (1 - share));
  std::vector<double> log_terms(static_cast<std::size_t>(k) + 1);
  log_terms[0] = static_cast<double>(k) * std::log1p(-share);
  for (std::int64_t j = 0; j < k; ++j) {
    log_terms[static_cast<std::size_t>(j) + 1] =
        log_terms[static_cast<std::size_t>(j)] +
        std::log(static_cast<double>(k - j) / static_cast<double>(j + 1)) + odds;
  }
  double tail = 0;
  std::int64_t c = k;
  for (; c >= 1; --c) {
    tail += std::exp(log_terms[static_cast<std::size_t>(c)]);
    if (static_cast<double>(shards) * tail >= miss) break;
  }
  return std::min(k, c + 1);
}

template <class T>
TopKCut<T> FindCut(std::span<const ShardList<T>> lists, std::int64_t k, T* scratch) {
  SAE_CHECK_MSG(k >= 1, "k is %ld", static_cast<long>(k));
  TopKCut<T> cut;
  const std::int64_t count = CopyPositive(lists, scratch);
  if (count < k) {
    cut.above = count;
  } else {
    std::nth_element(scratch, scratch + (k - 1), scratch + count, std::greater<>());
    cut.tau = scratch[k - 1];
    cut.above = (k - 1) - std::count(scratch, scratch + (k - 1), cut.tau);
    cut.ties = std::count(scratch, scratch + count, cut.tau);
  }
  cut.certified = std::all_of(lists.begin(), lists.end(), [&](const ShardList<T>& list) {
    const T bound = HiddenBound(list);
    return bound == T(0) || bound < cut.tau;
  });
  return cut;
}

template <class T>
void MergeNode(std::span<const ShardList<T>> lists, std::int64_t width, T* scratch, T* out) {
  T floor = 0;
  for (const ShardList<T>& list : lists) floor = std::max(floor, HiddenBound(list));
  const std::int64_t count = CopyPositive(lists, scratch);
  const std::int64_t kept = std::min(count, width);
  std::partial_sort(scratch, scratch + kept, scratch + count, std::greater<>());
  for (std::int64_t j = 0; j < width; ++j) out[j] = std::max(floor, j < kept ? scratch[j] : T(0));
}

template <class T>
ListCount<T> CountAtCut(const T* values, std::int64_t width, T tau) {
  ListCount<T> out;
  while (out.above < width && values[out.above] > tau) ++out.above;
  if (!(tau > T(0))) return out;
  while (out.above + out.ties < width && values[out.above + out.ties] == tau) ++out.ties;
  return out;
}

std::int32_t LastWinner(std::span<std::int32_t> ids, std::int64_t slots) {
  SAE_CHECK_MSG(slots >= 1 && slots <= static_cast<std::int64_t>(ids.size()), "%ld of %zu ties",
                static_cast<long>(slots), ids.size());
  const auto last = ids.begin() + (slots - 1);
  std::nth_element(ids.begin(), last, ids.end());
  return *last;
}

#define SAE_INSTANTIATE(T)                                                             \
  template TopKCut<T> FindCut(std::span<const ShardList<T>>, std::int64_t, T*);        \
  template void MergeNode(std::span<const ShardList<T>>, std::int64_t, T*, T*);        \
  template ListCount<T> CountAtCut(const T*, std::int64_t, T)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::kernels
