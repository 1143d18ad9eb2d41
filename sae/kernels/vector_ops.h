#pragma once
// Reductions over whole matrices, each in one fixed order for any number of threads (cut by column,
// rows ascending, float64 accumulators rounded once). Row-major, contiguous. NaN propagates.
// Reentrant; no errors.

#include <cstdint>

#include "sae/base/parallel.h"

namespace sae::kernels {

/// out[j] = sum_r a[r, j].
template <class T>
void ColumnSums(const T* a, std::int64_t rows, std::int64_t d, T* out, ThreadPool& pool);

/// out[j] = sum_r weights[r] * a[r, j]: W^T v, one matrix-vector product. Rows of weight 0 are not
/// read.
template <class T>
void WeightedColumnSums(const T* weights, const T* a, std::int64_t rows, std::int64_t d, T* out,
                        ThreadPool& pool);

/// sum over all elements, by rows of `d`, of a^2, in float64.
template <class T>
double SquaredNorm(const T* a, std::int64_t rows, std::int64_t d, ThreadPool& pool);

/// Every row of `out` (rows x d) becomes `row`: the reconstruction before SparseDecode adds to it.
template <class T>
void FillRows(const T* row, std::int64_t rows, std::int64_t d, T* out, ThreadPool& pool);

}  // namespace sae::kernels
