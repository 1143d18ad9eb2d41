#pragma once
// Certified selection by bounds: what AppendAbove would select of z by ReferenceDot (certified.h
// has the definition and the margins), from bfloat16 products. Slots first take every latent whose
// upper end lies above its bound, and Rescore makes values of them and drops what is not above. Ids
// ascend throughout. Tokens that cannot be screened have the count -1 until then, and are computed
// whole. All pointers are device memory (namespace plain: host memory); work is enqueued on
// `stream`. Errors: kInvalidArgument for sizes out of range and missing pointers. Partners: the
// same bits. C++17. Sources: numerics 3, "Certified".

#include <cstdint>

#include "sae/kernels/device/certified.h"

namespace sae::kernels::device {

/// Appends ids and upper ends; the bounds are AppendAbove's. chunk has no ids.
struct ScreenAboveParams {
  ChunkProducts chunk;
  LatentBounds latents;  ///< of all: column j is latent first_id + j
  TokenBounds tokens;    ///< of the chunk's
  const float* lower = nullptr;
  const float* floor = nullptr;
  Slots out;                    ///< values: upper ends; counts: 0 before the first chunk
  float* lower_ends = nullptr;  ///< [tokens, capacity], or null
};

/// In place: values become z, entries with z not above the bound go.
struct RescoreAboveParams {
  WeightRows w;  ///< [latents, d]; joined where lo is given
  const float* c = nullptr;
  std::int64_t latents = 0, d = 0;
  const float* x = nullptr;  ///< [tokens, d]
  float scale = 1;
  const float* lower = nullptr;
  const float* floor = nullptr;
  Slots slots;
  std::int32_t* finite = nullptr;   ///< becomes 0 where a z is NaN
  CertifiedStats* stats = nullptr;  ///< added to, or null
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error ScreenAbove(const device::ScreenAboveParams& params, void* stream);
[[nodiscard]] Error RescoreAbove(const device::RescoreAboveParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void ScreenAbove(const device::ScreenAboveParams& params);
void RescoreAbove(const device::RescoreAboveParams& params);
}  // namespace sae::kernels::plain
