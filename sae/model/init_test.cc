#include "sae/model/init.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "sae/base/random.h"

namespace sae::model {
namespace {

// Property 35.
TEST(GeometricMedian, OfThreeCollinearPointsIsTheMiddleOne) {
  const std::vector<double> rows = {0, 0, 1, 1, 10, 10};
  const std::vector<double> m = GeometricMedian(rows, 2);
  EXPECT_NEAR(m[0], 1, 1e-3);
  EXPECT_NEAR(m[1], 1, 1e-3);
}

// Property 35.
TEST(GeometricMedian, OfASymmetricSetIsItsCentreEvenWhenAPointLiesThere) {
  const std::vector<double> rows = {3, 2, 5, 2, 4, 1, 4, 3, 4, 2};
  const std::vector<double> m = GeometricMedian(rows, 2);
  EXPECT_NEAR(m[0], 4, 1e-9);
  EXPECT_NEAR(m[1], 2, 1e-9);
}

TEST(GeometricMedian, OfOnePointManyTimesIsThatPoint) {
  const std::vector<double> rows = {3, -2, 3, -2, 3, -2};
  EXPECT_EQ(GeometricMedian(rows, 2), (std::vector<double>{3, -2}));
}

// Property 35.
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

TEST(MeasureSample, ScalesByTheMeanNormOrNotAtAll) {
  const std::vector<float> sample = {3, 4, 0, 0, 0, 0, 6, 8};  // norms 5 and 10
  SampleOptions options;
  options.input_scale = InputScale::kMeanNorm;
  const auto mean = MeasureSample(sample, 4, options);
  ASSERT_TRUE(mean.ok()) << mean.status();
  EXPECT_DOUBLE_EQ(mean->input_scale, 7.5 / 2);  // E|x / S| = sqrt 4
  options.input_scale = InputScale::kNone;
  const auto none = MeasureSample(sample, 4, options);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->input_scale, 1);
  EXPECT_DOUBLE_EQ(none->variance, (9 + 16 + 36 + 64) / 4.0);
  EXPECT_DOUBLE_EQ(mean->variance, none->variance / (mean->input_scale * mean->input_scale));
}

TEST(MeasureSample, LayerNormMeasuresNormalisedRows) {
  // Each row is one of two patterns times its own scale, plus its own offset.
  std::vector<float> sample;
  const float patterns[2][4] = {{1, -1, 2, -2}, {-1, 1, -2, 2}};
  for (int r = 0; r < 6; ++r) {
    for (const float v : patterns[r % 2])
      sample.push_back(static_cast<float>(r + 1) * v + 10 * static_cast<float>(r));
  }
  SampleOptions options;
  options.input_scale = InputScale::kLayerNorm;
  const auto s = MeasureSample(sample, 4, options);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->input_scale, 1);
  EXPECT_NEAR(s->variance, 3, 1e-4);  // |x'|^2 = d - 1 around a mean of 0
  EXPECT_NEAR(s->bias[2], 0, 1e-6);
}

TEST(MeasureSample, OfATranscoderMeasuresItsTargets) {
  const std::vector<float> sample = {3, 4, 0, 5};  // S = 5
  const std::vector<float> targets = {10, 20, 30, 20, 40, -10};
  SampleOptions options;
  options.targets = targets;
  options.d_out = 3;
  const auto s = MeasureSample(sample, 2, options);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_DOUBLE_EQ(s->input_scale, 5);
  EXPECT_THAT(s->bias, testing::ElementsAre(3, 6, 2));
  EXPECT_DOUBLE_EQ(s->variance, 1 + 4 + 16);
  options.d_out = 2;
  EXPECT_EQ(MeasureSample(sample, 2, options).status().code(), absl::StatusCode::kInvalidArgument);
  options.d_out = 3;
  options.input_scale = InputScale::kLayerNorm;
  EXPECT_THAT(std::string(MeasureSample(sample, 2, options).status().message()),
              testing::HasSubstr("layer_norm"));
}

TEST(NormaliseRow, UsesTheUnbiasedDeviationAndIsUndoneByIt) {
  const std::vector<double> row = {1, 2, 3, 6};
  std::vector<double> out(4);
  const RowNorm norm = NormaliseRow<double>(row, out);
  EXPECT_EQ(norm.mean, 3);
  EXPECT_DOUBLE_EQ(norm.deviation, std::sqrt(14.0 / 3));
  EXPECT_DOUBLE_EQ(out[3], 3 / (norm.deviation + 1e-5));
  for (std::size_t j = 0; j < 4; ++j)
    EXPECT_NEAR(out[j] * norm.deviation + norm.mean, row[j], 2e-5);
  std::vector<float> constant = {5, 5};
  NormaliseRow<float>(constant, constant);
  EXPECT_EQ(constant, (std::vector<float>{0, 0}));
}

TEST(ThresholdQuantiles, LeaveTheWantedShareOfEachLatentAbove) {
  // Latent 0: 0 .. 99 in some order; latent 1: ten times that, less 300.
  std::vector<float> z(200);
  for (std::size_t t = 0; t < 100; ++t) {
    z[2 * t] = static_cast<float>(t * 37 % 100);
    z[2 * t + 1] = 10 * z[2 * t] - 300;
  }
  const ThresholdSample s = ThresholdQuantiles<float>(z, 2, 0.05);
  EXPECT_THAT(s.threshold, testing::ElementsAre(94.5, 645));
  EXPECT_NEAR(s.deviation[0], std::sqrt((100.0 * 100 - 1) / 12), 1e-9);
  EXPECT_NEAR(s.deviation[1], 10 * s.deviation[0], 1e-9);
  EXPECT_EQ(ThresholdQuantiles<float>(z, 2, 0).threshold[0], 99);  // none above it
  EXPECT_EQ(ThresholdQuantiles<float>(z, 2, 1).threshold[0], 0);   // the least value
}

TEST(ThresholdQuantiles, GiveTheTargetL0OnTheSample) {
  constexpr std::size_t kTokens = 4000, kLatents = 50;
  Random random(3);
  std::vector<double> z(kTokens * kLatents);
  for (std::size_t i = 0; i < z.size(); ++i)
    z[i] = (1.0 + static_cast<double>(i % kLatents)) * random.Normal();
  const ThresholdSample s = ThresholdQuantiles<double>(z, kLatents, 2.0 / kLatents);
  std::size_t fires = 0;
  for (std::size_t i = 0; i < z.size(); ++i) fires += z[i] > s.threshold[i % kLatents];
  EXPECT_EQ(fires, 2 * kTokens);
}

TEST(BandwidthOf, IsATenthOfTheMedianDeviation) {
  EXPECT_DOUBLE_EQ(BandwidthOf({5, 1, 100}), 0.5);
  EXPECT_DOUBLE_EQ(BandwidthOf({4, 1, 2, 100}), 0.3);
  EXPECT_DOUBLE_EQ(BandwidthOf({2}), 0.2);
}

TEST(FloorThresholds, KeepsEveryWindowAboveZero) {
  std::vector<double> theta = {-3, 0.05, 0.3};
  FloorThresholds(0.1, &theta);
  EXPECT_THAT(theta, testing::ElementsAre(0.1, 0.1, 0.3));
  for (const double t : theta) EXPECT_GT(t - 0.1 / 2, 0);
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

}  // namespace
}  // namespace sae::model
