#include "sae/model/reference.h"

#include <cmath>
#include <functional>

#include "gtest/gtest.h"

#include "sae/model/golden.h"
#include "sae/model/metrics.h"

namespace sae::model {
namespace {

constexpr double kGolden = 1e-9;

double Squares(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return sum;
}

void ExpectRelative(double value, double wanted, double tolerance) {
  EXPECT_NEAR(value, wanted, tolerance * std::abs(wanted));
}

// c of the constant-normalised loss: 1 / mean over B and d of (x - mean_b x)^2.
double OpenAiScale(const GoldenCase& g) {
  double variance = 0;
  for (std::size_t j = 0; j < 4; ++j) {
    double mean = 0;
    for (std::size_t b = 0; b < 6; ++b) mean += g.x[4 * b + j] / 6;
    for (std::size_t b = 0; b < 6; ++b)
      variance += (g.x[4 * b + j] - mean) * (g.x[4 * b + j] - mean) / 24;
  }
  return 1 / variance;
}

ReferenceTopKOptions OpenAiOptions(const GoldenCase& g) {
  ReferenceTopKOptions o;
  o.k = 3;
  o.aux_k = 2;
  o.dead.assign(10, false);
  for (const std::size_t i : {1, 4, 7, 8}) o.dead[i] = true;
  o.main_scale = OpenAiScale(g) / 24;
  o.aux_scale = 1.0 / 32 / 24;
  return o;
}

// Worst relative difference of `gradient` from central differences of `loss`, over every parameter.
double WorstDifference(const ReferenceParameters& p, const ReferenceParameters& gradient,
                       const std::function<double(const ReferenceParameters&)>& loss) {
  constexpr double h = 1e-6;
  double worst = 0;
  const auto sweep = [&](std::vector<double> ReferenceParameters::*member) {
    for (std::size_t i = 0; i < (p.*member).size(); ++i) {
      ReferenceParameters q = p;
      (q.*member)[i] += h;
      const double up = loss(q);
      (q.*member)[i] -= 2 * h;
      const double difference = (up - loss(q)) / (2 * h);
      const double analytic = (gradient.*member)[i];
      worst = std::max(worst, std::abs(difference - analytic) / (1e-3 + std::abs(analytic)));
    }
  };
  sweep(&ReferenceParameters::w_enc);
  sweep(&ReferenceParameters::b_enc);
  sweep(&ReferenceParameters::w_dec);
  sweep(&ReferenceParameters::b_dec);
  return worst;
}

TEST(Reference, DrawsTheGoldenInputs) {
  const GoldenCase g = MakeGoldenCase();
  EXPECT_DOUBLE_EQ(g.x[0], .46133304908124795);
  EXPECT_DOUBLE_EQ(g.p.w_enc[0], -.10748195392090376);
  EXPECT_DOUBLE_EQ(g.p.w_dec[0], -.3502055194268776);
  EXPECT_DOUBLE_EQ(g.p.b_dec[0], -.034375315302788166);
}

TEST(Reference, ReluL1MatchesTheGoldenVectors) {
  const GoldenCase g = MakeGoldenCase();
  const ReferenceResult r = ReferenceReluL1(g.p, g.x, 0.3);
  ExpectRelative(r.loss, 4.04832469775, kGolden);
  ExpectRelative(Squares(r.gradient.w_enc), 11.57525485, kGolden);
  ExpectRelative(Squares(r.gradient.b_enc), 9.889106985, kGolden);
  ExpectRelative(Squares(r.gradient.w_dec), 11.50245322, kGolden);
  ExpectRelative(Squares(r.gradient.b_dec), 30.47794913, kGolden);
}

TEST(Reference, TopKWithAuxKMatchesTheGoldenVectors) {
  const GoldenCase g = MakeGoldenCase();
  const ReferenceResult r = ReferenceTopKAux(g.p, g.x, OpenAiOptions(g));
  ExpectRelative(r.loss, 3.12816098308, kGolden);
  ExpectRelative(r.main, 2.990069728838693, 1e-12);
  ExpectRelative(r.aux, .1380912542386196, 1e-12);
  ExpectRelative(Squares(r.gradient.w_enc), 6.415677266, kGolden);
  ExpectRelative(Squares(r.gradient.b_enc), 5.476266505, kGolden);
  ExpectRelative(Squares(r.gradient.w_dec), 8.915852625, kGolden);
  ExpectRelative(Squares(r.gradient.b_dec), 16.90500814, kGolden);
}

TEST(Reference, GradientsMatchCentralDifferences) {
  const GoldenCase g = MakeGoldenCase();
  const ReferenceResult relu = ReferenceReluL1(g.p, g.x, 0.3);
  EXPECT_LT(WorstDifference(
                g.p, relu.gradient,
                [&](const ReferenceParameters& q) { return ReferenceReluL1(q, g.x, 0.3).loss; }),
            1e-5);
  ReferenceTopKOptions o = OpenAiOptions(g);
  const ReferenceResult topk = ReferenceTopKAux(g.p, g.x, o);
  o.frozen_x_hat = topk.x_hat;
  o.frozen_b_dec = g.p.b_dec;
  EXPECT_LT(WorstDifference(
                g.p, topk.gradient,
                [&](const ReferenceParameters& q) { return ReferenceTopKAux(q, g.x, o).loss; }),
            1e-5);
}

TEST(Reference, GoldenMetricsOfReluCodes) {
  const GoldenCase g = MakeGoldenCase();
  const ReferenceResult r = ReferenceReluL1(g.p, g.x, 0.3);
  // The golden gamma is not centred: centre 0.
  ReconstructionAccumulator acc(std::vector<double>(4, 0.0));
  acc.Add<double>(g.x, r.x_hat);
  const ReconstructionMetrics m = acc.Result();
  ExpectRelative(m.squared_error / 4, .868411102866522, 1e-12);
  ExpectRelative(m.fvu, 3.678517294434429, 1e-12);
  ExpectRelative(m.explained_variance_centred, -1.2703643624856595, 1e-12);
  ExpectRelative(m.gamma, 21.752131756448005, 1e-12);
  ExpectRelative(m.cosine, .17824920453797846, 1e-12);
  ExpectRelative(m.l2_ratio, .9925220987762828, 1e-12);
}

TEST(Reference, ProjectionIsOrthogonalAndIdempotent) {
  const GoldenCase g = MakeGoldenCase();
  std::vector<double> gradient = ReferenceReluL1(g.p, g.x, 0.3).gradient.w_dec;
  ReferenceProject(g.p, gradient);
  for (std::size_t i = 0; i < 10; ++i) {
    double along = 0;
    for (std::size_t j = 0; j < 4; ++j) along += gradient[4 * i + j] * g.p.w_dec[4 * i + j];
    EXPECT_LT(std::abs(along), 1e-12);
  }
  std::vector<double> twice = gradient;
  ReferenceProject(g.p, twice);
  for (std::size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(twice[i], gradient[i], 1e-14);
}

TEST(Reference, RotationAndShiftLeaveLossAndSelection) {
  GoldenCase g = MakeGoldenCase();
  const ReferenceTopKOptions o = OpenAiOptions(g);
  const ReferenceResult before = ReferenceTopKAux(g.p, g.x, o);
  // A rotation in the plane of coordinates 1 and 3, of data, encoder, decoder and bias alike.
  const double c = std::cos(0.7), s = std::sin(0.7);
  const auto rotate = [&](std::vector<double>& v) {
    for (std::size_t i = 0; i < v.size(); i += 4) {
      const double a = v[i + 1], b = v[i + 3];
      v[i + 1] = c * a - s * b;
      v[i + 3] = s * a + c * b;
    }
  };
  for (auto* v : {&g.x, &g.p.w_enc, &g.p.w_dec, &g.p.b_dec}) rotate(*v);
  const ReferenceResult rotated = ReferenceTopKAux(g.p, g.x, o);
  EXPECT_NEAR(rotated.loss, before.loss, 1e-12);
  for (std::size_t i = 0; i < g.x.size(); ++i) g.x[i] += 0.25;
  for (double& v : g.p.b_dec) v += 0.25;
  const ReferenceResult shifted = ReferenceTopKAux(g.p, g.x, o);
  EXPECT_NEAR(shifted.loss, before.loss, 1e-12);
  for (std::size_t i = 0; i < before.codes.size(); ++i) {
    EXPECT_NEAR(rotated.codes[i], before.codes[i], 1e-12);
    EXPECT_NEAR(shifted.codes[i], before.codes[i], 1e-12);
  }
}

TEST(Reference, TopKOfAllLatentsIsReluWithoutPenalty) {
  const GoldenCase g = MakeGoldenCase();
  ReferenceTopKOptions o;
  o.k = 10;
  o.main_scale = 1.0 / 6;
  const ReferenceResult topk = ReferenceTopKAux(g.p, g.x, o);
  const ReferenceResult relu = ReferenceReluL1(g.p, g.x, 0);
  EXPECT_DOUBLE_EQ(topk.loss, relu.loss);
  EXPECT_EQ(topk.codes, relu.codes);
  for (std::size_t i = 0; i < 40; ++i)
    EXPECT_NEAR(topk.gradient.w_enc[i], relu.gradient.w_enc[i], 1e-14);
  o.k = 0;
  const ReferenceResult none = ReferenceTopKAux(g.p, g.x, o);
  for (std::size_t i = 0; i < none.x_hat.size(); ++i) EXPECT_EQ(none.x_hat[i], g.p.b_dec[i % 4]);
}

TEST(Reference, AuxKWithoutDeadLatentsOrWithoutVarianceAddsNothing) {
  GoldenCase g = MakeGoldenCase();
  ReferenceTopKOptions o = OpenAiOptions(g);
  o.dead.assign(10, false);
  EXPECT_EQ(ReferenceTopKAux(g.p, g.x, o).aux, 0);
  // One row only: its residual is its own mean, so V = 0.
  o = OpenAiOptions(g);
  const ReferenceResult r = ReferenceTopKAux(g.p, std::span(g.x).first(4), o);
  EXPECT_EQ(r.aux, 0);
  for (const double v : r.gradient.w_enc) EXPECT_TRUE(std::isfinite(v));
}

TEST(Reference, OneFeatureShrinksByHalfTheCoefficient) {
  // (a - f)^2 + lambda f has its minimum at f = a - lambda / 2: gradient 0 there.
  ReferenceParameters p{1, 1, {1}, {-0.2}, {1}, {0}};
  const ReferenceResult r = ReferenceReluL1(p, std::vector<double>{1.0}, 0.4);
  EXPECT_NEAR(r.gradient.b_enc[0], 0, 1e-15);
}

TEST(Reference, TiesGoToTheLowerIndex) {
  const std::vector<double> row = {1, 2, 2, 2, 0};
  EXPECT_EQ(ReferenceTopK(row, 2), (std::vector<std::int64_t>{1, 2}));
  // Any increasing map keeps the set.
  std::vector<double> mapped = row;
  for (double& v : mapped) v = std::exp(3 * v) - 5;
  EXPECT_EQ(ReferenceTopK(mapped, 2), (std::vector<std::int64_t>{1, 2}));
}

}  // namespace
}  // namespace sae::model
