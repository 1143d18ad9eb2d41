#pragma once
// Selection by ReferenceDot without computing it everywhere: what EncodeTopK, EncodeAbove and
// EncodeLargest do where EncodeInput::screen is set. The screen's products enclose each
// pre-activation in an interval; only latents whose interval reaches a bound that the selection
// certainly reaches are candidates, and those are computed again by ReferenceDot. The result is bit
// for bit that of ReferenceDot over all latents: it depends on neither the screen's arithmetic nor
// chunks, threads or shards. Tokens that cannot be screened, or have too many candidates, are
// computed whole. Contracts (outputs, order, NaN, thread safety) are those of encode.h. Source:
// numerics 3, "Certified".

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/kernels/encode.h"

namespace sae::kernels {

/// What the last call did; for tests and benches.
struct CertifiedCounts {
  std::int64_t candidates = 0;  ///< computed again, one by one
  std::int64_t whole = 0;       ///< tokens (top-k) or chunks of a token computed whole
};

/// `out` is sized, 1 <= width <= latents; no subset.
[[nodiscard]] bool CertifiedTopK(const EncodeInput<float>& input, EncodeWorkspace<float>* workspace,
                                 TopK<float>* out, ThreadPool& pool);

/// `lower` per latent, or null and `floor` for all.
[[nodiscard]] bool CertifiedAbove(const EncodeInput<float>& input, const float* lower, float floor,
                                  EncodeWorkspace<float>* workspace, Codes<float>* out,
                                  ThreadPool& pool);

/// count >= 1; latents and tokens are not 0.
[[nodiscard]] bool CertifiedLargest(const EncodeInput<float>& input, std::int64_t count,
                                    float floor, EncodeWorkspace<float>* workspace,
                                    Codes<float>* out, ThreadPool& pool);

CertifiedCounts LastCounts(const EncodeWorkspace<float>& workspace);

}  // namespace sae::kernels
