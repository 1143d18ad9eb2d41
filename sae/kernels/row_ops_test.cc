#include "sae/kernels/row_ops.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kLengths[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 576, 1000};

template <class T>
class RowOps : public ::testing::Test {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 2e-6 : 1e-14;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowOps, Types);

TYPED_TEST(RowOps, SumsMatchPlainLoops) {
  using T = TypeParam;
  for (const std::int64_t d : kLengths) {
    const auto x = testing::Normal<T>(1, d);
    auto y = testing::Normal<T>(2, d);
    double dot = 0;
    double squares = 0;
    double size = 1;
    for (std::size_t j = 0; j < x.size(); ++j) {
      dot += static_cast<double>(x[j]) * static_cast<double>(y[j]);
      squares += static_cast<double>(x[j]) * static_cast<double>(x[j]);
      size += std::abs(static_cast<double>(x[j]) * static_cast<double>(y[j]));
    }
    EXPECT_NEAR(Dot(d, x.data(), y.data()), dot, this->kTolerance * size);
    EXPECT_NEAR(DotDouble(d, x.data(), y.data()), dot, 1e-14 * size);
    EXPECT_NEAR(SumOfSquares(d, x.data()), squares, 1e-14 * (1 + squares));
    const auto before = y;
    Axpy(d, T(0.75), x.data(), y.data());
    for (std::size_t j = 0; j < x.size(); ++j) {
      EXPECT_NEAR(y[j], static_cast<double>(before[j]) + 0.75 * static_cast<double>(x[j]),
                  this->kTolerance * 4);
    }
    Scale(d, T(2), y.data());
    EXPECT_EQ(AllZero(d, y.data()), d == 0);
    std::fill(y.begin(), y.end(), T(0));
    if (d > 1) y[1] = -T(0);
    EXPECT_TRUE(AllZero(d, y.data()));
    if (d > 0) {
      y.back() = std::numeric_limits<T>::denorm_min();
      EXPECT_FALSE(AllZero(d, y.data()));
    }
  }
}

TYPED_TEST(RowOps, ProjectionRemovesTheRadialPart) {
  using T = TypeParam;
  for (const std::int64_t d : {1, 5, 576}) {
    const auto w = testing::Normal<T>(1, d, 3);  // not of unit norm
    auto g = testing::Normal<T>(2, d);
    double gw = 0;
    double ww = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      gw += static_cast<double>(g[j]) * static_cast<double>(w[j]);
      ww += static_cast<double>(w[j]) * static_cast<double>(w[j]);
    }
    const auto before = g;
    ProjectRow(d, w.data(), g.data());
    double radial = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      EXPECT_NEAR(g[j], static_cast<double>(before[j]) - gw / ww * static_cast<double>(w[j]),
                  this->kTolerance * 4);
      radial += static_cast<double>(g[j]) * static_cast<double>(w[j]);
    }
    EXPECT_NEAR(radial / std::sqrt(ww), 0, this->kTolerance * 4);
  }
  std::vector<T> zero(4, T(0));
  std::vector<T> g(4, T(2));
  ProjectRow(4, zero.data(), g.data());
  EXPECT_EQ(g, std::vector<T>(4, T(2)));
}

// Property 2.
TYPED_TEST(RowOps, ProjectingTwiceIsProjectingOnceAndTheStepEndsOnTheSphere) {
  using T = TypeParam;
  constexpr std::int64_t kWidth = 576;
  auto w = testing::Normal<T>(1, kWidth);
  RenormaliseRow(kWidth, w.data());
  auto once = testing::Normal<T>(2, kWidth);
  ProjectRow(kWidth, w.data(), once.data());
  EXPECT_LT(std::abs(DotDouble(kWidth, once.data(), w.data())),
            1e-6 * std::sqrt(SumOfSquares(kWidth, once.data())));
  auto twice = once;
  ProjectRow(kWidth, w.data(), twice.data());
  for (std::size_t j = 0; j < once.size(); ++j)
    EXPECT_NEAR(twice[j], once[j], this->kTolerance * 0.1);
  std::vector<T> m(w.size(), T(0));
  std::vector<T> v = m;
  AdamRow(kWidth, Adam::At(1, 0.01, 0.9, 0.999, 1e-8), once.data(), w.data(), m.data(), v.data());
  EXPECT_GT(std::abs(std::sqrt(SumOfSquares(kWidth, w.data())) - 1), 1e-3);
  RenormaliseRow(kWidth, w.data());
  EXPECT_NEAR(std::sqrt(SumOfSquares(kWidth, w.data())), 1,
              4 * static_cast<double>(std::numeric_limits<T>::epsilon()));
}

TYPED_TEST(RowOps, RenormaliseGivesUnitNormAndKeepsAZeroRow) {
  using T = TypeParam;
  for (const double scale : {1e-3, 1.0, 1e6}) {
    auto w = testing::Normal<T>(1, 576, scale);
    RenormaliseRow(576, w.data());
    double norm2 = 0;
    for (const T value : w) norm2 += static_cast<double>(value) * static_cast<double>(value);
    EXPECT_NEAR(norm2, 1, this->kTolerance);
  }
  std::vector<T> zero(7, T(0));
  RenormaliseRow(7, zero.data());
  EXPECT_EQ(zero, std::vector<T>(7, T(0)));
  std::vector<T> tiny = {static_cast<T>(0x1.0p-30), T(0)};  // below the floor 2^-24: scaled by 2^24
  RenormaliseRow(2, tiny.data());
  EXPECT_EQ(tiny[0], static_cast<T>(0x1.0p-6));
}

