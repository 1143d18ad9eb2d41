#pragma once
// For the kernels of the row update: which entries of the terms reach a latent's rows.

#include "sae/kernels/device.h"
#include "sae/kernels/device/row_update.h"

namespace sae::kernels::cuda {

/// A matrix's list beyond this is shared among warps.
inline constexpr std::int32_t kLongList = 512;

SAELOOM_DEVICE inline bool Holds(const device::RowTerm& term, std::int64_t latent) {
  return latent >= term.first_latent && latent < term.last_latent &&
         (term.enabled == nullptr || *term.enabled != 0);
}

/// Entries of one latent, of all terms together.
struct ListLengths {
  std::int32_t decoder = 0, encoder = 0;
  SAELOOM_DEVICE bool AnyLong() const { return decoder > kLongList || encoder > kLongList; }
};
SAELOOM_DEVICE inline ListLengths LengthsOf(const device::RowUpdateParams& p, std::int64_t latent) {
  ListLengths out;
  SAELOOM_NO_UNROLL
  for (int t = 0; t < p.terms_count; ++t) {
    const device::RowTerm& term = p.terms[t];
    if ((term.f == nullptr && term.delta == nullptr) || !Holds(term, latent)) continue;
    const std::int32_t entries = term.index.indptr[latent + 1] - term.index.indptr[latent];
    if (term.f != nullptr) out.decoder += entries;
    if (term.delta != nullptr) out.encoder += entries;
  }
  return out;
}

/// Whether the row has a gradient: with entries, or without by what reaches every latent.
SAELOOM_DEVICE inline bool DecoderTouched(const device::RowUpdateParams& p, std::int32_t entries) {
  return entries > 0 || (p.norm_gradient != nullptr && p.rule == device::RowRule::kFree);
}
SAELOOM_DEVICE inline bool EncoderTouched(const device::RowUpdateParams& p, std::int32_t entries) {
  return entries > 0 || p.dense_delta != nullptr;
}
/// Whether either row has; a lazy step leaves the latent alone otherwise.
SAELOOM_DEVICE inline bool Touched(const device::RowUpdateParams& p, const ListLengths& lengths) {
  return DecoderTouched(p, lengths.decoder) || EncoderTouched(p, lengths.encoder);
}

/// One thread of the row's calls it.
SAELOOM_DEVICE inline void StoreColumnNorm(const device::ColumnRows& columns, std::int64_t latent,
                                           double norm2, bool rests) {
  if (columns.norm2 == nullptr) return;
  const auto part = static_cast<float>(norm2);
  columns.norm2[latent / columns.chunk * columns.stride + latent % columns.chunk] =
      rests ? -part : part;
}

}  // namespace sae::kernels::cuda
