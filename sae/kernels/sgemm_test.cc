// Both float products against float64: the plain one is all that builds without oneDNN have.
#include "sae/kernels/sgemm.h"

#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

using Product = void (*)(char, char, std::int64_t, std::int64_t, std::int64_t, const float*,
                         std::int64_t, const float*, std::int64_t, float, float*, std::int64_t);

void MatchesFloat64(Product product) {
  for (const auto& [m, n, k] : {std::tuple(1, 1, 1), std::tuple(5, 63, 64), std::tuple(3, 65, 130),
                                std::tuple(70, 129, 65)}) {
    for (const char op_a : {'N', 'T'}) {
      for (const char op_b : {'N', 'T'}) {
        for (const float beta : {0.0F, 1.0F}) {
          const std::int64_t lda = (op_a == 'T' ? m : k) + 3, ldb = (op_b == 'T' ? k : n) + 1;
          const std::int64_t ldc = n + 2;
          const auto a = testing::Normal<float>(1, (op_a == 'T' ? k : m) * lda);
          const auto b = testing::Normal<float>(2, (op_b == 'T' ? n : k) * ldb);
          const auto start = testing::Normal<float>(3, m * ldc);
          std::vector<float> c = start;
          if (beta == 0) c[0] = std::nanf("");  // must not be read
          product(op_a, op_b, m, n, k, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
          for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < ldc; ++j) {
              const auto at = static_cast<std::size_t>(i * ldc + j);
              double expected = static_cast<double>(start[at]);
              if (j < n) expected *= static_cast<double>(beta);
              for (std::int64_t l = 0; j < n && l < k; ++l) {
                const auto x = static_cast<std::size_t>(op_a == 'T' ? l * lda + i : i * lda + l);
                const auto y = static_cast<std::size_t>(op_b == 'T' ? j * ldb + l : l * ldb + j);
                expected += static_cast<double>(a[x]) * static_cast<double>(b[y]);
              }
              ASSERT_NEAR(c[at], expected, j < n ? 1e-5 * std::sqrt(k + 1.0) : 0)
                  << op_a << op_b << " " << m << " x " << n << " x " << k << " at " << i << ","
                  << j;
            }
          }
        }
      }
    }
  }
}

TEST(Sgemm, OfTheBuildMatchesFloat64) { MatchesFloat64(&Sgemm); }
TEST(Sgemm, PlainMatchesFloat64) { MatchesFloat64(&PlainSgemm); }

TEST(Sgemm, PlainBitsDoNotDependOnNeighbours) {
  const std::int64_t k = 200;
  const auto a = testing::Normal<float>(1, 3 * k), b = testing::Normal<float>(2, 130 * k);
  std::vector<float> all(3 * 130), one(1);
  PlainSgemm('N', 'T', 3, 130, k, a.data(), k, b.data(), k, 0, all.data(), 130);
  for (std::int64_t j = 0; j < 130; ++j) {
    PlainSgemm('N', 'T', 1, 1, k, a.data() + 2 * k, k, b.data() + j * k, k, 0, one.data(), 1);
    ASSERT_EQ(one[0], all[static_cast<std::size_t>(260 + j)]) << j;
  }
}

}  // namespace
}  // namespace sae::kernels