TYPED_TEST(RowOps, AdamMatchesTheFormula) {
  using T = TypeParam;
  const std::int64_t d = 33;
  auto p = testing::Normal<T>(1, d);
  std::vector<T> m(static_cast<std::size_t>(d), T(0));
  std::vector<T> v = m;
  std::vector<double> rp(p.begin(), p.end());
  std::vector<double> rm(rp.size(), 0.0);
  std::vector<double> rv(rp.size(), 0.0);
  for (int t = 1; t <= 40; ++t) {
    const bool none = t % 4 == 0;  // steps without a gradient
    const auto g = none ? std::vector<T>(p.size(), T(0))
                        : testing::Normal<T>(static_cast<std::uint64_t>(t), d);
    const Adam adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
    if (none) {
      AdamRowWithoutGradient(d, adam, p.data(), m.data(), v.data());
    } else {
      AdamRow(d, adam, g.data(), p.data(), m.data(), v.data());
    }
    for (std::size_t j = 0; j < rp.size(); ++j) {
      const auto gj = static_cast<double>(g[j]);
      rm[j] = 0.9 * rm[j] + 0.1 * gj;
      rv[j] = 0.999 * rv[j] + 0.001 * gj * gj;
      rp[j] -= 0.01 * (rm[j] / (1 - std::pow(0.9, t))) /
               (std::sqrt(rv[j] / (1 - std::pow(0.999, t))) + 1e-8);
      ASSERT_NEAR(p[j], rp[j], this->kTolerance * 20) << "step " << t;
    }
  }
}

// Property 4.
TYPED_TEST(RowOps, AdamUnderAConstantGradientFollowsTheScalarFormula) {
  using T = TypeParam;
  constexpr double kLr = 0.01;
  for (const double gradient : {3.0, -0.02}) {
    for (const double epsilon : {1e-8, 1e-30}) {
      const auto g = static_cast<T>(gradient);
      T p = 0;
      T m = 0;
      T v = 0;
      double rm = 0;
      double rv = 0;
      double rp = 0;
      for (int t = 1; t <= 5; ++t) {
        AdamRow(1, Adam::At(t, kLr, 0.9, 0.999, epsilon), &g, &p, &m, &v);
        rm = 0.9 * rm + 0.1 * static_cast<double>(g);
        rv = 0.999 * rv + 0.001 * static_cast<double>(g) * static_cast<double>(g);
        rp -= kLr * (rm / (1 - std::pow(0.9, t))) /
              (std::sqrt(rv / (1 - std::pow(0.999, t))) + epsilon);
        EXPECT_NEAR(p, rp, this->kTolerance * kLr) << t;
        if (t == 1 && epsilon < 1e-20) {
          EXPECT_NEAR(p, gradient > 0 ? -kLr : kLr, this->kTolerance * kLr);
        }
      }
    }
  }
}

// Property 5.
TYPED_TEST(RowOps, AdamWithoutMomentumStartsWithASignStep) {
  using T = TypeParam;
  const auto g = testing::Normal<T>(3, 40);
  std::vector<T> p(g.size(), T(1));
  std::vector<T> m(g.size(), T(0));
  std::vector<T> v = m;
  AdamRow(40, Adam::At(1, 0.25, 0, 0.999, 1e-30), g.data(), p.data(), m.data(), v.data());
  for (std::size_t j = 0; j < g.size(); ++j) {
    EXPECT_NEAR(p[j], g[j] > 0 ? 0.75 : 1.25, this->kTolerance) << j;
    EXPECT_EQ(m[j], g[j]);
  }
}

TYPED_TEST(RowOps, AdamsMomentsReachZero) {
  using T = TypeParam;
  T p = 1;
  T m = std::numeric_limits<T>::min() * 4;
  T v = std::numeric_limits<T>::min() * 4;
  const Adam adam = Adam::At(1000, 0, 0.9, 0.9, 1e-8);
  for (int t = 0; t < 40; ++t) AdamRowWithoutGradient(1, adam, &p, &m, &v);
  EXPECT_EQ(m, T(0));
  EXPECT_EQ(v, T(0));
  EXPECT_EQ(p, T(1));
}

TYPED_TEST(RowOps, AdamKeepsNan) {
  using T = TypeParam;
  T p = 1;
  T m = 0;
  T v = 0;
  const T g = std::numeric_limits<T>::quiet_NaN();
  AdamRow(1, Adam::At(1, 0.1, 0.9, 0.999, 1e-8), &g, &p, &m, &v);
  EXPECT_TRUE(std::isnan(p));
  EXPECT_TRUE(std::isnan(m));
}

}  // namespace
}  // namespace sae::kernels
