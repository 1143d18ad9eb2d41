#pragma once
// Selection from one chunk of products that lies in the second-level cache: z of (token t, column
// j) is fmaf(scale, products[t * ld + j], c[j]). Exact, and the same bits, whatever the sizes of
// chunks. A column's local id is ids ? ids[j] : first_id + j; ids ascend. NaN is never selected; it
// sets *finite to 0 (never back to 1). -0 equals +0 and may come out as either. All pointers are
// device memory (namespace plain: host memory); work is enqueued on `stream`; one block a token,
// thread counts are the kernel's business. Errors: kInvalidArgument for sizes out of range and
// missing pointers. Partners: namespace plain, on the calling thread (select_cpu.cc): the same
// bits, states as sets. C++17. Sources: numerics 1-3; performance (c).

#include <cstdint>

#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// Winners of a token at most.
inline constexpr std::int64_t kMaxTopK = 4096;

struct ChunkProducts {
  const float* products = nullptr;  ///< [tokens, ld]
  std::int64_t ld = 0;
  std::int64_t tokens = 0;
  std::int64_t columns = 0;
  const float* c = nullptr;  ///< columns; -infinity: never selected, its id is not read
  float scale = 1;
  std::int32_t first_id = 0;
  const std::int32_t* ids = nullptr;  ///< columns, or null
  std::int32_t* finite = nullptr;     ///< 1 before the first chunk
};

/// Folds a chunk into each token's k largest so far (any sign but -infinity): larger value first,
/// then lower id. Columns are held against the k-th entry so far, survivors go to a buffer in
/// shared memory that is cut back to k when full: no case overflows. Chunks may come in any order.
/// Between calls the state is a set without order.
struct TopKUpdateParams {
  ChunkProducts chunk;
  std::int64_t k = 0;              ///< 1 .. kMaxTopK
  float* values = nullptr;         ///< [tokens, k]
  std::int32_t* ids = nullptr;     ///< [tokens, k]
  std::int32_t* counts = nullptr;  ///< tokens: entries in the state; 0 before the first chunk
};

/// Entries of variable number, by token: slots [tokens, capacity], local ids ascending.
struct Slots {
  float* values = nullptr;
  std::int32_t* ids = nullptr;
  std::int32_t* counts = nullptr;  ///< tokens
  std::int64_t tokens = 0;
  std::int64_t capacity = 0;
  std::int32_t* overflow = nullptr;  ///< set to 1 where a token would have exceeded the capacity
                                     ///< (the rest is dropped); never set back
};

/// Appends every column with z > lower[local id]; lower null: z > *floor; floor null: z > 0. A NaN
/// bound counts as NaN. Chunks come by ascending id; out.counts is 0 before the first.
/// out.tokens = chunk.tokens.
struct AppendAboveParams {
  ChunkProducts chunk;
  const float* lower = nullptr;  ///< indexed by local id
  const float* floor = nullptr;  ///< one value in device memory
  Slots out;
};

/// The `width` largest values of each token's state, descending, padded with -infinity: what a rank
/// offers (numerics 3: width = c). positive_only: values <= 0 become padding.
struct OfferParams {
  const float* values = nullptr;  ///< state [tokens, k]
  const std::int32_t* ids = nullptr;
  const std::int32_t* counts = nullptr;
  std::int64_t tokens = 0, k = 0, width = 0;  ///< 1 <= width <= k <= kMaxTopK
  bool positive_only = true;
  float* offered = nullptr;  ///< [tokens, width]
};

/// From all ranks' offers: the k-th largest value over ranks, and which tokens need the second
/// round: those with a shard whose offer is full and whose smallest offered value is >= the k-th
/// value, or with more values equal to the k-th than can be kept. Fewer than k offered: the cut is
/// -infinity. Equal on all ranks.
struct GlobalCutParams {
  const float* offered = nullptr;  ///< [ranks, tokens, width]
  std::int64_t ranks = 0, tokens = 0, width = 0, k = 0;
  float* cut_values = nullptr;           ///< tokens
  std::int64_t* cut_ids = nullptr;       ///< tokens: INT64 max (keep all equal ones); unsafe: -1
  std::int32_t* unsafe = nullptr;        ///< [capacity]: token numbers, ascending
  std::int32_t* unsafe_count = nullptr;  ///< at most capacity
  std::int64_t capacity = 0;
  std::int32_t* overflow = nullptr;  ///< set to 1 where more tokens are unsafe
};

/// Second round: the whole state of each unsafe token with global ids, padded with -infinity and
/// -1, as is every row from *unsafe_count on.
struct SecondOfferParams {
  const float* values = nullptr;  ///< state [tokens, k]
  const std::int32_t* ids = nullptr;
  const std::int32_t* counts = nullptr;
  std::int64_t k = 0;
  const std::int32_t* unsafe = nullptr;
  const std::int32_t* unsafe_count = nullptr;
  std::int64_t capacity = 0;
  const std::int32_t* global_ids = nullptr;  ///< of local latents; null: local + first_global
  std::int64_t first_global = 0;
  float* out_values = nullptr;      ///< [capacity, k]
  std::int64_t* out_ids = nullptr;  ///< [capacity, k]
};

/// Of all ranks' second offers the exact cut (value, global id) of each unsafe token: the k-th
/// entry, larger value first, then lower id. Fewer than k: -infinity and INT64 max.
struct SecondCutParams {
  const float* values = nullptr;      ///< [ranks, capacity, width]
  const std::int64_t* ids = nullptr;  ///< [ranks, capacity, width]
  std::int64_t ranks = 0, capacity = 0, k = 0;
  const std::int32_t* unsafe = nullptr;
  const std::int32_t* unsafe_count = nullptr;
  float* cut_values = nullptr;  ///< tokens; rewritten for unsafe tokens
  std::int64_t* cut_ids = nullptr;
  std::int64_t width = 0;  ///< entries of an offer, k or more; 0: k
};

/// The winners of each token as slots (ids ascending): state entries with v > 0 (where
/// positive_only), and v > cut, or v == cut and global id <= cut id. cut_values null: all of the
/// state (one rank). Rewrites out.counts.
struct WinnersParams {
  const float* values = nullptr;  ///< state [out.tokens, k]
  const std::int32_t* ids = nullptr;
  const std::int32_t* counts = nullptr;
  std::int64_t k = 0;
  bool positive_only = true;
  const float* cut_values = nullptr;
  const std::int64_t* cut_ids = nullptr;
  const std::int32_t* global_ids = nullptr;  ///< of local latents; null: local + first_global
  std::int64_t first_global = 0;
  Slots out;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error TopKUpdate(const device::TopKUpdateParams& params, void* stream);
[[nodiscard]] Error AppendAbove(const device::AppendAboveParams& params, void* stream);
[[nodiscard]] Error Offer(const device::OfferParams& params, void* stream);
[[nodiscard]] Error GlobalCut(const device::GlobalCutParams& params, void* stream);
[[nodiscard]] Error SecondOffer(const device::SecondOfferParams& params, void* stream);
[[nodiscard]] Error SecondCut(const device::SecondCutParams& params, void* stream);
[[nodiscard]] Error Winners(const device::WinnersParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void TopKUpdate(const device::TopKUpdateParams& params);
void AppendAbove(const device::AppendAboveParams& params);
void Offer(const device::OfferParams& params);
void GlobalCut(const device::GlobalCutParams& params);
void SecondOffer(const device::SecondOfferParams& params);
void SecondCut(const device::SecondCutParams& params);
void Winners(const device::WinnersParams& params);
}  // namespace sae::kernels::plain
