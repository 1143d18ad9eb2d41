#include "sae/model/metrics.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"

#include "sae/base/random.h"

namespace sae::model {
namespace {

constexpr std::size_t kRows = 40;
constexpr std::size_t kWidth = 6;

std::vector<double> Draw(std::uint64_t seed, double offset) {
  Random random(seed);
  std::vector<double> out(kRows * kWidth);
  for (double& v : out) v = random.Normal() + offset;
  return out;
}

std::vector<double> MeanOf(const std::vector<double>& x) {
  std::vector<double> mean(kWidth, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) mean[i % kWidth] += x[i] / kRows;
  return mean;
}

ReconstructionMetrics Measure(const std::vector<double>& centre, const std::vector<double>& x,
                              const std::vector<double>& x_hat) {
  ReconstructionAccumulator acc(centre);
  acc.Add<double>(x, x_hat);
  return acc.Result();
}

TEST(Metrics, IdentityIsPerfect) {
  const std::vector<double> x = Draw(1, 3);
  const ReconstructionMetrics m = Measure(MeanOf(x), x, x);
  EXPECT_EQ(m.fvu, 0);
  EXPECT_EQ(m.explained_variance, 1);
  EXPECT_EQ(m.gamma, 1);
  EXPECT_NEAR(m.cosine, 1, 1e-15);
  EXPECT_EQ(m.rows, static_cast<std::int64_t>(kRows));
}

TEST(Metrics, MeanPredictorHasFvuOne) {
  const std::vector<double> x = Draw(2, 3);
  const std::vector<double> mean = MeanOf(x);
  std::vector<double> x_hat(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x_hat[i] = mean[i % kWidth];
  // A centre far from the mean changes fvu only by rounding.
  EXPECT_NEAR(Measure(std::vector<double>(kWidth, -20.0), x, x_hat).fvu, 1, 1e-9);
  EXPECT_NEAR(Measure(mean, x, x_hat).fvu, 1, 1e-12);
}

TEST(Metrics, GammaOfScaledDataIsTheScaleAndUndoingItNeverHurts) {
  const std::vector<double> x = Draw(3, 5);
  const std::vector<double> c = MeanOf(x);
  std::vector<double> x_hat(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    x_hat[i] = c[i % kWidth] + 0.8 * (x[i] - c[i % kWidth]);
  EXPECT_NEAR(Measure(c, x, x_hat).gamma, 0.8, 1e-12);
  // Uncentred, the offset hides the shrinkage.
  EXPECT_GT(Measure(std::vector<double>(kWidth, 0.0), x, x_hat).gamma, 0.97);
  const std::vector<double> noise = Draw(4, 0);
  for (std::size_t i = 0; i < x.size(); ++i) x_hat[i] += 0.1 * noise[i];
  const ReconstructionMetrics before = Measure(c, x, x_hat);
  for (std::size_t i = 0; i < x.size(); ++i)
    x_hat[i] = c[i % kWidth] + (x_hat[i] - c[i % kWidth]) / before.gamma;
  const ReconstructionMetrics after = Measure(c, x, x_hat);
  EXPECT_NEAR(after.gamma, 1, 1e-12);
  EXPECT_LE(after.squared_error, before.squared_error);
}

TEST(Metrics, CentredResidualExplainsAtLeastAsMuch) {
  const std::vector<double> x = Draw(5, 1);
  std::vector<double> x_hat = Draw(6, 1.5);
  const std::vector<double> c = MeanOf(x);
  ReconstructionMetrics m = Measure(c, x, x_hat);
  EXPECT_GT(m.explained_variance_centred, m.explained_variance);
  // Without a mean residual they are equal.
  const std::vector<double> h = MeanOf(x_hat);
  for (std::size_t i = 0; i < x_hat.size(); ++i) x_hat[i] += c[i % kWidth] - h[i % kWidth];
  m = Measure(c, x, x_hat);
  EXPECT_NEAR(m.explained_variance_centred, m.explained_variance, 1e-12);
}

TEST(Metrics, AnySplitOfTheRowsGivesTheSameNumbers) {
  const std::vector<double> x = Draw(7, 100);
  const std::vector<double> x_hat = Draw(8, 100);
  const std::vector<double> c = MeanOf(x);
  const ReconstructionMetrics whole = Measure(c, x, x_hat);
  ReconstructionAccumulator a(c), b(c);
  const std::size_t cut = 7 * kWidth;
  a.Add<double>(std::span(x).first(cut), std::span(x_hat).first(cut));
  for (std::size_t i = cut; i < x.size(); i += kWidth) {
    b.Add<double>(std::span(x).subspan(i, kWidth), std::span(x_hat).subspan(i, kWidth));
  }
  b.Merge(a);
  const ReconstructionMetrics split = b.Result();
  EXPECT_NEAR(split.fvu / whole.fvu, 1, 1e-12);
  EXPECT_NEAR(split.gamma / whole.gamma, 1, 1e-12);
  EXPECT_NEAR(split.cosine / whole.cosine, 1, 1e-12);
  EXPECT_NEAR(split.squared_error / whole.squared_error, 1, 1e-12);
}

TEST(Metrics, DensityHistogramCountsEveryLatent) {
  const std::vector<std::int64_t> fires = {0, 0, 1, 10, 1000, 1000};
  const std::vector<std::int64_t> h = DensityHistogram(fires, 1000, 0.25);
  EXPECT_EQ(h.size(), 40U);
  EXPECT_EQ(std::accumulate(h.begin(), h.end(), std::int64_t{0}), 6);
  EXPECT_EQ(h.front(), 2);
  EXPECT_EQ(h.back(), 2);
}

}  // namespace
}  // namespace sae::model
