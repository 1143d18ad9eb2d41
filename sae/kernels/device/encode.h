#pragma once
// The encoder on the device: products of all tokens with a chunk of latents at a time, in one
// buffer that stays in the second-level cache, selected as they are made; tokens x latents is never
// written. z of (token, latent) = fmaf(scale, x . w, c); with `exact` x . w is a float32 product of
// the joined rows (under the executor one chain of fused multiply-adds, as on the CPU), else the
// product of the rounded x and the rows' high halves with float32 sums. Chunks of latents are the
// outer loop, groups of tokens the inner one: rows are read once a step.
// Host code that enqueues on `stream` and returns: no allocation, no synchronisation, sizes known
// to the host, so that a step can be captured. Pointers are device memory. One call at a time on a
// library and a scratch. Errors: kInvalidArgument, and those of kernels and products. Sources:
// numerics 1-3; performance (c), (f).

#include <cstdint>

#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/slots.h"
#include "sae/kernels/device_library.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// Sizes of one product. They decide speed, and on a GPU last bits of what is not certified. The
/// default's 32 MB of products stay in an H100's second-level cache of 50 MB.
struct EncodeSchedule {
  std::int64_t group_tokens = 1024;
  std::int64_t chunk_columns = 8192;
  /// Columns of the first chunk; later ones double up to chunk_columns. 0: chosen by the call
  /// (chunk_columns, or what an empty slot takes).
  std::int64_t first_columns = 0;
  /// Not 0: every product has this many columns, whatever is left of a chunk: rows are copied to one
  /// place, those behind the last are zeros, and chunk_columns is not used. Products of equal
  /// groups of tokens then are equal calls of the library (shape, strides, alignment), so that the
  /// bits of a latent do not depend on how many latents a rank has, nor on where it lies.
  std::int64_t fixed_columns = 0;
};

struct EncodeParams {
  WeightRows w;              ///< [latents, d]
  const float* c = nullptr;  ///< latents: FoldBias
  std::int64_t latents = 0, d = 0;
  const float* x = nullptr;               ///< [tokens, d] raw: exact
  const std::uint16_t* x_bf16 = nullptr;  ///< [tokens, d]: not exact
  std::int64_t tokens = 0;
  float scale = 1;
  bool exact = false;
  /// Only these rows (local ids, ascending) where not null: the first *id_count of `ids`, which the
  /// device knows, of id_limit that there may be.
  const std::int32_t* ids = nullptr;
  const std::int32_t* id_count = nullptr;
  std::int64_t id_limit = 0;
  std::int32_t* finite = nullptr;  ///< becomes 0 where a pre-activation is NaN; set by the caller
  EncodeSchedule schedule;
  void* scratch = nullptr;              ///< EncodeScratchBytes(params), 256-byte aligned
  std::int32_t* id_overflow = nullptr;  ///< or null: set to 1 where *id_count > id_limit
};
std::int64_t EncodeScratchBytes(const EncodeParams& params);

/// TopKUpdate's state.
struct TopKState {
  std::int64_t k = 0;
  float* values = nullptr;         ///< [tokens, k]
  std::int32_t* ids = nullptr;     ///< [tokens, k]
  std::int32_t* counts = nullptr;  ///< tokens
};
/// The k largest of each token, from an empty state.
[[nodiscard]] Error EncodeTopK(cuda::DeviceLibrary* library, const EncodeParams& params,
                               const TopKState& state, void* stream);

/// The k largest by certified.h's definition: `exact` is false, both x and x_bf16 = bfloat16(x) are
/// given, no subset; scratch of CertifiedScratchBytes. Weights without lo are their own rounding.
/// `stats` is added to, or null.
[[nodiscard]] Error EncodeCertifiedTopK(cuda::DeviceLibrary* library, const EncodeParams& params,
                                        const TopKState& state, CertifiedStats* stats,
                                        void* stream);
std::int64_t CertifiedScratchBytes(const EncodeParams& params, std::int64_t k);

/// Everything above `lower` (latents; null: above 0), from empty slots.
[[nodiscard]] Error EncodeAbove(cuda::DeviceLibrary* library, const EncodeParams& params,
                                const float* lower, const Slots& slots, void* stream);

/// BatchTopK's candidates.
struct LargestParams {
  std::int64_t wanted = 0;            ///< k B, of all ranks
  Slots slots;                        ///< capacity: as many as one token may have; 4 k is ample
  BatchCut* cut = nullptr;            ///< scratch
  std::int64_t* histogram = nullptr;  ///< scratch: kRadixBins
  float* floor = nullptr;             ///< scratch: one value
};
/// This rank's entries > 0 that may be among the `wanted` first of the batch, from empty slots:
/// those that reach the wanted-th largest of its own, ties included. The floor is raised each time
/// that the columns seen have doubled. A token that exceeds its capacity sets slots.overflow.
[[nodiscard]] Error EncodeLargest(cuda::DeviceLibrary* library, const EncodeParams& params,
                                  const LargestParams& largest, void* stream);

/// The two above by certified.h's definition: what EncodeCertifiedTopK needs, and scratch of
/// CertifiedSlotsScratchBytes. EncodeCertifiedLargest keeps what may be among the `wanted` first
/// until the end, when values become exact, and then cuts as EncodeLargest does. Slots hold all
/// candidates: some more than the result.
[[nodiscard]] Error EncodeCertifiedAbove(cuda::DeviceLibrary* library, const EncodeParams& params,
                                         const float* lower, const Slots& slots,
                                         CertifiedStats* stats, void* stream);
[[nodiscard]] Error EncodeCertifiedLargest(cuda::DeviceLibrary* library, const EncodeParams& params,
                                           const LargestParams& largest, CertifiedStats* stats,
                                           void* stream);
std::int64_t CertifiedSlotsScratchBytes(const EncodeParams& params, std::int64_t capacity);

}  // namespace sae::kernels::device
