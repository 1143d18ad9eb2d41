#include "sae/model/metrics.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"

#include "sae/base/random.h"
#include "sae/model/reference_testing.h"

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

// Property 62.
TEST(Metrics, IdentityIsPerfect) {
  const std::vector<double> x = Draw(1, 3);
  const ReconstructionMetrics m = Measure(MeanOf(x), x, x);
  EXPECT_EQ(m.fvu, 0);
  EXPECT_EQ(m.explained_variance, 1);
  EXPECT_EQ(m.gamma, 1);
  EXPECT_NEAR(m.cosine, 1, 1e-15);
  EXPECT_EQ(m.rows, static_cast<std::int64_t>(kRows));
}

// Property 63.
TEST(Metrics, MeanPredictorHasFvuOne) {
  const std::vector<double> x = Draw(2, 3);
  const std::vector<double> mean = MeanOf(x);
  std::vector<double> x_hat(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x_hat[i] = mean[i % kWidth];
  // A centre far from the mean changes fvu only by rounding.
  EXPECT_NEAR(Measure(std::vector<double>(kWidth, -20.0), x, x_hat).fvu, 1, 1e-9);
  EXPECT_NEAR(Measure(mean, x, x_hat).fvu, 1, 1e-12);
}

// Property 64.
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

// Property 65.
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

// Property 66.
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

// Property 68.
TEST(Metrics, DensityHistogramCountsEveryLatent) {
  const std::vector<std::int64_t> fires = {0, 0, 1, 10, 1000, 1000};
  const std::vector<std::int64_t> h = DensityHistogram(fires, 1000, 0.25);
  EXPECT_EQ(h.size(), 40U);
  EXPECT_EQ(std::accumulate(h.begin(), h.end(), std::int64_t{0}), 6);
  EXPECT_EQ(h.front(), 2);
  EXPECT_EQ(h.back(), 2);
}

// Property 67.
TEST(Metrics, LossRecoveredReproducesPublishedRows) {
  const struct {
    double ablated, spliced, clean, recovered;
  } rows[] = {{19.5891, 3.0281, 2.5426, .9715},
              {19.5891, 2.7775, 2.5426, .9862},
              {13.0766, 4.7141, 4.6936, .99755}};
  for (const auto& r : rows)
    EXPECT_NEAR(LossRecovered(r.clean, r.spliced, r.ablated), r.recovered, 1e-4);
}

// Property 62.
TEST(Metrics, LossRecoveredIsOneForTheIdentityAndZeroForTheAblation) {
  EXPECT_EQ(LossRecovered(2.5, 2.5, 19.5), 1);
  EXPECT_EQ(LossRecovered(2.5, 19.5, 19.5), 0);
}

// Property 83.
TEST(Metrics, DeadLatentsPutInRaiseTheDeadFractionExactly) {
  GoldenRun run = GoldenRelu();
  run.options.coefficient = 0;
  const auto dead_fraction = [](const GoldenRun& r) {
    const ReferenceResult result = testing::Evaluate(r);
    std::vector<std::int64_t> fires(static_cast<std::size_t>(r.p.n));
    for (std::size_t i = 0; i < result.codes.size(); ++i)
      fires[i % fires.size()] += result.codes[i] > 0;
    return DeadFraction(fires);
  };
  ASSERT_EQ(dead_fraction(run), 0);
  for (int dead = 1; dead <= 6; ++dead) {
    ++run.p.n;
    run.p.b_enc.push_back(-100);
    for (auto* rows : {&run.p.w_enc, &run.p.w_dec}) rows->insert(rows->end(), {0.5, 0.5, 0.5, 0.5});
    EXPECT_EQ(dead_fraction(run), dead / (10.0 + dead));
  }
}

TEST(Metrics, ExplainedVarianceIsAboutTheMeanNotAboutZero) {
  // A constant far from 0 explains nothing, although its error is small beside |x|^2.
  std::vector<double> x = Draw(9, 0), far = x;
  for (double& v : far) v += 100;
  const std::vector<double> zeros(x.size(), 0.0), hundreds(x.size(), 100.0);
  const double near = Measure(std::vector<double>(kWidth, 0.0), x, zeros).explained_variance;
  EXPECT_NEAR(Measure(std::vector<double>(kWidth, 90.0), far, hundreds).explained_variance, near,
              1e-10);
  EXPECT_LT(near, 0.01);
}

TEST(Metrics, ErrorsAreMeansThatNoNumberOfRowsScales) {
  const std::vector<double> x = Draw(10, 1), x_hat = Draw(11, 1), c = MeanOf(x);
  const ReconstructionMetrics once = Measure(c, x, x_hat);
  EXPECT_DOUBLE_EQ(once.mean_squared_error * kWidth, once.squared_error);
  std::vector<double> twice = x, twice_hat = x_hat;
  twice.insert(twice.end(), x.begin(), x.end());
  twice_hat.insert(twice_hat.end(), x_hat.begin(), x_hat.end());
  const ReconstructionMetrics doubled = Measure(c, twice, twice_hat);
  EXPECT_NEAR(doubled.squared_error, once.squared_error, 1e-12);
  EXPECT_NEAR(doubled.fvu, once.fvu, 1e-12);
}

}  // namespace
}  // namespace sae::model
