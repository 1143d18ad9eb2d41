#include "sae/kernels/row_update.h"

#include <algorithm>

namespace sae::kernels {
namespace {

/// sum of delta of one latent over all terms: the one order that every caller uses.
template <class T>
double DeltaSum(const RowGradientInput<T>& input, std::int64_t latent) {
  double sum = 0;
  for (const GradientTerm<T>& term : input.terms) {
    const auto i = static_cast<std::size_t>(latent);
    for (std::int64_t q = term.index->indptr[i]; q < term.index->indptr[i + 1]; ++q) {
      sum += static_cast<double>(term.delta[term.index->entries[static_cast<std::size_t>(q)]]);
    }
  }
  return sum;
}

/// The squared norm of the latent's whole gradient, the decoder's part projected in place.
template <class T>
double ProjectAndMeasure(std::int64_t d, const T* w_dec, bool unit_norm, T* g_dec, const T* g_enc,
                         T g_bias) {
  if (unit_norm) ProjectRow(d, w_dec, g_dec);
  return SumOfSquares(d, g_dec) + SumOfSquares(d, g_enc) +
         static_cast<double>(g_bias) * static_cast<double>(g_bias);
}

template <class T>
void Reserve(RowWorkspace<T>* workspace, std::int64_t latents, std::int64_t d, int threads) {
  workspace->rows.resize(static_cast<std::size_t>(2 * d * threads));
  workspace->norms.assign(static_cast<std::size_t>(latents), 0.0);
}

double Total(const std::vector<double>& norms) {
  double sum = 0;
  for (const double norm : norms) sum += norm;
  return sum;
}

/// The optimizer's part of one latent with a gradient.
template <class T>
void Step(const RowUpdateOptions& options, std::int64_t d, const RowParameters<T>& p,
          std::int64_t latent, T* g_dec, T* g_enc, T g_bias) {
  if (options.gradient_scale != 1) {
    const auto scale = static_cast<T>(options.gradient_scale);
    Scale(d, scale, g_dec);
    Scale(d, scale, g_enc);
    g_bias *= scale;
  }
  const std::int64_t row = latent * d;
  AdamRow(d, options.adam, g_dec, p.w_dec + row, p.w_dec_m + row, p.w_dec_v + row);
  if (options.unit_norm_decoder) RenormaliseRow(d, p.w_dec + row);
  AdamRow(d, options.adam, g_enc, p.w_enc + row, p.w_enc_m + row, p.w_enc_v + row);
  AdamRow(1, options.adam, &g_bias, p.b_enc + latent, p.b_enc_m + latent, p.b_enc_v + latent);
}

/// The same without a gradient: what has no momentum does not move, and is not renormalised either.
template <class T>
void StepWithoutGradient(const RowUpdateOptions& options, std::int64_t d, const RowParameters<T>& p,
                         std::int64_t latent) {
  const std::int64_t row = latent * d;
  const bool moves = !AllZero(d, p.w_dec_m + row);
  AdamRowWithoutGradient(d, options.adam, p.w_dec + row, p.w_dec_m + row, p.w_dec_v + row);
  if (moves && options.unit_norm_decoder) RenormaliseRow(d, p.w_dec + row);
  AdamRowWithoutGradient(d, options.adam, p.w_enc + row, p.w_enc_m + row, p.w_enc_v + row);
  AdamRowWithoutGradient(1, options.adam, p.b_enc + latent, p.b_enc_m + latent, p.b_enc_v + latent);
}

}  // namespace

template <class T>
bool RowGradient(const RowGradientInput<T>& input, std::int64_t latent, T* g_dec, T* g_enc,
                 T* g_bias) {
  const std::int64_t d = input.d;
  std::fill(g_dec, g_dec + d, T(0));
  std::fill(g_enc, g_enc + d, T(0));
  *g_bias = T(0);
  bool any = false;
  for (const GradientTerm<T>& term : input.terms) {
    const auto i = static_cast<std::size_t>(latent);
    for (std::int64_t q = term.index->indptr[i]; q < term.index->indptr[i + 1]; ++q) {
      const std::int64_t entry = term.index->entries[static_cast<std::size_t>(q)];
      const std::int64_t token = term.index->tokens[static_cast<std::size_t>(q)];
      Axpy(d, term.f[entry], term.g + token * d, g_dec);
      Axpy(d, term.delta[entry], input.x + token * d, g_enc);
      any = true;
    }
  }
  if (!any) return false;
  *g_bias = static_cast<T>(DeltaSum(input, latent));
  if (input.scale != T(1)) Scale(d, input.scale, g_enc);
  if (input.b_dec != nullptr) Axpy(d, -*g_bias, input.b_dec, g_enc);
  return true;
}

template <class T>
void BiasGradient(const RowGradientInput<T>& input, T* out, ThreadPool& pool) {
  pool.ParallelFor(input.latents, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(DeltaSum(input, i));
  });
}

