#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::Row;
using testing::Squares;
using testing::WorstGap;

ReferenceParameters GoldenGradient() { return Evaluate(GoldenGated()).gradient; }

// A gradient with the same value everywhere, tangential to no row in particular.
ReferenceParameters Constant(const ReferenceParameters& like, double value) {
  ReferenceParameters g = ZerosLike(like);
  for (const auto member : kReferenceMembers) {
    for (double& v : g.*member) v = value;
  }
  return g;
}

double Norm(const ReferenceParameters& g) {
  double squares = 0;
  for (const auto member : kReferenceMembers) squares += Squares(g.*member);
  return std::sqrt(squares);
}

ReferenceUpdateOptions Free(double lr) {
  ReferenceUpdateOptions o;
  o.adam.lr = lr;
  o.decoder = DecoderMode::kFree;
  return o;
}

// Property 2.
TEST(ReferenceUpdate, ProjectionIsOrthogonalAndIdempotentAndStepsLeaveUnitRows) {
  ReferenceParameters p = GoldenGated().p;
  p.w_dec = MakeGoldenCase().raw_w_dec;  // the projection is on rows of any norm
  std::vector<double> once = GoldenGradient().w_dec;
  ReferenceProject(p, once);
  for (std::int64_t i = 0; i < p.n; ++i) {
    const std::vector<double> g = Row(once, i, p.d);
    EXPECT_LT(std::abs(testing::Dot(g, Row(p.w_dec, i, p.d))),
              1e-12 * std::sqrt(Squares(g)) + 1e-18);
  }
  std::vector<double> twice = once;
  ReferenceProject(p, twice);
  EXPECT_LT(WorstGap(twice, once), 1e-14);

  ReferenceState s = ReferenceStart(GoldenGated().p);
  ReferenceUpdateOptions o;
  o.adam.lr = 0.1;
  for (int t = 0; t < 5; ++t) ReferenceUpdate(s, GoldenGradient(), o);
  for (std::int64_t i = 0; i < p.n; ++i)
    EXPECT_NEAR(std::sqrt(Squares(Row(s.p.w_dec, i, p.d))), 1, 4e-16);
}

TEST(ReferenceUpdate, DecoderRowsAreNormalisedPerLatentNotPerDimension) {
  ReferenceState s = ReferenceStart(GoldenGated().p);
  ReferenceUpdateOptions o;
  o.adam.lr = 0.1;
  ReferenceUpdate(s, GoldenGradient(), o);
  double columns = 0;
  for (std::size_t j = 0; j < 4; ++j) {
    double squares = 0;
    for (std::size_t i = 0; i < 10; ++i) squares += s.p.w_dec[4 * i + j] * s.p.w_dec[4 * i + j];
    columns = std::max(columns, std::abs(squares - 1));
  }
  EXPECT_GT(columns, 0.5);  // 10 unit rows of width 4: no column can be a unit vector too
}

TEST(ReferenceUpdate, AZeroDecoderRowStaysFinite) {
  ReferenceParameters p = GoldenGated().p;
  std::fill(p.w_dec.begin(), p.w_dec.begin() + 4, 0.0);
  ReferenceState s = ReferenceStart(p);
  ReferenceUpdateOptions o;
  o.adam.lr = 0;
  ReferenceUpdate(s, GoldenGradient(), o);
  EXPECT_EQ(Row(s.p.w_dec, 0, 4), std::vector<double>(4, 0.0));
}

// Property 4.
TEST(ReferenceUpdate, AdamFollowsTheScalarFormulaForFiveSteps) {
  const ReferenceParameters start = GoldenGated().p;
  for (const double g : {0.37, -2.5}) {
    ReferenceState s = ReferenceStart(start);
    ReferenceUpdateOptions o = Free(1e-2);
    o.threshold = ThresholdParameter::kRaw;
    double w = start.w_enc[0], theta = start.threshold[0], m = 0, v = 0;
    for (int t = 1; t <= 5; ++t) {
      ReferenceUpdate(s, Constant(start, g), o);
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const double step =
          1e-2 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
      w -= step;
      theta -= step;
      EXPECT_NEAR(s.p.w_enc[0], w, 1e-15);
      EXPECT_NEAR(s.p.threshold[0], theta, 1e-15);
    }
  }
  // The first step is lr sign(g) as epsilon goes to 0.
  ReferenceState s = ReferenceStart(start);
  ReferenceUpdateOptions o = Free(1e-2);
  o.adam.epsilon = 1e-30;
  ReferenceUpdate(s, Constant(start, -1e-9), o);
  EXPECT_NEAR(s.p.b_enc[3], start.b_enc[3] + 1e-2, 1e-15);
}

