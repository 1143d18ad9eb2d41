#pragma once
// The decoder's half of the row step where the decoder is cut into blocks of columns: all latents,
// `width` consecutive columns. What spans a whole row is given or comes out: the component of the
// gradient along the row (g_i . d_i = sum of f_q u_q over its entries), and block i's part of
// |d_i|^2 after Adam, so that ranks with different blocks agree. Two passes: ColumnStep, then, when
// the blocks' parts have been added, RescaleRows. A row without gradient and momentum in any block
// keeps its bits. One thread a latent, fixed order: bits depend neither on threads nor on which
// rank holds a block. Allocates nothing after the first call. One call at a time per workspace.
// Errors: none; NaN propagates. Source: spec numerics.md 2, sae algorithms 0.2-0.4.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {

/// One set of codes and the gradient that reaches it.
template <class T>
struct ColumnTerm {
  const LatentIndex* index = nullptr;  ///< of all latents
  const T* f = nullptr;                ///< nnz, CSR order
  const T* u = nullptr;                ///< nnz: whole row . gradient, summed over all blocks
  const T* g = nullptr;                ///< tokens x width: this block of the gradient
  std::int64_t first_latent = 0;
  std::int64_t last_latent = 0;
};

template <class T>
struct ColumnBlock {
  std::int64_t latents = 0;
  std::int64_t width = 0;
  T* w = nullptr;  ///< latents x width, and so the moments
  T* m = nullptr;
  T* v = nullptr;
};

template <class T>
struct ColumnStepOptions {
  Adam adam;
  bool unit = true;                  ///< project and rescale; else rows are free
  double gradient_scale = 1;         ///< clipping
  const double* norm2 = nullptr;     ///< latents: |d_i|^2 of the whole row before the step
  const T* norm_gradient = nullptr;  ///< latents or null: dL / d|d_i|; free rows only
};

template <class T>
struct ColumnWorkspace {
  std::vector<std::vector<T>> rows;  ///< by worker
  std::vector<double> norms;         ///< latents
};

/// Sum over latents, in order, of this block's part of the squared gradient, projected, before
/// gradient_scale.
template <class T>
double ColumnSquaredNorm(std::span<const ColumnTerm<T>> terms, const ColumnStepOptions<T>& options,
                         const ColumnBlock<T>& block, ColumnWorkspace<T>* workspace,
                         ThreadPool& pool);

/// Gradient, projection and Adam. norm2[i] = this block's part of |d_i|^2 afterwards, with the sign
/// bit set where the block has neither gradient nor momentum.
template <class T>
void ColumnStep(std::span<const ColumnTerm<T>> terms, const ColumnStepOptions<T>& options,
                const ColumnBlock<T>& block, T* norm2, ColumnWorkspace<T>* workspace,
                ThreadPool& pool);

/// row i *= factor[i]; rows whose factor is 1 are not touched.
template <class T>
void RescaleRows(const ColumnBlock<T>& block, const T* factor, ThreadPool& pool);

}  // namespace sae::kernels
