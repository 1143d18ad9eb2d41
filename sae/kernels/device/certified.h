#pragma once
// Certified top-k: the k largest z = fmaf(scale, ReferenceDot(w, x), c) of each token
// (screen_dot.h: the definition that `selection: certified` has on the CPU), bit for bit, from
// bfloat16 products. A product screens its z within a margin; a list holds the latents whose upper
// end reaches a floor that at least k lower ends reach, and only those are computed again. Tokens
// that cannot be screened, or whose list outgrows its limit, are computed whole. The result depends
// on neither the screen's arithmetic nor chunks. With r_i = |w_i - hi_i|, X = |x|, R = |x -
// bfloat16(x)|, X' = X + R, u = 2^-23, gamma_m = m u / (1 - m u):
//   |screen - z| <= s ((1 + gamma_d) r_i X' + w_i R + (gamma_d + gamma_r) w_i X' + tiny) +
//   roundings
// (screen.h derives it). All pointers are device memory (namespace plain: host memory); work is
// enqueued on `stream`. Errors: kInvalidArgument for sizes out of range and missing pointers.
// C++17. Sources: numerics 3, "Certified"; Higham 2002, section 3.1.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/select.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// Upper bounds of each latent, in float. margin: what z's own rounding adds; infinite where the
/// row or c holds NaN or is huge: always a candidate.
struct LatentBounds {
  float* norm = nullptr;      ///< latents: |w_i|
  float* residual = nullptr;  ///< latents: r_i
  float* margin = nullptr;    ///< latents
};
/// The coefficients that a token gives them: its margin is residual * of_residual + norm * of_norm
/// + margin + extra. of_norm infinite: computed whole.
struct TokenBounds {
  float* of_residual = nullptr;  ///< tokens
  float* of_norm = nullptr;      ///< tokens
  float* extra = nullptr;        ///< tokens
};

/// Sums of squares in float64, in FoldBias' order.
struct LatentBoundsParams {
  WeightRows w;  ///< [latents, d]
  const float* c = nullptr;
  std::int64_t latents = 0, d = 0;
  LatentBounds out;
};
struct TokenBoundsParams {
  const float* x = nullptr;  ///< [tokens, d]
  std::int64_t tokens = 0, d = 0;
  float scale = 1;
  TokenBounds out;
};

/// Candidates of each token; a list without order.
struct CandidateLists {
  float* upper = nullptr;           ///< [tokens, limit]
  float* lower = nullptr;           ///< [tokens, limit]
  std::int32_t* ids = nullptr;      ///< [tokens, limit]
  std::int32_t* counts = nullptr;   ///< tokens; 0 before the first chunk; -1: compute whole
  std::uint32_t* floors = nullptr;  ///< tokens: in the order of values; 0 before the first chunk
  std::int64_t limit = 0;           ///< k <= limit <= kMaxCandidates
};
inline constexpr std::int64_t kMaxCandidates = 16384;

/// Sifts one chunk: `chunk` has no ids; products are those of hi and bfloat16(x).
struct ScreenChunkParams {
  ChunkProducts chunk;
  std::int64_t k = 0;
  LatentBounds latents;  ///< of all: column j is latent first_id + j
  TokenBounds tokens;    ///< of the chunk's
  CandidateLists lists;  ///< of the chunk's
};

/// What a call did.
struct CertifiedStats {
  std::int64_t candidates;  ///< computed again one by one
  std::int64_t whole;       ///< tokens computed whole
};

/// The lists' members by ReferenceDot, and tokens with count -1 whole: TopKUpdate's state.
struct RescoreParams {
  WeightRows w;  ///< [latents, d]; joined where lo is given
  const float* c = nullptr;
  std::int64_t latents = 0, d = 0;
  const float* x = nullptr;  ///< [tokens, d]
  std::int64_t tokens = 0;
  float scale = 1;
  CandidateLists lists;
  std::int64_t k = 0;
  float* values = nullptr;          ///< [tokens, k]
  std::int32_t* ids = nullptr;      ///< [tokens, k]
  std::int32_t* counts = nullptr;   ///< tokens
  std::int32_t* finite = nullptr;   ///< becomes 0 where a z is NaN
  CertifiedStats* stats = nullptr;  ///< added to, or null
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error BoundLatents(const device::LatentBoundsParams& params, void* stream);
[[nodiscard]] Error BoundTokens(const device::TokenBoundsParams& params, void* stream);
[[nodiscard]] Error ScreenChunk(const device::ScreenChunkParams& params, void* stream);
[[nodiscard]] Error Rescore(const device::RescoreParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void BoundLatents(const device::LatentBoundsParams& params);
void BoundTokens(const device::TokenBoundsParams& params);
/// A list may differ from the kernel's: what all of them share is said above.
void ScreenChunk(const device::ScreenChunkParams& params);
void Rescore(const device::RescoreParams& params);
}  // namespace sae::kernels::plain