// Property 5.
TEST(ReferenceUpdate, FirstStepWithoutMomentumIsASignStep) {
  const GoldenRun run = GoldenGated();
  const ReferenceParameters g = GoldenGradient();
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o = Free(1e-3);
  o.adam.beta1 = 0;
  o.adam.epsilon = 1e-30;
  ReferenceUpdate(s, g, o);
  for (const auto member :
       {&ReferenceParameters::w_enc, &ReferenceParameters::w_dec, &ReferenceParameters::b_dec,
        &ReferenceParameters::r_mag, &ReferenceParameters::b_mag}) {
    for (std::size_t i = 0; i < (g.*member).size(); ++i) {
      if ((g.*member)[i] == 0) continue;
      const double sign = (g.*member)[i] > 0 ? 1 : -1;
      EXPECT_NEAR((s.p.*member)[i], (run.p.*member)[i] - 1e-3 * sign, 1e-15);
    }
  }
}

// Property 6.
TEST(ReferenceUpdate, ClipLeavesSmallGradientsAndShortensLargeOnes) {
  const GoldenRun run = GoldenGated();
  ReferenceParameters g = GoldenGradient();
  ReferenceProject(run.p, g.w_dec);
  const double norm = Norm(g);
  // beta1 = 0: m is the gradient that Adam saw.
  const auto seen = [&](double clip) {
    ReferenceState s = ReferenceStart(run.p);
    ReferenceUpdateOptions o;
    o.adam = {1e-3, 0, 0.999, 1e-8};
    o.clip = clip;
    EXPECT_NEAR(ReferenceUpdate(s, GoldenGradient(), o), norm, 1e-12);
    return s.m;
  };
  EXPECT_LT(WorstGap(seen(norm * 1.001), g), 1e-15);
  EXPECT_LT(WorstGap(seen(0), g), 1e-15);
  ReferenceParameters clipped = seen(1);
  EXPECT_NEAR(Norm(clipped), 1, 1e-12);
  for (const auto member : kReferenceMembers) {
    for (double& v : clipped.*member) v *= norm;
  }
  EXPECT_LT(WorstGap(clipped, g), 1e-12);
}

// Property 33.
TEST(ReferenceUpdate, CorrectedMeanOfConstantParametersIsTheParameters) {
  const GoldenRun run = GoldenGated();
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o = Free(0);
  o.ema = 0.999;
  for (int t = 1; t <= 3; ++t) {
    ReferenceUpdate(s, GoldenGradient(), o);
    EXPECT_NEAR(s.ema_weight, 1 - std::pow(0.999, t), 1e-15);
    for (const auto member : kReferenceMembers) {
      const bool log = member == &ReferenceParameters::threshold;  // what Adam sees
      for (std::size_t i = 0; i < (run.p.*member).size(); ++i) {
        const double value = (run.p.*member)[i];
        EXPECT_NEAR((s.ema.*member)[i] / s.ema_weight, log ? std::log(value) : value, 1e-12);
      }
    }
  }
}

TEST(ReferenceUpdate, MeanIsTakenBeforeAdamMoves) {
  const GoldenRun run = GoldenGated();
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o = Free(0.5);
  o.ema = 0.9;
  ReferenceUpdate(s, GoldenGradient(), o);
  EXPECT_NEAR(s.ema.w_enc[5] / s.ema_weight, run.p.w_enc[5], 1e-15);
  EXPECT_GT(std::abs(s.p.w_enc[5] - run.p.w_enc[5]), 0.1);
}

TEST(ReferenceUpdate, OpenAiOrderLeavesRowsOffTheSphereByOneStep) {
  const GoldenRun run = GoldenOpenAi();
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o;
  o.adam.lr = 0.1;
  o.decoder = DecoderMode::kUnitBefore;
  const ReferenceParameters g = Evaluate(run).gradient;
  ReferenceUpdate(s, g, o);
  ReferenceState usual = ReferenceStart(run.p);
  o.decoder = DecoderMode::kUnit;
  ReferenceUpdate(usual, g, o);
  for (std::int64_t i = 0; i < 10; ++i) {
    const std::vector<double> off = Row(s.p.w_dec, i, 4), on = Row(usual.p.w_dec, i, 4);
    if (Row(g.w_dec, i, 4) == std::vector<double>(4, 0.0)) continue;
    const double norm = std::sqrt(Squares(off));
    EXPECT_GT(std::abs(norm - 1), 1e-3);
    for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(off[j] / norm, on[j], 1e-14);
  }
  // The next step renormalises first: with lr 0 that is all that happens.
  o.decoder = DecoderMode::kUnitBefore;
  o.adam.lr = 0;
  ReferenceUpdate(s, g, o);
  EXPECT_LT(WorstGap(s.p.w_dec, usual.p.w_dec), 1e-14);
}

