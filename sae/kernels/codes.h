#pragma once
// Sparse codes of a batch, by token (CSR), and their index by latent (CSC).
// Latent ids are 32 bit and local to the shard (the caller knows their global ids). Plain
// values: not thread-safe, own their memory, keep their capacity when refilled, so a step allocates
// nothing after the first. Sources: sae algorithms, "generic backward": pairs sorted by latent,
// then by token.

#include <cstdint>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/topk.h"

namespace sae::kernels {

/// Entry e of token b: indptr[b] <= e < indptr[b + 1]; ids ascend inside a token.
template <class T>
struct Codes {
  std::int64_t tokens = 0;
  std::int64_t latents = 0;          ///< of this shard; 0 <= id < latents
  std::vector<std::int64_t> indptr;  ///< tokens + 1
  std::vector<std::int32_t> ids;     ///< nnz
  std::vector<T> values;             ///< nnz: f
  std::int64_t nnz() const { return indptr.empty() ? 0 : indptr.back(); }
  /// No entries: indptr all zero.
  void Clear(std::int64_t token_count, std::int64_t latent_count);
};

/// The entries of a Codes grouped by latent: latent i has indptr[i] <= q < indptr[i + 1];
/// entries[q] indexes the arrays in CSR order (f, delta, u alike), tokens[q] is its token. Tokens
/// ascend inside a latent.
struct LatentIndex {
  std::int64_t latents = 0;
  std::vector<std::int64_t> indptr;   ///< latents + 1
  std::vector<std::int32_t> tokens;   ///< nnz
  std::vector<std::int64_t> entries;  ///< nnz
  std::vector<std::int64_t> scratch;  ///< of BuildLatentIndex
  bool empty(std::int64_t latent) const {
    return indptr[static_cast<std::size_t>(latent)] == indptr[static_cast<std::size_t>(latent) + 1];
  }
};

/// Stable counting sort by latent: the result is a function of `codes` alone, whatever the pool.
template <class T>
void BuildLatentIndex(const Codes<T>& codes, LatentIndex* out, ThreadPool& pool);
/// The same on the calling thread.
template <class T>
void BuildLatentIndex(const Codes<T>& codes, LatentIndex* out);

/// Codes of a top-k selection: of token b the first counts[b] entries of `selection` (all of them
/// where `counts` is null, as it must be for a selection ordered by id), global ids minus
/// `first_latent`, f = max(z, 0); entries with z <= 0 are left out (their f, act' and every
/// gradient are 0).
template <class T>
void CodesFromTopK(const TopK<T>& selection, const std::int32_t* counts, std::int64_t first_latent,
                   std::int64_t latents, Codes<T>* out, ThreadPool& pool);

}  // namespace sae::kernels
