#pragma once
// The linear skip of a transcoder: y_hat += W_skip x'. Every rank holds W_skip and computes the same
// values. Keeps its buffers. Not thread-safe. Source: spec algorithms.md 7.

#include "sae/kernels/aligned.h"
#include "sae/train/engine/batch.h"

namespace sae::train {

template <class T>
class Skip {
 public:
  explicit Skip(const Context& context);

  /// out [tokens, d_out] += W_skip x'; nothing where there is no skip. w_skip [d_out, d].
  void Add(const Batch<T>& batch, const kernels::AlignedVector<T>& w_skip, T* out);
  /// dW_skip = sum over tokens of (g + more)_b x'_b^T, [d_out, d]. more: of a second
  /// reconstruction; null: there is none.
  T* Gradient(const Batch<T>& batch, const T* g, const T* more = nullptr);

 private:
  const Context& context_;
  kernels::AlignedVector<T> product_;  // tokens x d_out
  kernels::AlignedVector<T> x_t_, g_t_;
  kernels::AlignedVector<T> gradient_;
};

}  // namespace sae::train
