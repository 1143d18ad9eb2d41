#pragma once
// The encoder: pre-activations z = scale * (x W^T) + c in chunks that stay in cache, selected as
// they are made; tokens x latents is never written. In float a product is one chain of additions
// (panels.h), in double another: z of (token, latent) depends on x, W and c alone, not on its
// place, the shard, its neighbours, or the number of threads. NaN: inputs
// with NaN are refused upstream (data); where a pre-activation is NaN all the same (diverged
// weights) the functions return false and the output is valid memory without meaning.
// Thread safety: one call at a time per workspace. Ownership: inputs are borrowed for the call,
// outputs and workspaces keep their capacity. Errors: sizes that cannot be right are bugs
// (SAE_CHECK). Sources: sae algorithms 0.1, 3.9; numerics 1-3.

#include <cstdint>
#include <memory>
#include <vector>

#include <absl/functional/function_ref.h>

#include "sae/base/parallel.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/block_meeting.h"
#include "sae/kernels/codes.h"
#include "sae/kernels/filter.h"
#include "sae/kernels/topk.h"

namespace sae::kernels {

class Screen;
struct CertifiedWorkspace;

/// Tokens of a chunk: their rows and a chunk of products stay in the second-level cache. A thread
/// multiplies kBlocksPerGroup blocks with a chunk of latents before it packs the next.
inline constexpr std::int64_t kTokensPerBlock = 128;
inline constexpr std::int64_t kBlocksPerGroup = 16;

template <class T>
struct EncodeInput {
  const T* x = nullptr;  ///< tokens x d, raw units, contiguous
  std::int64_t tokens = 0;
  std::int64_t d = 0;
  const T* w = nullptr;  ///< latents x d: encoder rows of this shard, contiguous
  const T* c = nullptr;  ///< latents: FoldBias
  std::int64_t latents = 0;
  T scale = T(1);                 ///< 1 / S of the input scale
  std::int64_t first_latent = 0;  ///< global id of row 0
  /// Only these rows (local, ascending) where not null: AuxK's dead latents, encoded by their own
  /// GEMM.
  const std::int32_t* subset = nullptr;
  std::int64_t subset_size = 0;
  /// float only; null: select by float32 pre-activations. Else z is ReferenceZ of ReferenceDot
  /// (screen_dot.h), computed where the screen, prepared for this x and w, leaves a doubt
  /// (certified.h); of a subset, and in EncodeChunks, all of it is computed.
  const Screen* screen = nullptr;
  /// Where not null: the pass over all latents (never that over a subset) is made together with those of
  /// other encoders on the same tokens.
  BlockMeeting* meeting = nullptr;
};

/// Buffers of one encoder; grown on first use.
template <class T>
struct EncodeWorkspace {
  struct Worker {
    AlignedVector<T> w, c, z;  ///< a chunk of latents, packed or gathered; one chunk of products
    AlignedVector<T> none;     ///< -0: what leaves any value as it is
    AlignedVector<T> values;   ///< top-k: a list for each token of a group; largest: one list
    AlignedVector<std::int32_t> ids;
    AlignedVector<T> row_values;
    AlignedVector<std::int32_t> row_ids;
    std::vector<std::int64_t> counts;  ///< top-k
    std::vector<T> floors;
    std::vector<Scored<T>> order;
    AlignedVector<std::int32_t> tokens;  ///< largest
    std::int64_t size = 0;
    T floor = T(0);
    std::vector<std::uint64_t> places;  ///< of entries tied at a cut
    double product_ms = 0;  ///< spent in products since the caller set it to 0
  };
  struct Block {  ///< entries of one token block, chunk by chunk, token by token
    AlignedVector<T> values;
    AlignedVector<std::int32_t> ids;
    std::int64_t size = 0;
    std::vector<std::int32_t> counts;  ///< chunks x tokens of the block
  };
  std::vector<Worker> workers;
  std::vector<Block> blocks;
  std::vector<std::int64_t> next;
  std::shared_ptr<CertifiedWorkspace> certified;  ///< with a screen: made on first use
};

/// One chunk: z[r * ld + j] is token `token + r`'s product x . w of the latent latent_ids[j]
/// (local, ascending over j and over chunks), and scale * z + c[j] its pre-activation (filter.h);
/// with a screen z is the pre-activation itself, scale 1 and c -0.
/// Called in ascending chunk order for each block of tokens, all chunks of a block by the same
/// thread; `block` = token / kTokensPerBlock. A thread takes each chunk of latents with a few
/// blocks in turn, the first chunk of all of them before the second.
template <class T>
struct Chunk {
  std::int64_t block = 0;
  std::int64_t slot = 0;  ///< < kBlocksPerGroup: of the block among those of its thread's turn
  std::int64_t token = 0;
  std::int64_t tokens = 0;
  const std::int32_t* latent_ids = nullptr;  ///< null: consecutive from `latent`
  std::int64_t latent = 0;
  std::int64_t latents = 0;
  const T* z = nullptr;
  std::int64_t ld = 0;
  const T* c = nullptr;
  T scale = T(1);
  bool first = false;  ///< of the block's chunks
  bool last = false;
  int worker = 0;
};

/// Row r of a chunk, with ids counted from `first_id`.
template <class T>
FilterRow<T> RowOf(const Chunk<T>& chunk, std::int64_t r, std::int64_t first_id) {
  return {chunk.z + r * chunk.ld, chunk.c, chunk.latents, chunk.scale,
          static_cast<std::int32_t>(first_id)};
}

/// The driver, for architectures that select in their own way. `sink` must not throw.
template <class T>
void EncodeChunks(const EncodeInput<T>& input, EncodeWorkspace<T>* workspace, ThreadPool& pool,
                  absl::FunctionRef<void(const Chunk<T>&)> sink);

/// The min(k, latents) largest pre-activations of each token, before any ReLU. 1 <= k. In
/// `TopKOrder::kById` the winners come by ascending id, which CodesFromTopK turns into codes
/// without sorting: for a single shard.
template <class T>
[[nodiscard]] bool EncodeTopK(const EncodeInput<T>& input, std::int64_t k,
                              EncodeWorkspace<T>* workspace, TopK<T>* out, ThreadPool& pool,
                              TopKOrder order = TopKOrder::kByValue);

/// Every pre-activation z > lower[i] (local latent i; > floor for all where `lower` is null), local
/// ids ascending, values = z. ReLU: floor 0; JumpReLU: its threshold, or the lower edge of its
/// window; Gated: c without the gate's bias and lower = -b_gate. Not of a subset. `out` and the
/// workspace grow as needed.
template <class T>
[[nodiscard]] bool EncodeAbove(const EncodeInput<T>& input, const T* lower, T floor,
                               EncodeWorkspace<T>* workspace, Codes<T>* out, ThreadPool& pool);

/// BatchTopK's candidates: a superset of this shard's `count` >= 1 first entries among all
/// z > max(0, floor) of the batch, in the order: larger value, then lower (token, latent); exactly
/// those with z > max(0, floor) where there are at most `count`. Each thread keeps fewer than
/// 2 count, so memory is O(threads x count); which others are among them depends on the number of
/// threads. CSR by token, local ids ascending, values = z. Not of a subset.
template <class T>
[[nodiscard]] bool EncodeLargest(const EncodeInput<T>& input, std::int64_t count, T floor,
                                 EncodeWorkspace<T>* workspace, Codes<T>* out, ThreadPool& pool);

/// c_i = b_enc_i - s W_i . b_dec in float64, rounded once. b_dec null: s = 0 (no pre-bias). b_enc
/// null: 0.
template <class T>
void FoldBias(const T* w, const T* b_enc, const T* b_dec, std::int64_t latents, std::int64_t d,
              T* c, ThreadPool& pool);

}  // namespace sae::kernels
