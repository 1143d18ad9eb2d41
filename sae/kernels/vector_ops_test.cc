#include "sae/kernels/vector_ops.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

template <class T>
void MatchesReference(double tolerance) {
  for (const auto& [rows, d] : {std::tuple(1, 1), std::tuple(0, 5), std::tuple(130, 63),
                                std::tuple(65, 130), std::tuple(1000, 3)}) {
    const auto a = testing::Normal<T>(1, static_cast<std::int64_t>(rows) * d);
    auto weights = testing::Normal<T>(2, rows);
    if (rows > 2) weights[2] = T(0);
    const auto row = testing::Normal<T>(3, d);
    std::vector<double> sums(static_cast<std::size_t>(d), 0.0);
    std::vector<double> weighted(static_cast<std::size_t>(d), 0.0);
    double squares = 0;
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
      for (std::size_t j = 0; j < sums.size(); ++j) {
        const auto value = static_cast<double>(a[r * sums.size() + j]);
        sums[j] += value;
        weighted[j] += static_cast<double>(weights[r]) * value;
        squares += value * value;
      }
    }
    double first = 0;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      std::vector<T> out(static_cast<std::size_t>(d), T(9));
      ColumnSums(a.data(), rows, d, out.data(), pool);
      for (std::size_t j = 0; j < sums.size(); ++j)
        EXPECT_NEAR(out[j], sums[j], tolerance * (1 + std::abs(sums[j])));
      WeightedColumnSums(weights.data(), a.data(), rows, d, out.data(), pool);
      for (std::size_t j = 0; j < sums.size(); ++j) {
        EXPECT_NEAR(out[j], weighted[j], tolerance * (1 + std::abs(weighted[j])));
      }
      const double norm = SquaredNorm(a.data(), rows, d, pool);
      EXPECT_NEAR(norm, squares, 1e-12 * (1 + squares));
      if (threads == 1) first = norm;
      EXPECT_EQ(norm, first);
      std::vector<T> filled(static_cast<std::size_t>(rows) * sums.size());
      FillRows(row.data(), rows, d, filled.data(), pool);
      for (std::size_t i = 0; i < filled.size(); ++i) ASSERT_EQ(filled[i], row[i % row.size()]);
    }
  }
}

TEST(VectorOps, FloatMatchesReference) { MatchesReference<float>(1e-7); }
TEST(VectorOps, DoubleMatchesReference) { MatchesReference<double>(1e-13); }

}  // namespace
}  // namespace sae::kernels
