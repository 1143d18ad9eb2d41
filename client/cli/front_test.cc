#include "client/cli/front.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace sae::cli {
namespace {
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(ParetoFront, KeepsWhatNoOtherBeatsByRisingL0) {
  const std::vector<FrontPoint> points = {{64, 0.10},   {16, 0.30}, {32, 0.35},  {32, 0.20},
                                          {kNaN, 0.01}, {0, 0.01},  {128, kNaN}, {100, 0.10}};
  EXPECT_EQ(ParetoFront(points), (std::vector<std::size_t>{1, 3, 0}));
  EXPECT_TRUE(ParetoFront({}).empty());
}

TEST(FvuAt, IsLinearInLogL0AndUnknownOutside) {
  const std::vector<FrontPoint> front = {{16, 0.30}, {64, 0.10}};
  EXPECT_NEAR(*FvuAt(front, 32), 0.20, 1e-12);
  EXPECT_NEAR(*FvuAt(front, 48), 0.30 - 0.20 * std::log(3.0) / std::log(4.0), 1e-12);
  EXPECT_EQ(*FvuAt(front, 16), 0.30);
  EXPECT_EQ(*FvuAt(front, 64), 0.10);
  EXPECT_FALSE(FvuAt(front, 15.9).has_value());
  EXPECT_FALSE(FvuAt(front, 64.1).has_value());
  EXPECT_FALSE(FvuAt(front, kNaN).has_value());
  EXPECT_FALSE(FvuAt({}, 1).has_value());
  EXPECT_EQ(*FvuAt({{5, 0.5}}, 5), 0.5);
}

TEST(FvuNear, ContinuesAFrontALittleBeyondItsEnds) {
  const std::vector<FrontPoint> front = {{16, 0.30}, {32, 0.20}, {64, 0.14}};
  EXPECT_EQ(*FvuNear(front, 32, 0.1), 0.20);
  EXPECT_NEAR(*FvuNear(front, 15, 0.1), 0.30 + 0.10 * std::log2(16.0 / 15), 1e-12);
  EXPECT_NEAR(*FvuNear(front, 70, 0.1), 0.14 - 0.06 * std::log2(70.0 / 64), 1e-12);
  EXPECT_FALSE(FvuNear(front, 14, 0.1).has_value());
  EXPECT_FALSE(FvuNear(front, 71, 0.1).has_value());
  EXPECT_FALSE(FvuNear(front, kNaN, 0.1).has_value());
  EXPECT_FALSE(FvuNear({{32, 0.2}}, 31.9, 0.1).has_value());
  EXPECT_FALSE(FvuNear({}, 32, 0.1).has_value());
}

TEST(Compare, LooksAtEveryPointInsideTheOverlap) {
  const Comparison c = Compare({{16, 0.30}, {64, 0.10}}, {{8, 0.60}, {32, 0.40}, {128, 0.20}});
  ASSERT_EQ(c.at.size(), 3U);
  EXPECT_EQ(c.at[0].l0, 16);
  EXPECT_NEAR(c.at[0].b, 0.50, 1e-12);
  EXPECT_NEAR(c.at[1].a, 0.20, 1e-12);
  EXPECT_EQ(c.at[1].b, 0.40);
  EXPECT_EQ(c.at[2].l0, 64);
  EXPECT_NEAR(c.at[2].b, 0.30, 1e-12);
}

TEST(Compare, FrontsThatDoNotOverlapAreNotComparable) {
  EXPECT_TRUE(Compare({{16, 0.3}, {64, 0.1}}, {{65, 0.2}, {128, 0.1}}).at.empty());
  EXPECT_TRUE(Compare({}, {{65, 0.2}}).at.empty());
}

}  // namespace
}  // namespace sae::cli
