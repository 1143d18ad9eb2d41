#pragma once
// Gradient rows that are written out, where ranks have to add them before the optimizer can use
// them: the sums of row_step.h, to the bit, without its decoder's rule. Allocates nothing.
// Thread-safe on distinct outputs; no errors; NaN propagates. Source: sae algorithms 0.2.

#include <cstdint>

#include "sae/kernels/row_step.h"

namespace sae::kernels {

/// g_dec (d_out) and g_enc (d) of one latent, overwritten; zero where it has no gradient. Both are
/// multiplied by `share` at the end. `w_dec`: latents x d_out, read for norm_gradient only. Returns
/// which of them has a gradient.
template <class T>
RowsWithGradient MakeGradientRows(const RowGradientInput<T>& input, const T* w_dec,
                                  std::int64_t latent, T share, T* g_dec, T* g_enc);

}  // namespace sae::kernels
