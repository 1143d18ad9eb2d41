#pragma once
// The backward of both matrices and the optimizer, latent by latent: a gradient row is made,
// projected, used and forgotten. n x d gradients are never written. For each latent i of the shard,
// over all terms whose range holds i and their entries q of i (terms in order, tokens ascending):
//   gW_dec[i] = sum f_q G_token(q) + norm_gradient_i W_dec[i] / |W_dec[i]|
//   gW_enc[i] = scale (sum delta_q x_token(q) + dense_delta_i x_sum) - delta_sums_i b_dec
// (norm_gradient with kFree only: the other rules project it out). Then the decoder's rule, both
// times `gradient_scale` (clipping), and Adam. Biases and other scalars of a latent are the
// caller's. A matrix's row has a gradient where a term with f (decoder) or delta (encoder) has an
// entry of i, or a dense part is given. Without one it takes Adam's step with g = 0, and the
// decoder's rule is applied only where beta1 m, after its decay, is not 0: a row at rest keeps its
// bits. Rows::kLazy (beta1 = 0) does not touch latents without any gradient, Rows::kDeferred not
// their decoder rows; `last_step` says up to which step a row is current, RowUpdate and CatchUp
// replay the rest with the same operations, so both equal kDense bit for bit. Determinism: one
// thread a latent, fixed order; bits do not depend on the number of threads. NaN propagates
// (refused upstream). Thread safety: one call at a time per workspace. Errors: what cannot be right
// is a bug (SAE_CHECK). Sources: sae algorithms 0.2-0.4, 3.5, numerics 4.

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"
#include "sae/kernels/moment_rows.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {
// Not to be included together with row_update.h, whose names these are; the symbols differ.
inline namespace row_step {

/// One set of codes and the gradient that reaches it: the main codes, AuxK's, one of Matryoshka's
/// groups, ...
template <class T>
struct GradientTerm {
  const LatentIndex* index = nullptr;
  const T* f = nullptr;      ///< nnz, CSR order; null: nothing reaches the decoder
  const T* delta = nullptr;  ///< nnz, CSR order, dL/dz; null: nothing reaches the encoder
  const T* g = nullptr;      ///< tokens x d_out: dL/dxhat (AuxK: of its own reconstruction)
  /// Only latents (local ids) in [first_latent, last_latent).
  std::int64_t first_latent = 0;
  std::int64_t last_latent = std::numeric_limits<std::int64_t>::max();
};

template <class T>
struct RowGradientInput {
  std::int64_t latents = 0;
  std::int64_t d = 0;        ///< width of the encoder's rows
  std::int64_t d_out = 0;    ///< width of the decoder's rows
  const T* x = nullptr;      ///< tokens x d, raw units
  T scale = T(1);            ///< 1 / S
  const T* b_dec = nullptr;  ///< d, or null without pre-bias; needs delta_sums
  std::span<const GradientTerm<T>> terms;
  const T* delta_sums = nullptr;     ///< latents: sum of delta over all terms and the dense part
  const T* norm_gradient = nullptr;  ///< latents or null: dL / d|W_dec[i]|, kFree only
  const T* dense_delta = nullptr;    ///< latents or null: a delta that every token shares
  const T* x_sum = nullptr;          ///< d: sum of x over the batch, raw units; with dense_delta
};

/// What keeps the decoder's rows on the unit sphere.
enum class DecoderRule {
  kUnit,        ///< project the gradient, Adam, renormalise
  kUnitBefore,  ///< renormalise, project, Adam: rows leave the sphere by one step (OpenAI)
  kFree,        ///< nothing
  kOnTheFly,    ///< W_dec holds v, the direction is v / |v|; gradients come w.r.t. the direction
};

/// Parameters and moments of the shard, updated in place. Row-major, latents x d or x d_out.
template <class T>
struct RowParameters {
  T* w_enc = nullptr;
  T* w_dec = nullptr;
  T* w_enc_m = nullptr;
  T* w_enc_v = nullptr;
  T* w_dec_m = nullptr;
  T* w_dec_v = nullptr;
  T* row_scale = nullptr;  ///< latents, kOnTheFly: 1 / |v_i|, read for the gradient, then rewritten
  std::int64_t* last_step = nullptr;  ///< latents, kLazy and kDeferred: 0 before the first step
  /// Moments in fewer bits, in place of the four above; with kDense only. Borrowed.
  const ReducedMoments* reduced = nullptr;
};

struct RowUpdateOptions {
  enum class Rows { kDense, kLazy, kDeferred };
  Adam adam;  ///< of step t
  DecoderRule decoder = DecoderRule::kUnit;
  double gradient_scale = 1;  ///< min(1, C / norm)
  Rows rows = Rows::kDense;
  std::int64_t t = 1;  ///< Adam's step, from 1
  /// kDeferred: Adam of an earlier step. Called once a step that some row has to catch up with.
  std::function<Adam(std::int64_t t)> adam_at;
};

/// Buffers of one shard's update; grown on first use.
template <class T>
struct RowWorkspace {
  /// The rows that one latent's gradient is a sum of, decoder's and encoder's.
  struct Sources {
    std::vector<T> f, delta;
    std::vector<const T*> g, x;
    void Reserve(std::size_t count) {
      f.reserve(count);
      delta.reserve(count);
      g.reserve(count);
      x.reserve(count);
    }
    void Clear() {
      f.clear();
      delta.clear();
      g.clear();
      x.clear();
    }
  };
  struct Worker {
    std::vector<T> rows;          ///< 2 d_out + d, and m and v of a row where they are reduced
    Sources sources[2];           ///< of the latent at hand and of the next one
    std::int64_t collected = -1;  ///< the next one
  };
  std::vector<Worker> workers;
  std::vector<double> norms;  ///< latents
};

/// Which of a latent's two rows have a gradient.
struct RowsWithGradient {
  bool dec = false;
  bool enc = false;
};

/// Gradient rows of latent i before the decoder's rule: g_dec (d_out) and g_enc (d), overwritten,
/// zero where there is none. `w_dec`: latents x d_out, read for norm_gradient only.
template <class T>
RowsWithGradient RowGradient(const RowGradientInput<T>& input, const T* w_dec, std::int64_t latent,
                             T* g_dec, T* g_enc);

/// Sum over all latents of the squared norms of both rows' gradients after the decoder's rule and
/// before gradient_scale, for clipping. Rows summed in latent order in float64. Changes no
/// parameter; kDeferred: rows with a gradient must be current (CatchUp).
template <class T>
double RowGradientSquaredNorm(const RowGradientInput<T>& input, const RowParameters<T>& parameters,
                              const RowUpdateOptions& options, RowWorkspace<T>* workspace,
                              ThreadPool& pool);

/// Step options.t of the optimizer. Returns what RowGradientSquaredNorm would.
template <class T>
double RowUpdate(const RowGradientInput<T>& input, const RowUpdateOptions& options,
                 const RowParameters<T>& parameters, RowWorkspace<T>* workspace, ThreadPool& pool);

/// Brings rows up to step options.t as if they had been updated with kDense all along: kLazy both
/// rows (only m and v change), kDeferred the decoder row; kDense: nothing. To be called with
/// options.t = the last finished step before decoder rows are read (kDeferred) and before a
/// checkpoint (both). `latents`: `count` distinct local ids; null: the ids 0 .. count - 1.
template <class T>
void CatchUp(const std::int32_t* latents, std::int64_t count, std::int64_t d, std::int64_t d_out,
             const RowUpdateOptions& options, const RowParameters<T>& parameters, ThreadPool& pool);

}  // namespace row_step

/// out[i] = sum of `values` (CSR order) over the entries of latent i, tokens ascending, in float64,
/// rounded once. out: index.latents.
template <class T>
void SumByLatent(const LatentIndex& index, const T* values, T* out, ThreadPool& pool);

}  // namespace sae::kernels
