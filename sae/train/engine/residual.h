#pragma once
// Errors of a reconstruction and what the losses need of them. Sums in float64 over fixed blocks of
// rows, blocks added in order: the bits do not depend on the number of threads. Row-major tokens x
// d. Thread-safe on distinct outputs; no errors; NaN propagates into the sums.

#include <cstdint>

#include "sae/base/parallel.h"

namespace sae::train {

/// AuxK's error in place: out = factor * (out + x_hat - scale * x), where `out` holds the
/// reconstruction from the dead latents alone (no bias). Returns sum |ea|^2 before the factor.
template <class T>
double AuxResidual(const T* x, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                   T factor, T* out, ThreadPool& pool);

/// mean over tokens and d of (e - mean over tokens of e)^2, e = x_hat - scale * x. `means`: scratch
/// of d.
template <class T>
double ResidualVariance(const T* x, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                        double* means, ThreadPool& pool);

}  // namespace sae::train
