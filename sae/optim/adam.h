#pragma once
// Adam over the parameters of one shard (Kingma and Ba 2015), with the decoder's unit-norm
// constraint: project the gradient, step, renormalise. The sparse path is kernels::RowUpdate;
// UpdateFromDense is its twin for gradients that lie in memory. Moments own their memory, addresses
// stay. Not thread-safe. No errors.

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/row_update.h"
#include "sae/model/parameters.h"

namespace sae::optim {

template <class T>
struct Moments {
  explicit Moments(const model::Parameters<T>& p) : m(p.count, p.d), v(p.count, p.d) {}
  model::Parameters<T> m;  ///< first moments, in the shapes of the parameters
  model::Parameters<T> v;  ///< second moments
};

/// The views that kernels::RowUpdate takes; they borrow both.
template <class T>
kernels::RowParameters<T> RowsOf(model::Parameters<T>& parameters, Moments<T>& moments);

/// One step of all latents from dense gradients: w_enc and w_dec [count, d], b_enc [count].
/// `gradient` is overwritten (projected). One thread a latent: bits do not depend on the number of
/// threads.
template <class T>
void UpdateFromDense(const kernels::Adam& adam, model::Parameters<T>& gradient,
                     model::Parameters<T>& parameters, Moments<T>& moments, ThreadPool& pool);

/// One step of b_dec, the same on every rank.
template <class T>
void UpdateDecoderBias(const kernels::Adam& adam, const T* gradient,
                       model::Parameters<T>& parameters, Moments<T>& moments);

}  // namespace sae::optim
