#include "sae/kernels/gemm.h"

#include <cmath>
#include <tuple>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

template <class T>
std::vector<double> Reference(std::int64_t m, std::int64_t n, std::int64_t k,
                              const std::vector<T>& a, std::int64_t lda, const std::vector<T>& b,
                              std::int64_t ldb) {
  std::vector<double> c;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        sum += static_cast<double>(a[static_cast<std::size_t>(i * lda + l)]) *
               static_cast<double>(b[static_cast<std::size_t>(j * ldb + l)]);
      }
      c.push_back(sum);
    }
  }
  return c;
}

template <class T>
void MatchesReference(std::int64_t m, std::int64_t n, std::int64_t k, double tolerance) {
  const std::int64_t lda = k + 3;
  const std::int64_t ldb = k + 1;
  const std::int64_t ldc = n + 2;
  const std::vector<T> a = testing::Normal<T>(1, m * lda);
  const std::vector<T> b = testing::Normal<T>(2, n * ldb);
  const std::vector<double> expected = Reference(m, n, k, a, lda, b, ldb);
  std::vector<T> first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<T> c(static_cast<std::size_t>(m * ldc), T(-7));
    Gemm(m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, pool);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        ASSERT_NEAR(c[static_cast<std::size_t>(i * ldc + j)],
                    expected[static_cast<std::size_t>(i * n + j)],
                    tolerance * std::sqrt(static_cast<double>(k) + 1))
            << i << "," << j << " of " << m << "x" << n << "x" << k;
      }
      EXPECT_EQ(c[static_cast<std::size_t>(i * ldc + n)], T(-7)) << "wrote past row " << i;
    }
    if (threads == 1) first = c;
    EXPECT_EQ(c, first) << threads << " threads";
  }
}

TEST(Gemm, FloatMatchesReference) {
  for (const auto& [m, n, k] :
       {std::tuple(1, 1, 1), std::tuple(3, 5, 0), std::tuple(17, 33, 9), std::tuple(513, 2, 64),
        std::tuple(5, 1025, 31), std::tuple(600, 700, 48)}) {
    MatchesReference<float>(m, n, k, 4e-6);
  }
}

TEST(Gemm, DoubleMatchesReference) {
  for (const auto& [m, n, k] : {std::tuple(1, 1, 1), std::tuple(3, 5, 0), std::tuple(17, 33, 9),
                                std::tuple(513, 2, 64), std::tuple(5, 1025, 31)}) {
    MatchesReference<double>(m, n, k, 1e-14);
  }
}

TEST(Gemm, EmptyWritesNothing) {
  ThreadPool pool(2);
  float c = 3;
  Gemm<float>(0, 5, 4, nullptr, 4, nullptr, 4, &c, 5, pool);
  Gemm<float>(5, 0, 4, nullptr, 4, nullptr, 4, &c, 1, pool);
  EXPECT_EQ(c, 3);
}

}  // namespace
}  // namespace sae::kernels
