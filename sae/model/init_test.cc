#include "sae/model/init.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "sae/model/shard.h"

namespace sae::model {
namespace {

TEST(GeometricMedian, OfThreeCollinearPointsIsTheMiddleOne) {
  const std::vector<double> rows = {0, 0, 1, 1, 10, 10};
  const std::vector<double> m = GeometricMedian(rows, 2);
  EXPECT_NEAR(m[0], 1, 1e-3);
  EXPECT_NEAR(m[1], 1, 1e-3);
}

TEST(GeometricMedian, OfASymmetricSetIsItsCentreEvenWhenAPointLiesThere) {
  const std::vector<double> rows = {3, 2, 5, 2, 4, 1, 4, 3, 4, 2};
  const std::vector<double> m = GeometricMedian(rows, 2);
  EXPECT_NEAR(m[0], 4, 1e-9);
  EXPECT_NEAR(m[1], 2, 1e-9);
}

TEST(GeometricMedian, IsRobustAgainstAnOutlier) {
  const std::vector<double> rows = {1, 0, -1, 0, 0, 1, 0, -1, 1e6, 1e6};
  const std::vector<double> m = GeometricMedian(rows, 2);
  EXPECT_LT(std::hypot(m[0], m[1]), 1.0);
}

TEST(MeasureSample, ScalesToUnitMeanSquareAndMeasuresTheVariance) {
  const std::vector<float> sample = {3, 0, 0, 5, -3, 0, 0, -5};
  const auto s = MeasureSample(sample, 2);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_DOUBLE_EQ(s->input_scale, std::sqrt((9 + 25 + 9 + 25) / 4.0));
  EXPECT_NEAR(s->variance, 1.0, 1e-12);  // the mean is 0
  EXPECT_NEAR(s->bias[0], 0, 1e-9);
}

TEST(MeasureSample, RefusesWhatItCannotUse) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto bad = MeasureSample(std::vector<float>{1, 2, 3, nan}, 2);
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.status().message()), testing::HasSubstr("row 1 column 1"));
  EXPECT_FALSE(MeasureSample({}, 2).ok());
  EXPECT_FALSE(MeasureSample(std::vector<float>{1, 2, 3}, 2).ok());
  EXPECT_FALSE(MeasureSample(std::vector<float>{0, 0}, 2).ok());
}

TEST(UnitDirection, DependsOnSeedAndLatentAlone) {
  std::vector<double> a(64), b(64), c(64);
  UnitDirection(7, 1000, a);
  UnitDirection(7, 1000, b);
  UnitDirection(8, 1000, c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  double norm = 0, cross = 0;
  for (std::size_t j = 0; j < a.size(); ++j) {
    norm += a[j] * a[j];
    cross += a[j] * c[j];
  }
  EXPECT_NEAR(norm, 1, 1e-12);
  EXPECT_LT(std::abs(cross), 0.6);
}

TEST(RoundedScale, HidesTheLastBits) {
  EXPECT_EQ(RoundedScale(0.7312345678), RoundedScale(0.7312345678 * (1 + 1e-12)));
  EXPECT_NEAR(RoundedScale(0.7312345678), 0.7312345678, 0.0002);
  EXPECT_EQ(RoundedScale(0), 0);
}

TEST(LatentShard, BlocksCoverAllLatentsOnce) {
  std::vector<int> seen(12, 0);
  for (int rank = 0; rank < 4; ++rank) {
    const LatentShard s = ShardOf(12, 4, rank);
    for (std::int64_t i = 0; i < s.count; ++i) ++seen[static_cast<std::size_t>(s.Global(i))];
  }
  EXPECT_EQ(seen, std::vector<int>(12, 1));
}

}  // namespace
}  // namespace sae::model
