#include "sae/kernels/column_step.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace sae::kernels {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// g = sum over the latent's entries of f G_token. Returns whether there are any; *along = sum f u.
template <class T>
bool Gradient(std::span<const ColumnTerm<T>> terms, std::int64_t latent, std::int64_t width, T* g,
              double* along) {
  constexpr std::int64_t kRows = 32;  // at once
  std::array<T, kRows> a{};
  std::array<const T*, kRows> rows{};
  std::fill(g, g + width, T(0));
  *along = 0;
  bool any = false;
  for (const ColumnTerm<T>& term : terms) {
    if (latent < term.first_latent || latent >= term.last_latent) continue;
    const std::int64_t last = term.index->indptr[Size(latent) + 1];
    for (std::int64_t q = term.index->indptr[Size(latent)]; q < last; q += kRows) {
      any = true;
      const std::int64_t count = std::min(kRows, last - q);
      for (std::int64_t e = 0; e < count; ++e) {
        const std::int64_t entry = term.index->entries[Size(q + e)];
        a[Size(e)] = term.f[entry];
        rows[Size(e)] = term.g + term.index->tokens[Size(q + e)] * width;
        *along += static_cast<double>(term.f[entry]) * static_cast<double>(term.u[entry]);
      }
      AddRows(width, {count, a.data(), rows.data()}, {0, nullptr, nullptr}, g);
    }
  }
  return any;
}

template <class T>
bool Make(std::span<const ColumnTerm<T>> terms, const ColumnStepOptions<T>& o,
          const ColumnBlock<T>& block, std::int64_t i, T* g, T* radial) {
  double along = 0;
  const bool any = Gradient(terms, i, block.width, g, &along);
  *radial = T(0);
  const double norm2 = o.norm2 == nullptr ? 0 : o.norm2[i];
  if (o.unit) {
    if (any && norm2 > 0) *radial = static_cast<T>(-along / norm2);
    return any;
  }
  if (o.norm_gradient == nullptr) return any;
  const auto a = static_cast<double>(o.norm_gradient[i]);
  if (norm2 > 0)
    Axpy(block.width, static_cast<T>(a / std::sqrt(norm2)), block.w + i * block.width, g);
  return true;
}

template <class T>
void Reserve(ColumnWorkspace<T>* workspace, const ColumnBlock<T>& block, int threads) {
  workspace->rows.resize(Size(threads));
  for (auto& row : workspace->rows) row.resize(Size(block.width));
}

}  // namespace

template <class T>
double ColumnSquaredNorm(std::span<const ColumnTerm<T>> terms, const ColumnStepOptions<T>& options,
                         const ColumnBlock<T>& block, ColumnWorkspace<T>* workspace,
                         ThreadPool& pool) {
  Reserve(workspace, block, pool.size());
  workspace->norms.assign(Size(block.latents), 0.0);
  pool.ParallelFor(block.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* g = workspace->rows[Size(worker)].data();
    for (std::int64_t i = begin; i < end; ++i) {
      T radial = 0;
      if (!Make(terms, options, block, i, g, &radial)) continue;
      if (radial != T(0)) Axpy(block.width, radial, block.w + i * block.width, g);
      workspace->norms[Size(i)] = SumOfSquares(block.width, g);
    }
  });
  double sum = 0;
  for (const double norm : workspace->norms) sum += norm;
  return sum;
}

template <class T>
void ColumnStep(std::span<const ColumnTerm<T>> terms, const ColumnStepOptions<T>& options,
                const ColumnBlock<T>& block, T* norm2, ColumnWorkspace<T>* workspace,
                ThreadPool& pool) {
  Reserve(workspace, block, pool.size());
  const std::int64_t d = block.width;
  pool.ParallelFor(block.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* g = workspace->rows[Size(worker)].data();
    for (std::int64_t i = begin; i < end; ++i) {
      T *w = block.w + i * d, *m = block.m + i * d, *v = block.v + i * d;
      RowStep<T> step;
      if (Make(terms, options, block, i, g, &step.radial)) {
        step.scale = static_cast<T>(options.gradient_scale);
        step.measure_row = true;
        norm2[i] = static_cast<T>(StepRow(d, step, options.adam, g, w, m, v, 0).row2);
        continue;
      }
      const bool moved = !AllZero(d, m);
      if (moved) {
        AdamRowWithoutGradient(d, options.adam, w, m, v);
      } else {
        DecayRow(d, options.adam, 1, v);
      }
      const bool rests = !moved || AllZero(d, m);
      const auto part = static_cast<T>(SumOfSquares(d, w));
      norm2[i] = rests ? -part : part;
    }
  });
}

template <class T>
void RescaleRows(const ColumnBlock<T>& block, const T* factor, ThreadPool& pool) {
  pool.ParallelFor(block.latents, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (factor[i] != T(1)) Scale(block.width, factor[i], block.w + i * block.width);
    }
  });
}

#define SAE_INSTANTIATE(T)                                                                       \
  template double ColumnSquaredNorm(std::span<const ColumnTerm<T>>, const ColumnStepOptions<T>&, \
                                    const ColumnBlock<T>&, ColumnWorkspace<T>*, ThreadPool&);    \
  template void ColumnStep(std::span<const ColumnTerm<T>>, const ColumnStepOptions<T>&,          \
                           const ColumnBlock<T>&, T*, ColumnWorkspace<T>*, ThreadPool&);         \
  template void RescaleRows(const ColumnBlock<T>&, const T*, ThreadPool&);
SAE_INSTANTIATE(float)
SAE_INSTANTIATE(double)
#undef SAE_INSTANTIATE

}  // namespace sae::kernels
