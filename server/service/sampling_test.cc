#include "server/service/sampling.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::server {
namespace {
using Request = saeloom::v1::QueryMetricsRequest;
using ::testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// One point a step; 100 tokens a step.
MetricSeries Curve(const std::vector<double>& values) {
  MetricSeries series;
  series.metric = "m";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto step = static_cast<std::int64_t>(i) + 1;
    series.steps.push_back(step);
    series.tokens.push_back(100 * step);
    series.values.push_back(values[i]);
    series.attempts.push_back(1);
  }
  return series;
}

TEST(Sampling, FewPointsAreLeftAlone) {
  const MetricSeries curve = Curve({1, 2, 3});
  for (const auto how : {Request::SAMPLING_EVEN, Request::SAMPLING_MEAN, Request::SAMPLING_MIN_MAX})
    for (const int n : {0, 3, 9}) EXPECT_EQ(Sample(curve, n, how).values, curve.values);
}

TEST(Sampling, EvenKeepsTheEnds) {
  const MetricSeries out =
      Sample(Curve({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}), 4, Request::SAMPLING_UNSPECIFIED);
  EXPECT_THAT(out.values, ElementsAre(0, 3, 6, 9));
  EXPECT_THAT(out.steps, ElementsAre(1, 4, 7, 10));
  EXPECT_EQ(out.metric, "m");
  EXPECT_THAT(Sample(Curve({0, 1, 2}), 1, Request::SAMPLING_EVEN).values, ElementsAre(2));
}

TEST(Sampling, MeansOfEqualRangesOfTokens) {
  MetricSeries curve = Curve({1, 3, 5, 7, 10, 20, kNan, 30});
  EXPECT_THAT(Sample(curve, 2, Request::SAMPLING_MEAN).values, ElementsAre(4, 20));
  EXPECT_THAT(Sample(curve, 2, Request::SAMPLING_MEAN).tokens, ElementsAre(400, 800));
  curve.tokens.back() = 100'000;  // a gap: ranges of tokens, not of points
  EXPECT_THAT(Sample(curve, 4, Request::SAMPLING_MEAN).steps, ElementsAre(7, 8));
  const MetricSeries none = Sample(Curve({kNan, kNan, kNan}), 1, Request::SAMPLING_MEAN);
  ASSERT_EQ(none.values.size(), 1u);
  EXPECT_TRUE(std::isnan(none.values[0]));
}

TEST(Sampling, ExtremesInTheirOrder) {
  const MetricSeries out = Sample(Curve({5, 1, 9, 5, 4, kNan, 8, 2}), 4, Request::SAMPLING_MIN_MAX);
  EXPECT_THAT(out.values, ElementsAre(1, 9, 8, 2));
  EXPECT_THAT(out.steps, ElementsAre(2, 3, 7, 8));
  EXPECT_EQ(Sample(Curve({5, 1, 9}), 1, Request::SAMPLING_MIN_MAX).values.size(), 1u);
}

TEST(Sampling, AfterAStep) {
  EXPECT_THAT(AfterStep(Curve({1, 2, 3}), 1).values, ElementsAre(2, 3));
  EXPECT_TRUE(AfterStep(Curve({1, 2, 3}), 3).values.empty());
}

}  // namespace
}  // namespace sae::server
