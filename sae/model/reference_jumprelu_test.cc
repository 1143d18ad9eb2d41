#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::Row;
using testing::WorstDifference;
using testing::WorstGap;

// One latent that copies one number, with threshold theta.
struct OneDimension {
  ReferenceParameters p{1, 1, {1}, {0}, {1}, {0}};
  ReferenceOptions o;
  OneDimension(double theta, double bandwidth, double lambda) {
    p.threshold = {theta};
    o.architecture = Architecture::kJumpRelu;
    o.penalty = Penalty::kL0;
    o.bandwidth = bandwidth;
    o.coefficient = lambda;
    o.pre_bias = false;
  }
  double ThetaGradient(const std::vector<double>& x) const {
    return ReferenceForwardBackward(p, x, x, o).gradient.threshold[0];
  }
};

// Property 42.
TEST(ReferenceJumpRelu, WithThresholdZeroIsReluInForwardAndInItsGradients) {
  GoldenRun run = GoldenJumpRelu();
  run.p.threshold.assign(10, 0.0);
  const ReferenceResult jump = Evaluate(run);
  GoldenRun relu = GoldenRelu();
  relu.options.coefficient = 0;
  const ReferenceResult r = Evaluate(relu);
  EXPECT_EQ(jump.codes, r.codes);
  EXPECT_EQ(jump.main, r.main);
  EXPECT_EQ(jump.gradient.w_enc, r.gradient.w_enc);
  EXPECT_EQ(jump.gradient.b_enc, r.gradient.b_enc);
  EXPECT_EQ(jump.gradient.w_dec, r.gradient.w_dec);
  EXPECT_EQ(jump.gradient.b_dec, r.gradient.b_dec);
}

// Property 43.
TEST(ReferenceJumpRelu, ThresholdGradientIsTheSumOverSamplesInTheWindow) {
  GoldenRun run = GoldenJumpRelu();
  run.x = testing::Draw(41, 4 * 50, 0.5);
  run.y = run.x;
  const ReferenceResult r = Evaluate(run);
  const double eps = run.options.bandwidth, lambda = run.options.coefficient;
  for (std::size_t i = 0; i < 10; ++i) {
    const double theta = run.p.threshold[i];
    double wanted = 0;
    int inside = 0;
    for (std::size_t b = 0; b < 50; ++b) {
      const double z = r.pre_activations[10 * b + i];
      if (std::abs((z - theta) / eps) >= 0.5 || z <= 0) continue;
      ++inside;
      double improvement = 0;
      for (std::size_t j = 0; j < 4; ++j)
        improvement += run.p.w_dec[4 * i + j] * (run.x[4 * b + j] - r.x_hat[4 * b + j]);
      wanted += (2 * theta * improvement - lambda) / (50 * eps);
    }
    EXPECT_GT(inside, 0);
    EXPECT_NEAR(r.gradient.threshold[i], wanted, 1e-12);
  }
  run.options.bandwidth = 1e-9;
  EXPECT_EQ(Evaluate(run).gradient.threshold, std::vector<double>(10, 0.0));
}

// Property 44.
TEST(ReferenceJumpRelu, ExpectedThresholdGradientOnUniformDataIsTheClosedForm) {
  const double theta = 0.5, eps = 0.1, lambda = 0.2;
  std::vector<double> x(400000);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = (static_cast<double>(i) + 0.5) / static_cast<double>(x.size());
  EXPECT_NEAR(OneDimension(theta, eps, lambda).ThetaGradient(x),
              theta * theta - theta * eps / 4 - lambda, 1e-6);
}

// Property 45.
TEST(ReferenceJumpRelu, StochasticDescentOnThetaFindsTheRoot) {
  const double eps = 0.1;
  for (const double lambda : {0.1, 0.3}) {
    OneDimension one(0.9, eps, lambda);
    Random random(45);
    std::vector<double> x(64);
    double mean = 0;
    for (int step = 0; step < 6000; ++step) {
      for (double& v : x) v = random.Uniform();
      one.p.threshold[0] -= 0.02 / (1 + step / 500.0) * one.ThetaGradient(x);
      if (step >= 5000) mean += one.p.threshold[0] / 1000;
    }
    const double root = eps / 8 + std::sqrt(eps * eps / 64 + lambda);
    EXPECT_NEAR(mean, root, 1e-2);
    EXPECT_NEAR(root, std::sqrt(lambda), eps);
  }
}

// Property 46.
TEST(ReferenceJumpRelu, L0PenaltyReachesThresholdsOnly) {
  GoldenRun run = GoldenJumpRelu();
  const ReferenceResult on = Evaluate(run);
  run.options.coefficient = 0;
  const ReferenceResult off = Evaluate(run);
  EXPECT_GT(on.loss, off.loss + 0.1);
  EXPECT_GT(WorstGap(on.gradient.threshold, off.gradient.threshold), 0.1);
  for (const auto member : kReferenceMembers) {
    if (member == &ReferenceParameters::threshold) continue;
    EXPECT_EQ(on.gradient.*member, off.gradient.*member);
  }
}

