#include "sae/kernels/gradient_rows.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sae::kernels {
namespace {

/// out += sum over the entries [first, last) of `index` of values[entry] rows[token].
template <class T>
void AddEntries(const LatentIndex& index, std::int64_t latent, const T* values, const T* rows,
                std::int64_t d, T* out) {
  constexpr std::int64_t kRows = 32;  // at once
  std::array<T, kRows> a{};
  std::array<const T*, kRows> from{};
  const std::int64_t last = index.indptr[static_cast<std::size_t>(latent) + 1];
  for (std::int64_t q = index.indptr[static_cast<std::size_t>(latent)]; q < last; q += kRows) {
    const std::int64_t count = std::min(kRows, last - q);
    for (std::int64_t e = 0; e < count; ++e) {
      const auto at = static_cast<std::size_t>(q + e);
      a[static_cast<std::size_t>(e)] = values[index.entries[at]];
      from[static_cast<std::size_t>(e)] = rows + index.tokens[at] * d;
    }
    AddRows(d, {count, a.data(), from.data()}, {0, nullptr, nullptr}, out);
  }
}

}  // namespace

template <class T>
RowsWithGradient MakeGradientRows(const RowGradientInput<T>& in, const T* w_dec,
                                  std::int64_t latent, T share, T* g_dec, T* g_enc) {
  std::fill(g_dec, g_dec + in.d_out, T(0));
  std::fill(g_enc, g_enc + in.d, T(0));
  RowsWithGradient with{in.norm_gradient != nullptr, in.dense_delta != nullptr};
  for (const GradientTerm<T>& term : in.terms) {
    if (latent < term.first_latent || latent >= term.last_latent || term.index->empty(latent))
      continue;
    if (term.f != nullptr) {
      with.dec = true;
      AddEntries(*term.index, latent, term.f, term.g, in.d_out, g_dec);
    }
    if (term.delta != nullptr) {
      with.enc = true;
      AddEntries(*term.index, latent, term.delta, in.x, in.d, g_enc);
    }
  }
  if (in.norm_gradient != nullptr) {
    const T* w = w_dec + latent * in.d_out;
    const double norm = std::sqrt(SumOfSquares(in.d_out, w));
    const auto a = static_cast<double>(in.norm_gradient[latent]);
    if (norm > 0) Axpy(in.d_out, static_cast<T>(a / norm), w, g_dec);
  }
  if (with.enc) {
    if (in.dense_delta != nullptr) Axpy(in.d, in.dense_delta[latent], in.x_sum, g_enc);
    if (in.scale != T(1)) Scale(in.d, in.scale, g_enc);
    if (in.b_dec != nullptr) Axpy(in.d, -in.delta_sums[latent], in.b_dec, g_enc);
  }
  if (share != T(1)) {
    Scale(in.d_out, share, g_dec);
    Scale(in.d, share, g_enc);
  }
  return with;
}

template RowsWithGradient MakeGradientRows(const RowGradientInput<float>&, const float*,
                                           std::int64_t, float, float*, float*);
template RowsWithGradient MakeGradientRows(const RowGradientInput<double>&, const double*,
                                           std::int64_t, double, double*, double*);

}  // namespace sae::kernels
