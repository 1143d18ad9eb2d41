#pragma once
// Which latents a rank owns. Contiguous blocks today; callers ask only Global(), so that a seeded
// bijection can deal latents to ranks without a change elsewhere. Values; thread-safe.

#include <cstdint>

namespace sae::model {

struct LatentShard {
  std::int64_t latents = 0;  ///< n, over all ranks
  std::int64_t first = 0;    ///< global id of local latent 0
  std::int64_t count = 0;    ///< latents of this rank

  /// Global id of a local latent; increasing in `local`, so local ties to the lower index are
  /// global ties to the lower id.
  std::int64_t Global(std::int64_t local) const { return first + local; }
};

/// `latents` must be a multiple of `ranks`.
inline LatentShard ShardOf(std::int64_t latents, int ranks, int rank) {
  const std::int64_t count = latents / ranks;
  return {latents, rank * count, count};
}

}  // namespace sae::model
