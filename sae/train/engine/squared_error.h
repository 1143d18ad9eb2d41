#pragma once
// Reconstruction of the targets from one set of codes, its error, and the gradient that reaches each
// code: what the main loss and the gate's own reconstruction both are. Collective. Not thread-safe.
// Source: spec algorithms.md 0.2, steps 1 and G.

#include "sae/kernels/aligned.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/reconstructor.h"
#include "sae/train/engine/skip.h"

namespace sae::train {

/// Borrowed for the call.
template <class T>
struct ErrorParts {
  Reconstructor<T>* reconstructor = nullptr;
  Skip<T>* skip = nullptr;
  const Batch<T>* batch = nullptr;
  const kernels::AlignedVector<T>* w_skip = nullptr;
  double rho = 0;  ///< R(e) = rho sum e^2
};

/// x_hat = bias + skip + sum f_i direction_i; g = 2 rho (x_hat - y'), both tokens x d_out; u (nnz) =
/// direction_i . g. Returns R. `codes.range`: all latents of the shard. A rank alone reads each
/// decoder row once for both.
template <class T>
[[nodiscard]] absl::StatusOr<double> SquaredError(const Context& context,
                                                  const ErrorParts<T>& parts,
                                                  const typename Reconstructor<T>::Input& codes,
                                                  T* x_hat, T* g, T* u, Phases* phases);

}  // namespace sae::train
