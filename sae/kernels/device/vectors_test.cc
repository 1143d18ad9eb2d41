// The plain partners of sums and vectors against the CPU engine's own and float64.
#include "sae/kernels/device/vectors.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/vector_ops.h"

namespace sae::kernels {
namespace {

using testing::At;
using testing::Normal;
using testing::SplitWeights;

TEST(PlainVectors, ColumnSumsHaveTheBitsOfTheCpuEngine) {
  ThreadPool pool(1);
  for (const std::int64_t d : {1, 7, 100}) {
    const std::int64_t rows = 333;
    const auto m = Normal<float>(1, rows * d);
    std::vector<float> expected(At(d)), out(At(d), 2.0F);
    ColumnSums(m.data(), rows, d, expected.data(), pool);
    device::ColumnSumsParams p;
    p.m = m.data();
    p.rows = rows;
    p.d = d;
    p.out = out.data();
    plain::ColumnSums(p);
    EXPECT_EQ(out, expected);
    p.add = true;
    plain::ColumnSums(p);
    for (float& value : expected) value += value;
    EXPECT_EQ(out, expected);
    const std::int32_t off = 0;
    p.enabled = &off;
    plain::ColumnSums(p);
    EXPECT_EQ(out, expected);
  }
}

TEST(PlainVectors, WeightedRowSumIsTheCpuEnginesRoundedOnce) {
  ThreadPool pool(1);
  const std::int64_t rows = 57, d = 33;
  auto weights = Normal<float>(2, rows);
  weights[4] = 0;
  std::vector<float> values = Normal<float>(3, rows * d);
  const SplitWeights w(values);
  std::vector<float> expected(At(d));
  WeightedColumnSums(weights.data(), values.data(), rows, d, expected.data(), pool);
  std::vector<double> out(At(d));
  plain::WeightedRowSum({weights.data(), w.view(true), rows, d, nullptr, out.data()});
  for (std::int64_t j = 0; j < d; ++j) EXPECT_EQ(static_cast<float>(out[At(j)]), expected[At(j)]);
}

TEST(PlainVectors, SumsAddAndMultiply) {
  const std::vector<double> values = {1, 2, 3.5};
  const std::vector<float> floats = {1, -2, 0.5F};
  const double factor = 2;
  double out = 10;
  device::SumParams sum{values.data(), 3, nullptr, false, nullptr, &out};
  plain::Sum(sum);
  EXPECT_EQ(out, 6.5);
  sum.factor = &factor;
  sum.add = true;
  plain::Sum(sum);
  EXPECT_EQ(out, 19.5);
  device::SumSquaresParams squares{floats.data(), 3, false, nullptr, &out};
  plain::SumSquares(squares);
  EXPECT_EQ(out, 5.25);
  squares.add = true;
  plain::SumSquares(squares);
  EXPECT_EQ(out, 10.5);
  std::vector<float> a = {1, 2};
  const std::vector<double> b = {0.5, 1e-30};
  plain::Subtract({a.data(), b.data(), 2});
  EXPECT_EQ(a, (std::vector<float>{0.5F, 2}));
}

TEST(PlainVectors, AdamVectorIsAdam) {
  const std::int64_t count = 21;
  const Adam adam = Adam::At(3, 0.02, 0.9, 0.99, 1e-6);
  const device::AdamScalars scalars{0.01, 0.9, 0.99, 1e-6, adam.correction1, adam.correction2, 3};
  auto p = Normal<float>(4, count), m = Normal<float>(5, count, 0.1);
  std::vector<float> v(At(count), 0.3F), gradient = Normal<float>(6, count);
  auto p2 = p, m2 = m, v2 = v, scaled = gradient;
  const double scale = 0.25;
  device::AdamVectorParams params{p.data(), m.data(), v.data(), gradient.data(), count,
                                  &scalars, 2,        &scale,   nullptr};
  plain::AdamVector(params);
  Scale(count, 0.25F, scaled.data());
  AdamRow(count, adam, scaled.data(), p2.data(), m2.data(), v2.data());
  EXPECT_EQ(p, p2);
  EXPECT_EQ(m, m2);
  EXPECT_EQ(v, v2);
  const std::int32_t off = 0;
  params.go = &off;
  plain::AdamVector(params);
  EXPECT_EQ(p, p2);
}

TEST(PlainVectors, NormsAndRenormalisedRows) {
  const std::int64_t rows = 9, d = 37;
  std::vector<float> values = Normal<float>(7, rows * d);
  std::fill(values.begin(), values.begin() + d, 0.0F);
  SplitWeights w(values);
  std::vector<float> norms(At(rows)), scales(At(rows));
  plain::RowNorms({w.view(true), rows, d, norms.data(), scales.data()});
  device::RenormaliseRowsParams unit{w.mutable_view(), rows, d, nullptr};
  const std::int32_t off = 0;
  unit.go = &off;
  plain::RenormaliseRows(unit);
  EXPECT_EQ(w.Joined(), values);
  unit.go = nullptr;
  plain::RenormaliseRows(unit);
  EXPECT_EQ(norms[0], 0.0F);
  EXPECT_EQ(scales[0], 0x1.0p24F);
  for (std::int64_t i = 1; i < rows; ++i) {
    const double norm = std::sqrt(SumOfSquares(d, values.data() + i * d));
    EXPECT_FLOAT_EQ(norms[At(i)], static_cast<float>(norm));
    EXPECT_FLOAT_EQ(scales[At(i)], static_cast<float>(1 / norm));
    RenormaliseRow(d, values.data() + i * d);
  }
  testing::ExpectNear(w.Joined(), values, 1e-7, "unit rows");
}

TEST(PlainVectors, EmaMovesTowardsTheParameters) {
  const std::vector<float> p = {1, -2};
  const SplitWeights w(p);
  std::vector<float> mean = {0, 2};
  plain::Ema({{}, p.data(), mean.data(), 2, 0.75, nullptr});
  EXPECT_EQ(mean, (std::vector<float>{0.25F, 1}));
  plain::Ema({w.view(true), nullptr, mean.data(), 2, 0.5, nullptr});
  EXPECT_EQ(mean, (std::vector<float>{0.625F, -0.5F}));
}

}  // namespace
}  // namespace sae::kernels
