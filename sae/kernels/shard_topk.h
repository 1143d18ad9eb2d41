#pragma once
// What is pure in the exact TopK of a token whose latents live on many shards that exchange few
// values: how many values a shard offers, the cut among what was offered, the certificate that
// nothing was missed, and who wins a tie. Nothing here communicates or knows of ids but as numbers.
// Only positive values can win: TopK's codes are rectified, so 0 or less is padding. NaN must not
// be passed. Reentrant; allocates nothing but in ShardCapacity; sizes that cannot be right are bugs
// (SAE_CHECK). Sources: numerics 3; the certificate is that of a truncated merge: a list whose last
// value lies below the cut hides nothing that reaches it.

#include <cstdint>
#include <span>

namespace sae::kernels {

/// How often, at most, a token may find one of its shards with more winners than it offered.
inline constexpr double kMissRate = 1e-4;

/// The least c <= k with shards * Pr[Bin(k, 1 / shards) >= c] < miss: k winners that fall on any
/// shard alike fill a list of c values that rarely. k where no smaller c will do.
std::int64_t ShardCapacity(std::int64_t k, std::int64_t shards, double miss = kMissRate);

/// The values that one shard offers for one token, in descending order.
template <class T>
struct ShardList {
  const T* values = nullptr;
  std::int64_t width = 0;
  /// Nothing that could win is missing: it is all the shard has, or as long as there are winners.
  bool whole = false;
};

template <class T>
struct TopKCut {
  T tau = T(0);            ///< the k-th largest positive value; 0: there are fewer than k
  std::int64_t above = 0;  ///< values > tau
  std::int64_t ties = 0;   ///< values == tau; 0 where tau is
  /// Every shard is safe: its list is whole, or its last value is padding or below tau. Then tau
  /// and above are those of all values there are, and every tie that can win is among `ties`.
  bool certified = false;

  /// How many of the ties win; fewer than `ties` where ids have to decide.
  std::int64_t Slots(std::int64_t k) const { return k - above < ties ? k - above : ties; }
  bool tied(std::int64_t k) const { return above + ties > k; }
};

/// The cut of one token. `scratch` has room for all values of all lists. 1 <= k.
template <class T>
TopKCut<T> FindCut(std::span<const ShardList<T>> lists, std::int64_t k, T* scratch);

/// Two levels: the lists of a node's shards become one list of `width` values that stands for the
/// node in FindCut, with `whole` false. Where a shard's list may hide values up to its last one,
/// nothing below that value is passed on (it is raised to it), so that the node's own last value
/// certifies its shards as well. `scratch` as above.
template <class T>
void MergeNode(std::span<const ShardList<T>> lists, std::int64_t width, T* scratch, T* out);

/// Entries of a descending list that are larger than, and that equal, `tau`.
template <class T>
struct ListCount {
  std::int64_t above = 0;
  std::int64_t ties = 0;
};
template <class T>
ListCount<T> CountAtCut(const T* values, std::int64_t width, T tau);

/// `ids` of all entries at a cut, in any order (changed): the `slots` lowest win; the highest of
/// those. 1 <= slots <= ids.size().
std::int32_t LastWinner(std::span<std::int32_t> ids, std::int64_t slots);

}  // namespace sae::kernels
