#include "sae/lm/norm_statistics.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

TEST(NormStatistics, QuantilesWithinOnePercent) {
  NormStatistics s;
  for (int i = 1; i <= 10000; ++i) s.Add(i);
  for (const double q : {0.01, 0.25, 0.5, 0.99, 0.999})
    EXPECT_NEAR(s.Quantile(q), q * 10000, 0.011 * q * 10000) << q;
  EXPECT_EQ(s.smallest(), 1);
  EXPECT_EQ(s.largest(), 10000);
  EXPECT_EQ(s.Quantile(1), 10000);
}

TEST(NormStatistics, TheShareOfTheLargestRows) {
  NormStatistics s;
  for (int i = 0; i < 9990; ++i) s.Add(1);
  for (int i = 0; i < 10; ++i) s.Add(100);
  EXPECT_NEAR(s.TopShare(0.001), 1e5 / (1e5 + 9990), 1e-12);
  EXPECT_NEAR(s.TopShare(0.0005), 5e4 / (1e5 + 9990), 1e-12);
  EXPECT_NEAR(s.TopShare(1), 1, 1e-12);
  NormStatistics zero;
  EXPECT_EQ(zero.TopShare(0.1), 0);
  EXPECT_EQ(zero.Quantile(0.5), 0);
  zero.Add(0);
  EXPECT_EQ(zero.Quantile(0.5), 0);
}

TEST(NormStatistics, Limits) {
  EXPECT_TRUE(ParseNormLimit("10x")->of_median);
  EXPECT_EQ(ParseNormLimit("10x")->value, 10);
  EXPECT_FALSE(ParseNormLimit("2.5e3")->of_median);
  for (const char* bad : {"", "x", "10 x", "-1", "0", "1x", "nan", "inf", "10xx"}) {
    EXPECT_EQ(ParseNormLimit(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  const float row[2] = {3, 4};
  EXPECT_EQ(RowNorm(row, 2), 5);
}

}  // namespace
}  // namespace sae::lm