template <class T>
double RowGradientSquaredNorm(const RowGradientInput<T>& input, const T* w_dec,
                              bool unit_norm_decoder, RowWorkspace<T>* workspace,
                              ThreadPool& pool) {
  const std::int64_t d = input.d;
  Reserve(workspace, input.latents, d, pool.size());
  pool.ParallelFor(input.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* g_dec = workspace->rows.data() + 2 * d * worker;
    T* g_enc = g_dec + d;
    for (std::int64_t i = begin; i < end; ++i) {
      T g_bias = 0;
      if (!RowGradient(input, i, g_dec, g_enc, &g_bias)) continue;
      workspace->norms[static_cast<std::size_t>(i)] =
          ProjectAndMeasure(d, w_dec + i * d, unit_norm_decoder, g_dec, g_enc, g_bias);
    }
  });
  return Total(workspace->norms);
}

template <class T>
double RowUpdate(const RowGradientInput<T>& input, const RowUpdateOptions& options,
                 const RowParameters<T>& parameters, RowWorkspace<T>* workspace, ThreadPool& pool) {
  const std::int64_t d = input.d;
  Reserve(workspace, input.latents, d, pool.size());
  pool.ParallelFor(input.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* g_dec = workspace->rows.data() + 2 * d * worker;
    T* g_enc = g_dec + d;
    for (std::int64_t i = begin; i < end; ++i) {
      T g_bias = 0;
      if (!RowGradient(input, i, g_dec, g_enc, &g_bias)) {
        StepWithoutGradient(options, d, parameters, i);
        continue;
      }
      workspace->norms[static_cast<std::size_t>(i)] = ProjectAndMeasure(
          d, parameters.w_dec + i * d, options.unit_norm_decoder, g_dec, g_enc, g_bias);
      Step(options, d, parameters, i, g_dec, g_enc, g_bias);
    }
  });
  return Total(workspace->norms);
}

template bool RowGradient(const RowGradientInput<float>&, std::int64_t, float*, float*, float*);
template bool RowGradient(const RowGradientInput<double>&, std::int64_t, double*, double*, double*);
template void BiasGradient(const RowGradientInput<float>&, float*, ThreadPool&);
template void BiasGradient(const RowGradientInput<double>&, double*, ThreadPool&);
template double RowGradientSquaredNorm(const RowGradientInput<float>&, const float*, bool,
                                       RowWorkspace<float>*, ThreadPool&);
template double RowGradientSquaredNorm(const RowGradientInput<double>&, const double*, bool,
                                       RowWorkspace<double>*, ThreadPool&);
template double RowUpdate(const RowGradientInput<float>&, const RowUpdateOptions&,
                          const RowParameters<float>&, RowWorkspace<float>*, ThreadPool&);
template double RowUpdate(const RowGradientInput<double>&, const RowUpdateOptions&,
                          const RowParameters<double>&, RowWorkspace<double>*, ThreadPool&);

}  // namespace sae::kernels
