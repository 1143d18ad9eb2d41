#include <algorithm>

#include "sae/kernels/sgemm.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kColumns = 64, kDepth = 64;  // of a block of B, kept in the first cache

}  // namespace

void PlainSgemm(char op_a, char op_b, std::int64_t m, std::int64_t n, std::int64_t k,
                const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                float* c, std::int64_t ldc) {
  float block[kDepth][kColumns];
  for (std::int64_t j = 0; j < n; j += kColumns) {
    const std::int64_t columns = std::min(kColumns, n - j);
    for (std::int64_t first = 0; first < k; first += kDepth) {
      const std::int64_t depth = std::min(kDepth, k - first);
      for (std::int64_t l = 0; l < depth; ++l) {
        for (std::int64_t q = 0; q < columns; ++q) {
          block[l][q] = op_b == 'T' ? b[(j + q) * ldb + first + l] : b[(first + l) * ldb + j + q];
        }
        std::fill(block[l] + columns, block[l] + kColumns, 0.0F);
      }
      for (std::int64_t i = 0; i < m; ++i) {
        float sum[kColumns] = {};
        float* row = c + i * ldc + j;
        for (std::int64_t l = 0; l < depth; ++l) {
          const float x = op_a == 'T' ? a[(first + l) * lda + i] : a[i * lda + first + l];
          for (std::int64_t q = 0; q < kColumns; ++q) sum[q] += x * block[l][q];
        }
        const bool add = first > 0 || beta != 0;
        for (std::int64_t q = 0; q < columns; ++q) row[q] = add ? row[q] + sum[q] : sum[q];
      }
    }
  }
}

}  // namespace sae::kernels