TEST(ReferenceUpdate, FreeAndOnTheFlyRowsAreNeitherProjectedNorNormalised) {
  const GoldenRun run = GoldenOnTheFly();
  const ReferenceParameters g = Evaluate(run).gradient;
  for (const DecoderMode mode : {DecoderMode::kFree, DecoderMode::kOnTheFly}) {
    ReferenceState s = ReferenceStart(run.p);
    ReferenceUpdateOptions o;
    o.adam = {1e-3, 0, 0.999, 1e-30};
    o.decoder = mode;
    ReferenceUpdate(s, g, o);
    EXPECT_LT(WorstGap(s.m.w_dec, g.w_dec), 1e-16);
    EXPECT_NEAR(s.p.w_dec[6], run.p.w_dec[6] - std::copysign(1e-3, g.w_dec[6]), 1e-15);
  }
}

TEST(ReferenceUpdate, ARowWithoutGradientAndMomentIsNotTouched) {
  GoldenRun run = GoldenBatchTopK();
  for (std::size_t j = 0; j < 4; ++j)
    run.p.w_dec[j] *= 1.25;  // off the sphere: a renormalisation shows
  ReferenceParameters g = Evaluate(run).gradient;
  std::fill(g.w_dec.begin(), g.w_dec.begin() + 4, 0.0);
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o;
  o.adam.lr = 1e-2;
  ReferenceUpdate(s, g, o);
  EXPECT_EQ(Row(s.p.w_dec, 0, 4), Row(run.p.w_dec, 0, 4));
  s.m.w_dec[0] = 1e-3;
  ReferenceUpdate(s, g, o);
  EXPECT_NEAR(Squares(Row(s.p.w_dec, 0, 4)), 1, 1e-15);
}

// Property 47.
TEST(ReferenceUpdate, LogThresholdHasItsFactorThetaAndStaysPositive) {
  GoldenRun run = GoldenJumpRelu();
  run.p.threshold[2] = 1e-6;
  const ReferenceParameters g = Evaluate(run).gradient;
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o;
  o.adam = {1e-3, 0, 0.999, 1e-30};
  o.threshold_lr = 0.25;
  ReferenceUpdate(s, g, o);
  for (std::size_t i = 0; i < 10; ++i) {
    const double by_log = run.p.threshold[i] * g.threshold[i];
    EXPECT_NEAR(s.m.threshold[i], by_log, 1e-16);
    if (by_log == 0) continue;
    // A sign step of log theta: theta changes by a factor, however small it is.
    EXPECT_NEAR(s.p.threshold[i] / run.p.threshold[i], std::exp(by_log > 0 ? -0.25 : 0.25), 1e-12);
  }
  o.threshold_lr = 30;
  ReferenceParameters up = ZerosLike(g);
  std::fill(up.threshold.begin(), up.threshold.end(), 5.0);
  for (int t = 0; t < 5; ++t) ReferenceUpdate(s, up, o);
  for (const double theta : s.p.threshold) EXPECT_GT(theta, 0);
  // Raw theta under the same steps turns negative.
  ReferenceState raw = ReferenceStart(run.p);
  o.threshold = ThresholdParameter::kRaw;
  ReferenceUpdate(raw, up, o);
  EXPECT_LT(raw.p.threshold[0], 0);
}

TEST(ReferenceUpdate, OldNameIsTheUsualOrder) {
  const GoldenRun run = GoldenRelu();
  const ReferenceParameters g = Evaluate(run).gradient;
  ReferenceState s = ReferenceStart(run.p);
  ReferenceUpdateOptions o;
  o.adam.lr = 1e-2;
  ReferenceParameters p = run.p, m = ZerosLike(p), v = ZerosLike(p);
  for (int t = 1; t <= 3; ++t) {
    ReferenceUpdate(s, g, o);
    ReferenceUpdate(p, g, m, v, o.adam, t);
  }
  EXPECT_LT(WorstGap(s.p, p), 1e-15);
}

}  // namespace
}  // namespace sae::model
