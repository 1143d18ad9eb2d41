#include "sae/kernels/gemm.h"

#include <algorithm>

#include "sae/base/check.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/sgemm.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kParts = 8;  // at least as many tiles in GemmAdd, where k allows

void Tile(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
          const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  Sgemm('N', 'T', m, n, k, a, lda, b, ldb, 0, c, ldc);
}

// Four columns at a time share a row of A; each element is one chain of additions in order of k, so
// its value does not depend on its neighbours.
void Tile(std::int64_t m, std::int64_t n, std::int64_t k, const double* a, std::int64_t lda,
          const double* b, std::int64_t ldb, double* c, std::int64_t ldc) {
  for (std::int64_t j = 0; j < n; j += 4) {
    const std::int64_t width = std::min<std::int64_t>(4, n - j);
    const double* b0 = b + j * ldb;
    const double* b1 = width > 1 ? b0 + ldb : b0;
    const double* b2 = width > 2 ? b0 + 2 * ldb : b0;
    const double* b3 = width > 3 ? b0 + 3 * ldb : b0;
    for (std::int64_t i = 0; i < m; ++i) {
      const double* row = a + i * lda;
      double sum[4] = {0, 0, 0, 0};
      for (std::int64_t l = 0; l < k; ++l) {
        sum[0] += row[l] * b0[l];
        sum[1] += row[l] * b1[l];
        sum[2] += row[l] * b2[l];
        sum[3] += row[l] * b3[l];
      }
      for (std::int64_t q = 0; q < width; ++q) c[i * ldc + j + q] = sum[q];
    }
  }
}

// C (+)= A B, or A^T B where `transposed`, B as [k, n].
void TileAdd(bool transposed, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
             std::int64_t lda, const float* b, std::int64_t ldb, bool add, float* c,
             std::int64_t ldc) {
  Sgemm(transposed ? 'T' : 'N', 'N', m, n, k, a, lda, b, ldb, add ? 1.0F : 0.0F, c, ldc);
}

void TileAdd(bool transposed, std::int64_t m, std::int64_t n, std::int64_t k, const double* a,
             std::int64_t lda, const double* b, std::int64_t ldb, bool add, double* c,
             std::int64_t ldc) {
  for (std::int64_t i = 0; i < m; ++i) {
    double* row = c + i * ldc;
    if (!add) std::fill_n(row, n, 0.0);
    for (std::int64_t l = 0; l < k; ++l) {
      const double weight = transposed ? a[l * lda + i] : a[i * lda + l];
      for (std::int64_t j = 0; j < n; ++j) row[j] += weight * b[l * ldb + j];
    }
  }
}

std::int64_t CeilDivide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

template <class T>
void GemmTile(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda,
              const T* b, std::int64_t ldb, T* c, std::int64_t ldc) {
  SAE_CHECK_MSG(m >= 0 && n >= 0 && k >= 0, "gemm of %ld x %ld x %ld", static_cast<long>(m),
                static_cast<long>(n), static_cast<long>(k));
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (std::int64_t i = 0; i < m; ++i) std::fill(c + i * ldc, c + i * ldc + n, T(0));
    return;
  }
  Tile(m, n, k, a, lda, b, ldb, c, ldc);
}

template <class T>
void Gemm(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda, const T* b,
          std::int64_t ldb, T* c, std::int64_t ldc, ThreadPool& pool) {
  const std::int64_t tile_rows = (m + kTokensPerChunk - 1) / kTokensPerChunk;
  const std::int64_t tile_columns = (n + kLatentsPerChunk - 1) / kLatentsPerChunk;
  pool.ParallelFor(tile_rows * tile_columns, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t i = tile / tile_columns * kTokensPerChunk;
      const std::int64_t j = tile % tile_columns * kLatentsPerChunk;
      GemmTile(std::min(kTokensPerChunk, m - i), std::min(kLatentsPerChunk, n - j), k, a + i * lda,
               lda, b + j * ldb, ldb, c + i * ldc + j, ldc);
    }
  });
}

template <class T>
void GemmAdd(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda,
             const T* b, std::int64_t ldb, T* c, std::int64_t ldc, AlignedVector<T>* partial,
             ThreadPool& pool) {
  SAE_CHECK(m >= 0 && n >= 0 && k >= 0);
  if (m == 0 || n == 0 || k == 0) return;
  const std::int64_t tile_rows = CeilDivide(m, kTokensPerChunk);
  const std::int64_t wanted =
      std::min(CeilDivide(kParts, tile_rows), CeilDivide(k, kLatentsPerChunk));
  const std::int64_t width = CeilDivide(k, wanted);
  const std::int64_t parts = CeilDivide(k, width);
  partial->resize(
      std::max(partial->size(), static_cast<std::size_t>(parts > 1 ? parts * m * n : 0)));
  pool.ParallelFor(tile_rows * parts, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t part = tile % parts, l = part * width;
      const std::int64_t i = tile / parts * kTokensPerChunk;
      T* out = parts > 1 ? partial->data() + (part * m + i) * n : c + i * ldc;
      TileAdd(false, std::min(kTokensPerChunk, m - i), n, std::min(width, k - l), a + i * lda + l,
              lda, b + l * ldb, ldb, parts == 1, out, parts > 1 ? n : ldc);
    }
  });
  if (parts == 1) return;
  pool.ParallelFor(m, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t part = 0; part < parts; ++part)
        Axpy(n, T(1), partial->data() + (part * m + i) * n, c + i * ldc);
    }
  });
}

template <class T>
void GemmTransposedTile(std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                        std::int64_t lda, const T* b, std::int64_t ldb, bool add, T* c,
                        std::int64_t ldc) {
  SAE_CHECK(m >= 0 && n >= 0 && k >= 1);
  if (m > 0 && n > 0) TileAdd(true, m, n, k, a, lda, b, ldb, add, c, ldc);
}

template void Gemm(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                   const float*, std::int64_t, float*, std::int64_t, ThreadPool&);
template void Gemm(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                   const double*, std::int64_t, double*, std::int64_t, ThreadPool&);
template void GemmTile(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                       const float*, std::int64_t, float*, std::int64_t);
template void GemmTile(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                       const double*, std::int64_t, double*, std::int64_t);

#define SAE_INSTANTIATE(T)                                                                         \
  template void GemmAdd(std::int64_t, std::int64_t, std::int64_t, const T*, std::int64_t,          \
                        const T*, std::int64_t, T*, std::int64_t, AlignedVector<T>*, ThreadPool&); \
  template void GemmTransposedTile(std::int64_t, std::int64_t, std::int64_t, const T*,             \
                                   std::int64_t, const T*, std::int64_t, bool, T*, std::int64_t)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::kernels
