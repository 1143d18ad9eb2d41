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

// out[r, c] = in[c, r].
template <class T>
std::vector<T> Turned(const std::vector<T>& in, std::int64_t rows, std::int64_t columns) {
  std::vector<T> out(in.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      out[static_cast<std::size_t>(c * rows + r)] = in[static_cast<std::size_t>(r * columns + c)];
  }
  return out;
}

template <class T>
void FormsMatchReference(std::int64_t m, std::int64_t n, std::int64_t k, double tolerance) {
  const std::vector<T> a = testing::Normal<T>(1, m * k), a_t = Turned(a, m, k);
  const std::vector<T> b = testing::Normal<T>(2, n * k), b_t = Turned(b, n, k);
  const std::vector<double> product = Reference(m, n, k, a, k, b, k);
  const std::vector<T> before = testing::Normal<T>(3, m * n);
  std::vector<T> first_added;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    AlignedVector<T> partial;
    std::vector<T> added = before, turned = before, fresh(added.size(), T(-7));
    GemmAdd(m, n, k, a.data(), k, b_t.data(), n, added.data(), n, &partial, pool);
    GemmTransposedTile(m, n, k, a_t.data(), m, b_t.data(), n, true, turned.data(), n);
    GemmTransposedTile(m, n, k, a_t.data(), m, b_t.data(), n, false, fresh.data(), n);
    for (std::size_t i = 0; i < added.size(); ++i) {
      const double within = tolerance * std::sqrt(static_cast<double>(k) + 1);
      ASSERT_NEAR(added[i], product[i] + static_cast<double>(before[i]), within) << i;
      ASSERT_NEAR(turned[i], product[i] + static_cast<double>(before[i]), within) << i;
      ASSERT_NEAR(fresh[i], product[i], within) << i;
    }
    if (threads == 1) first_added = added;
    EXPECT_EQ(added, first_added) << threads << " threads";
  }
}

TEST(Gemm, FormsThatAddMatchReference) {
  for (const auto& [m, n, k] : {std::tuple(1, 1, 1), std::tuple(17, 33, 9), std::tuple(5, 31, 1700),
                                std::tuple(600, 20, 1030), std::tuple(1030, 48, 70)}) {
    FormsMatchReference<float>(m, n, k, 4e-6);
    FormsMatchReference<double>(m, n, k, 1e-14);
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