// Property 48.
TEST(ReferenceJumpRelu, QuadraticPenaltyRestsAtItsTargetAndPullsFromBothSides) {
  GoldenRun run = GoldenJumpReluQuadratic();
  GoldenRun free = run;
  free.options.coefficient = 0;
  const std::vector<double> without = Evaluate(free).gradient.threshold;
  const double l0 = Evaluate(run).l0;
  const auto pull = [&](double target) {
    run.options.l0_target = target;
    const std::vector<double> with = Evaluate(run).gradient.threshold;
    double sum = 0;
    for (std::size_t i = 0; i < 10; ++i) sum += with[i] - without[i];
    return sum;
  };
  EXPECT_EQ(pull(l0), 0);
  EXPECT_LT(pull(l0 - 0.5), -1e-3);  // too many fire: thresholds go up
  EXPECT_GT(pull(l0 + 0.5), 1e-3);
}

// Property 49.
TEST(ReferenceJumpRelu, TanhPenaltyGoesFromWeightedL1ToL0) {
  GoldenRun run = GoldenJumpReluTanh();
  run.options.pre_act_coefficient = 0;
  run.options.tanh_scale = 1e6;
  const ReferenceResult steep = Evaluate(run);
  EXPECT_NEAR(steep.sparsity, run.options.coefficient * steep.l0, 1e-12);
  run.options.tanh_scale = 1e-6;
  const ReferenceResult flat = Evaluate(run);
  double l1 = 0;
  for (std::size_t b = 0; b < 6; ++b) {
    for (std::size_t i = 0; i < 10; ++i) {
      const double norm =
          std::sqrt(testing::Squares(Row(run.p.w_dec, static_cast<std::int64_t>(i), 4)));
      l1 += flat.codes[10 * b + i] * norm / 6;
    }
  }
  EXPECT_NEAR(flat.sparsity / (run.options.coefficient * 1e-6), l1, 1e-9);
}

TEST(ReferenceJumpRelu, PreActivationLossIsOnPreActivationsAndHasTrueDerivatives) {
  GoldenRun run = GoldenJumpReluTanh();
  run.options.bandwidth = 1e-9;  // nothing in the window: theta's derivative is the loss' own
  EXPECT_LT(WorstDifference(run, /*with_threshold=*/true), 1e-5);
  // Not theta for every silent latent, whatever its z: the further below, the more it costs.
  const ReferenceResult before = Evaluate(run);
  run.p.b_enc[4] -= 3;
  const ReferenceResult after = Evaluate(run);
  for (std::size_t b = 0; b < 6; ++b) ASSERT_EQ(after.codes[10 * b + 4], 0);
  EXPECT_GT(after.pre_act, before.pre_act + 0.01);
  // Latents above their threshold pay nothing.
  run.p.b_enc.assign(10, 50.0);
  EXPECT_EQ(Evaluate(run).pre_act, 0);
}

TEST(ReferenceJumpRelu, WindowLeavesOutPreActivationsThatAreNotPositive) {
  // theta < eps / 2: the window would reach below 0, where every silent latent lies.
  OneDimension one(0.02, 0.1, 0.5);
  EXPECT_EQ(one.ThetaGradient({0.0, -0.01, -0.02}), 0);
  EXPECT_LT(one.ThetaGradient({0.01, -0.01}), 0);
  const std::vector<double> x = {0.0, -0.01, 0.01, 0.05};
  EXPECT_EQ(ReferenceForwardBackward(one.p, x, x, one.o).window,
            (std::vector<bool>{false, false, true, true}));
}

TEST(ReferenceJumpRelu, APreActivationAtItsThresholdIsOff) {
  OneDimension one(0.5, 0.1, 0.2);
  const std::vector<double> x = {0.5, std::nextafter(0.5, 1.0)};
  const ReferenceResult r = ReferenceForwardBackward(one.p, x, x, one.o);
  EXPECT_EQ(r.codes[0], 0);
  EXPECT_EQ(r.codes[1], x[1]);
  EXPECT_EQ(r.l0, 0.5);
  EXPECT_NEAR(r.sparsity, 0.2 * 0.5, 1e-16);
}

TEST(ReferenceJumpRelu, ErrorGradientInsideTheWindowIsTakenWhereTheCodeIsOffToo) {
  // Just below theta: f = 0, x - x_hat = x, so raising theta would lose 2 theta x, minus lambda.
  OneDimension one(0.5, 0.1, 0.2);
  EXPECT_NEAR(one.ThetaGradient({0.48}), (2 * 0.5 * 0.48 - 0.2) / 0.1, 1e-12);
  EXPECT_NEAR(one.ThetaGradient({0.52}), -0.2 / 0.1, 1e-12);
}

TEST(ReferenceJumpRelu, FrequencyPenaltyIsOnLatentsAboveItsLimit) {
  OneDimension one(0.5, 0.1, 0);
  one.o.frequency_coefficient = 3;
  one.o.frequency_limit = 0.1;
  std::vector<double> x(20, 0.1);
  x[0] = 1;
  x[1] = 0.48;  // in the window, off: frequency 1/20 is below the limit
  const ReferenceResult rare = ReferenceForwardBackward(one.p, x, x, one.o);
  EXPECT_EQ(rare.frequency, 0);
  x[2] = x[3] = 1;  // 3/20
  const ReferenceResult often = ReferenceForwardBackward(one.p, x, x, one.o);
  EXPECT_NEAR(often.frequency, 3 * 0.05, 1e-14);
  EXPECT_NEAR(often.gradient.threshold[0] - rare.gradient.threshold[0], -3 / 0.1 / 20, 1e-12);
}

}  // namespace
}  // namespace sae::model
