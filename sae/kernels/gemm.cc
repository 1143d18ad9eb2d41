#include "sae/kernels/gemm.h"

#include <algorithm>
#include <dnnl.h>

#include "sae/base/check.h"
#include "sae/kernels/one_omp_thread.h"

namespace sae::kernels {
namespace {

void Tile(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, std::int64_t lda,
          const float* b, std::int64_t ldb, float* c, std::int64_t ldc) {
  const OneOmpThread one;
  const dnnl_status_t status = dnnl_sgemm('N', 'T', m, n, k, 1.0F, a, lda, b, ldb, 0.0F, c, ldc);
  SAE_CHECK_MSG(status == dnnl_success, "dnnl_sgemm(%ld, %ld, %ld): status %d",
                static_cast<long>(m), static_cast<long>(n), static_cast<long>(k),
                static_cast<int>(status));
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

template void Gemm(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                   const float*, std::int64_t, float*, std::int64_t, ThreadPool&);
template void Gemm(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                   const double*, std::int64_t, double*, std::int64_t, ThreadPool&);
template void GemmTile(std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                       const float*, std::int64_t, float*, std::int64_t);
template void GemmTile(std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                       const double*, std::int64_t, double*, std::int64_t);

}  // namespace sae::kernels
