#pragma once
// Which latents a rank owns. Latents are dealt to ranks by a fixed bijection pi of [0, n):
// rank(i) = pi(i) div (n / ranks), so that latents made or renewed together do not crowd on one
// rank. pi depends on n and a seed alone: virtual blocks (pi(i) div (n / blocks)) nest in ranks at
// every number of ranks that divides theirs. Local order is the order of global ids. One rank owns
// all, local = global. Values; thread-safe. Source: spec numerics.md 3.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace sae::model {

/// The seed of pi; a checkpoint records it. Another one changes which rank computes what, and with
/// `reduction: fixed` the order of sums.
inline constexpr std::int64_t kDealSeed = 0x5AE1;

/// pi(latent) and its inverse, on [0, latents): Feistel networks of four rounds on the next power
/// of four, walked until they come back below n.
std::int64_t DealPlace(std::int64_t latents, std::int64_t latent, std::int64_t seed = kDealSeed);
std::int64_t LatentAtPlace(std::int64_t latents, std::int64_t place, std::int64_t seed = kDealSeed);

struct LatentShard {
  std::int64_t latents = 0;  ///< n, over all ranks; below 2^31
  std::int64_t count = 0;    ///< latents of this rank
  std::int64_t seed = kDealSeed;
  /// Global ids of this rank's latents, ascending; null: all of them, local = global.
  std::shared_ptr<const std::vector<std::int32_t>> ids;

  /// Global id of a local latent; increasing in `local`, so local ties to the lower index are
  /// global ties to the lower id.
  std::int64_t Global(std::int64_t local) const {
    return ids == nullptr ? local : (*ids)[static_cast<std::size_t>(local)];
  }
  /// How many of this rank's latents have a global id below `global`: the local ids of [a, b) are
  /// [LocalBelow(a), LocalBelow(b)).
  std::int64_t LocalBelow(std::int64_t global) const {
    if (ids == nullptr) return std::clamp<std::int64_t>(global, 0, count);
    return std::lower_bound(ids->begin(), ids->end(), global) - ids->begin();
  }

  /// The local ids [first, last) as a shard of their own.
  LatentShard Part(std::int64_t first, std::int64_t last) const;
};

/// `latents` must be a multiple of `ranks`.
LatentShard ShardOf(std::int64_t latents, int ranks, int rank, std::int64_t seed = kDealSeed);

/// The virtual block of each local latent, of `blocks` over all ranks: pi div (n / blocks).
/// `blocks` divides n and is at most 256.
std::vector<std::uint8_t> VirtualBlocks(const LatentShard& shard, std::int64_t blocks);

}  // namespace sae::model
