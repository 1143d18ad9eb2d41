#pragma once
// The backward of both matrices and the optimizer, latent by latent: the gradient row is made,
// projected, used and forgotten. n x d gradients are never written. For each latent i of the shard,
// over all terms t and their entries q of i (terms in the given order, tokens ascending):
//   gW_dec[i] = sum f_q G_token(q)
//   gW_enc[i] = scale * sum delta_q x_token(q) - (sum delta_q) b_dec        (b_dec null: no
//   pre-bias) gb_enc[i] = sum delta_q
// then gW_dec[i] loses its component along W_dec[i] (unit-norm decoders), all are multiplied by
// `gradient_scale` (clipping), Adam, and W_dec[i] is renormalised. A decoder row without an entry
// and with m = 0 is left alone (only v decays); with m != 0 it takes Adam's step with g = 0.
// Determinism: one thread a latent, fixed order; bits do not depend on the number of threads.
// NaN propagates (refused upstream). Thread safety: one call at a time per workspace. No errors.
// Sources: sae algorithms 0.2-0.4, numerics 4.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {

/// One set of codes and the gradient that reaches it: the main codes, AuxK's, ...
template <class T>
struct GradientTerm {
  const LatentIndex* index = nullptr;
  const T* f = nullptr;      ///< nnz, CSR order
  const T* delta = nullptr;  ///< nnz, CSR order: dL/dz
  const T* g = nullptr;      ///< tokens x d: dL/dxhat (AuxK: of its own reconstruction)
};

template <class T>
struct RowGradientInput {
  std::int64_t latents = 0;
  std::int64_t d = 0;
  const T* x = nullptr;      ///< tokens x d, raw units
  T scale = T(1);            ///< 1 / S
  const T* b_dec = nullptr;  ///< d, or null without pre-bias
  std::span<const GradientTerm<T>> terms;
};

/// Parameters and moments of the shard, updated in place. Row-major latents x d; biases `latents`.
template <class T>
struct RowParameters {
  T* w_enc = nullptr;
  T* w_dec = nullptr;
  T* b_enc = nullptr;
  T* w_enc_m = nullptr;
  T* w_enc_v = nullptr;
  T* w_dec_m = nullptr;
  T* w_dec_v = nullptr;
  T* b_enc_m = nullptr;
  T* b_enc_v = nullptr;
};

struct RowUpdateOptions {
  Adam adam;
  bool unit_norm_decoder = true;  ///< project the gradient, renormalise after the step
  double gradient_scale = 1;      ///< min(1, C / norm)
};

template <class T>
struct RowWorkspace {
  std::vector<T> rows;        ///< pool size x 2 d
  std::vector<double> norms;  ///< latents
};

/// Gradient rows of latent i: g_dec and g_enc (d each, overwritten) and g_bias. False where i has
/// no entry (then the rows are zero). Not projected.
template <class T>
bool RowGradient(const RowGradientInput<T>& input, std::int64_t latent, T* g_dec, T* g_enc,
                 T* g_bias);

/// out[i] = sum of delta over the entries of latent i, all terms, in the order of RowGradient:
/// gb_enc, and the vector whose product with W_enc is the encoder's term of the b_dec gradient
/// (before W_enc is updated).
template <class T>
void BiasGradient(const RowGradientInput<T>& input, T* out, ThreadPool& pool);

/// Sum over all latents of the squared norms of the (projected) gradient rows and bias gradients,
/// for clipping. Rows summed in latent order in float64. Changes no parameter.
template <class T>
double RowGradientSquaredNorm(const RowGradientInput<T>& input, const T* w_dec,
                              bool unit_norm_decoder, RowWorkspace<T>* workspace, ThreadPool& pool);

/// One optimizer step. Returns the squared norm that RowGradientSquaredNorm would (before
/// gradient_scale).
template <class T>
double RowUpdate(const RowGradientInput<T>& input, const RowUpdateOptions& options,
                 const RowParameters<T>& parameters, RowWorkspace<T>* workspace, ThreadPool& pool);

}  // namespace sae::kernels
