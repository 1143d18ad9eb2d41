#pragma once
// Adam over the parameters of one shard (Kingma and Ba 2015). The matrices' rows go through
// kernels::RowUpdate, with the decoder's constraint; UpdateFromDense is its twin for gradients that
// lie in memory; vectors go through UpdateVector. Moments own their memory, addresses stay. Not
// thread-safe. No errors.

#include <cstdint>
#include <memory>

#include "sae/base/parallel.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/row_step.h"
#include "sae/model/parameters.h"
#include "sae/optim/reduced_moments.h"

namespace sae::optim {

template <class T>
struct Moments {
  explicit Moments(const model::ParameterShape& shape) : m(shape), v(shape) {}
  /// The matrices' as `storage` says; vectors stay T.
  Moments(const model::ParameterShape& shape, const MomentStorage& storage);

  model::Parameters<T> m;  ///< first moments, in the shapes of the parameters
  model::Parameters<T> v;  ///< second moments
  std::unique_ptr<MatrixMoments> reduced;  ///< null: those of the matrices are in m and v too
  kernels::AlignedVector<T> rows;          ///< scratch of UpdateFromDense: 2 rows a thread
};

/// The views that kernels::RowUpdate takes; they borrow both. row_scale and last_step stay null.
template <class T>
kernels::RowParameters<T> RowsOf(model::Parameters<T>& parameters, Moments<T>& moments);

/// One step of all latents from dense gradients: w_enc [count, d], w_dec [count, d_out] (unit or
/// free rows). `w_dec_gradient` is overwritten (projected). One thread a latent: bits do not depend
/// on the number of threads. `t`: Adam's step.
template <class T>
void UpdateFromDense(const kernels::Adam& adam, std::int64_t t, bool unit, const T* w_enc_gradient,
                     T* w_dec_gradient, model::Parameters<T>& parameters, Moments<T>& moments,
                     ThreadPool& pool);

/// One step of `count` parameters whose gradient is multiplied by `gradient_scale` (clipping);
/// `gradient` is overwritten where that is not 1.
template <class T>
void UpdateVector(const kernels::Adam& adam, double gradient_scale, T* p, T* m, T* v, T* gradient,
                  std::int64_t count, ThreadPool& pool);
template <class T>
void UpdateVector(const kernels::Adam& adam, double gradient_scale, kernels::AlignedVector<T>& p,
                  kernels::AlignedVector<T>& m, kernels::AlignedVector<T>& v, T* gradient,
                  ThreadPool& pool) {
  UpdateVector(adam, gradient_scale, p.data(), m.data(), v.data(), gradient,
               static_cast<std::int64_t>(p.size()), pool);
}

}  // namespace sae::optim
