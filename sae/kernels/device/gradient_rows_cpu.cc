#include <algorithm>
#include <cmath>

#include "sae/kernels/device/gradient_rows.h"
#include "sae/kernels/device/plain_rows.h"

namespace sae::kernels::plain {
namespace {

using device::RowTerm;
using device::RowUpdateParams;

/// row = the terms' sum. Returns whether there was an entry.
template <class Source>
bool AddTerms(const RowUpdateParams& p, std::int64_t latent, std::int64_t d,
              const float* RowTerm::*factors, const Source& source, float* row) {
  std::fill_n(row, d, 0.0F);
  bool any = false;
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    if (term.*factors == nullptr || latent < term.first_latent || latent >= term.last_latent ||
        !IsOn(term.enabled)) {
      continue;
    }
    for (std::int32_t q = term.index.indptr[latent]; q < term.index.indptr[latent + 1]; ++q) {
      const std::int32_t e = term.index.entries[q];
      for (std::int64_t j = 0; j < d; ++j)
        row[j] = std::fma((term.*factors)[e], source(term, term.rows[e] * d + j), row[j]);
      any = true;
    }
  }
  return any;
}

}  // namespace

void GradientRows(const device::GradientRowsParams& params) {
  const RowUpdateParams& p = params.input;
  for (std::int64_t i = 0; i < p.latents; ++i) {
    float* const dec = params.dec + i * p.d_out;
    AddTerms(
        p, i, p.d_out, &RowTerm::f, [](const RowTerm& term, std::int64_t at) { return term.g[at]; },
        dec);
    if (p.norm_gradient != nullptr && p.rule == device::RowRule::kFree) {
      double norm2 = 0;
      for (std::int64_t j = 0; j < p.d_out; ++j) {
        const auto w = static_cast<double>(Weight(Read(p.w_dec), i * p.d_out + j));
        norm2 += w * w;
      }
      const auto a = static_cast<double>(p.norm_gradient[i]);
      for (std::int64_t j = 0; norm2 > 0 && j < p.d_out; ++j) {
        dec[j] = std::fma(static_cast<float>(a / std::sqrt(norm2)),
                          Weight(Read(p.w_dec), i * p.d_out + j), dec[j]);
      }
    }
    float* const enc = params.enc + i * p.d;
    const bool any = AddTerms(
        p, i, p.d, &RowTerm::delta,
        [&](const RowTerm&, std::int64_t at) {
          return p.x != nullptr ? p.x[at] : Bf16ToFloat(p.x_bf16[at]);
        },
        enc);
    if (!any && p.dense_delta == nullptr) continue;
    for (std::int64_t j = 0; j < p.d; ++j) {
      if (p.dense_delta != nullptr) enc[j] = std::fma(p.dense_delta[i], p.x_sum[j], enc[j]);
      enc[j] *= p.scale;
      if (p.b_dec != nullptr) enc[j] = std::fma(-p.delta_sums[i], p.b_dec[j], enc[j]);
    }
  }
}

void IndexRows(const device::IndexRowsParams& p) {
  std::int32_t used = 0;
  p.out.indptr[0] = 0;
  for (std::int64_t i = 0; i < p.out.latents; ++i) {
    const float* const row = p.rows + i * p.d;
    if (std::any_of(row, row + p.d, [](float v) { return v != 0; }))
      p.out.entries[used++] = static_cast<std::int32_t>(i);
    p.out.indptr[i + 1] = used;
  }
}

void JoinVariance(const device::JoinVarianceParams& p) {
  const double share = p.summed ? 1 / static_cast<double>(p.parts) : 1.0;
  double squares = 0;
  for (std::int64_t j = 0; j < p.d; ++j) squares += share * p.means[j] * share * p.means[j];
  squares /= static_cast<double>(p.d);
  if (p.summed) {
    *p.variance = share * p.means[p.d] - squares;
  } else {
    p.means[p.d] = *p.variance + squares;
  }
}

}  // namespace sae::kernels::plain
