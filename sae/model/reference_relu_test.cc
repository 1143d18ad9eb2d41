// ReLU with L1 in its forms, and Gated.

#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/metrics.h"
#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::WorstGap;

// Property 17.
TEST(ReferenceRelu, WithoutPenaltyIsThePlainAutoencoder) {
  GoldenRun run = GoldenRelu();
  run.options.coefficient = 0;
  const ReferenceResult r = Evaluate(run);
  const ReferenceParameters& p = run.p;
  // An autoencoder written down anew: hidden = max(0, A (x - c) + a), output = hidden B + c.
  double loss = 0;
  ReferenceParameters g = ZerosLike(p);
  for (std::size_t b = 0; b < 6; ++b) {
    double hidden[10], out[4], back[10] = {};
    for (std::size_t j = 0; j < 4; ++j) out[j] = p.b_dec[j];
    for (std::size_t i = 0; i < 10; ++i) {
      double a = p.b_enc[i];
      for (std::size_t j = 0; j < 4; ++j) a += p.w_enc[4 * i + j] * (run.x[4 * b + j] - p.b_dec[j]);
      hidden[i] = a > 0 ? a : 0;
      for (std::size_t j = 0; j < 4; ++j) out[j] += hidden[i] * p.w_dec[4 * i + j];
    }
    for (std::size_t j = 0; j < 4; ++j) {
      const double e = out[j] - run.x[4 * b + j];
      loss += e * e / 6;
      g.b_dec[j] += 2 * e / 6;
      for (std::size_t i = 0; i < 10; ++i) {
        g.w_dec[4 * i + j] += 2 * e / 6 * hidden[i];
        if (hidden[i] > 0) back[i] += 2 * e / 6 * p.w_dec[4 * i + j];
      }
    }
    for (std::size_t i = 0; i < 10; ++i) {
      g.b_enc[i] += back[i];
      for (std::size_t j = 0; j < 4; ++j) {
        g.w_enc[4 * i + j] += back[i] * (run.x[4 * b + j] - p.b_dec[j]);
        g.b_dec[j] -= back[i] * p.w_enc[4 * i + j];
      }
    }
  }
  EXPECT_NEAR(r.loss, loss, 1e-13);
  EXPECT_LT(WorstGap(r.gradient, g), 1e-13);
}

// Property 18.
TEST(ReferenceRelu, AprilLossIsInvariantUnderTheScaleOfALatentAndTheOldOneIsNot) {
  for (const double c : {0.5, 2.0}) {
    for (GoldenRun run : {GoldenApril(), GoldenRelu()}) {
      const ReferenceResult before = Evaluate(run);
      for (std::size_t j = 12; j < 16; ++j) {
        run.p.w_dec[j] *= c;
        run.p.w_enc[j] /= c;
      }
      run.p.b_enc[3] /= c;
      const ReferenceResult after = Evaluate(run);
      EXPECT_NEAR(after.main, before.main, 1e-13);
      if (run.options.penalty == Penalty::kL1Norm) {
        EXPECT_NEAR(after.loss, before.loss, 1e-13);
        EXPECT_NEAR(after.gradient.b_enc[3], before.gradient.b_enc[3] * c, 1e-13);
      } else {
        EXPECT_GT(std::abs(after.loss - before.loss), 1e-3);
      }
    }
  }
}

// Data a in U(0.5, 1.5) on one unit feature, by its midpoints.
std::vector<double> UniformStrengths() {
  std::vector<double> x(10000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.5 + (static_cast<double>(i) + 0.5) / 10000;
  return x;
}

ReferenceResult OneFeature(const std::vector<double>& x, double bias, double lambda) {
  return ReferenceReluL1({1, 1, {1}, {bias}, {1}, {0}}, x, lambda);
}

// Property 19.
TEST(ReferenceRelu, OneFeatureShrinksByHalfTheCoefficientAndGammaFollowsTheory) {
  // (a - f)^2 + lambda f has its minimum at f = a - lambda / 2, not below 0.
  for (const double lambda : {0.4, 4.0}) {
    const double a = 5;
    EXPECT_NEAR(OneFeature({a}, -lambda / 2, lambda).gradient.b_enc[0], 0, 1e-14);
    EXPECT_NEAR(OneFeature({a}, -lambda / 2, lambda).codes[0], a - lambda / 2, 1e-14);
  }
  EXPECT_GT(OneFeature({1.0}, -0.9, 4).gradient.b_enc[0], 0);  // down to f = 0
  const std::pair<double, double> theory[] = {{0.2, 0.9085}, {0.05, 0.9770}};
  for (const auto& [lambda, gamma] : theory) {
    const std::vector<double> x = UniformStrengths();
    const ReferenceResult r = OneFeature(x, -lambda / 2, lambda);
    EXPECT_NEAR(r.gradient.b_enc[0], 0, 1e-12);
    ReconstructionAccumulator acc(std::vector<double>{0.0});
    acc.Add<double>(x, r.x_hat);
    EXPECT_NEAR(acc.Result().gamma, gamma, 5e-5);
  }
}

// Property 20.
TEST(ReferenceRelu, LargerCoefficientNeverHasALargerOptimalNorm) {
  std::vector<double> x = UniformStrengths();
  x.resize(200);
  for (std::size_t i = 0; i < 200; ++i) x[i] = 0.5 + (static_cast<double>(i) + 0.5) / 200;
  double before = 1e9;
  for (const double lambda : {0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0}) {
    double best = 1e9, norm = 0;
    for (int step = -1600; step <= 200; ++step) {
      const ReferenceResult r = OneFeature(x, step / 1000.0, lambda);
      if (r.loss < best) {
        best = r.loss;
        norm = lambda > 0 ? r.sparsity / lambda : 1;
      }
    }
    EXPECT_LE(norm, before + 1e-12) << lambda;
    before = norm;
  }
  EXPECT_EQ(before, 0);  // the last coefficient silences the feature
}

TEST(ReferenceRelu, PowerOneIsTheL1Penalty) {
  GoldenRun run = GoldenRelu();
  const ReferenceResult l1 = Evaluate(run);
  run.options.penalty = Penalty::kLp;
  run.options.p = 1;
  EXPECT_NEAR(Evaluate(run).loss, l1.loss, 1e-14);
  EXPECT_LT(WorstGap(Evaluate(run).gradient, l1.gradient), 1e-12);
}

TEST(ReferenceRelu, L0CountsPositiveCodesOnly) {
  // A pre-activation of exactly 0 is off.
  const ReferenceResult r =
      ReferenceReluL1({2, 1, {1, 0}, {0, 0}, {1, 1}, {0}}, std::vector<double>{2.0, -1.0}, 0.1);
  EXPECT_EQ(r.l0, 0.5);
  EXPECT_EQ(r.gradient.b_enc[1], 0);
}

// Property 22.
TEST(ReferenceGated, WithEqualBiasesAndNoMagnitudeIsReluAndBothReconstructionsAgree) {
  GoldenRun run = GoldenGated();
  std::fill(run.p.r_mag.begin(), run.p.r_mag.end(), 0.0);
  run.p.b_mag = run.p.b_enc;
  const ReferenceResult gated = Evaluate(run);
  const ReferenceResult relu = Evaluate(GoldenRelu());
  EXPECT_LT(WorstGap(gated.codes, relu.codes), 1e-15);
  EXPECT_LT(WorstGap(gated.aux_codes, relu.codes), 1e-15);
  EXPECT_NEAR(gated.aux, gated.main, 1e-13);
  EXPECT_NEAR(gated.loss, relu.loss + relu.main, 1e-13);
}

// Property 23.
TEST(ReferenceGated, EqualsJumpReluWithTheThresholdOfItsBiases) {
  GoldenRun run = GoldenGated();
  run.p.r_mag = testing::Draw(21, 10, 0.5);
  run.p.b_mag = testing::Draw(22, 10, 0.3);
  run.p.b_enc = testing::Draw(23, 10, 0.3);
  run.x = testing::Draw(24, 4 * 200);
  run.y = run.x;
  const ReferenceResult gated = Evaluate(run);
  GoldenRun jump = run;
  jump.p = ReferenceGatedAsJumpRelu(run.p);
  jump.options = GoldenJumpRelu().options;
  const ReferenceResult r = Evaluate(jump);
  EXPECT_LT(WorstGap(r.codes, gated.codes), 1e-12);
  std::size_t opened_below_zero =
      0;  // a gate that is open while m < 0: why the threshold is not below 0
  for (std::size_t i = 0; i < gated.codes.size(); ++i) {
    EXPECT_EQ(r.codes[i] > 0, gated.codes[i] > 0);
    if (gated.aux_codes[i] > 0 && gated.codes[i] == 0) ++opened_below_zero;
  }
  EXPECT_GT(opened_below_zero, 0U);
  EXPECT_EQ(*std::min_element(jump.p.threshold.begin(), jump.p.threshold.end()), 0);
}

// Property 24.
TEST(ReferenceGated, AuxiliaryGivesNothingToTheDecoder) {
  GoldenRun run = GoldenGated();
  run.options.pre_bias = false;  // then b_dec only decodes
  const ReferenceResult with = Evaluate(run);
  run.options.gated_aux_weight = 0;
  const ReferenceResult without = Evaluate(run);
  EXPECT_GT(with.aux, 0.1);
  EXPECT_LT(WorstGap(with.gradient.w_dec, without.gradient.w_dec), 1e-16);
  EXPECT_LT(WorstGap(with.gradient.b_dec, without.gradient.b_dec), 1e-16);
  EXPECT_GT(WorstGap(with.gradient.w_enc, without.gradient.w_enc), 0.1);
  // With pre-bias b_dec is part of the encoder, and gets exactly that part.
  run = GoldenGated();
  const ReferenceResult encoded = Evaluate(run);
  run.options.gated_aux_weight = 0;
  const ReferenceResult alone = Evaluate(run);
  for (std::size_t j = 0; j < 4; ++j) {
    double wanted = 0;
    for (std::size_t i = 0; i < 10; ++i) {
      wanted -= (encoded.gradient.b_enc[i] - alone.gradient.b_enc[i]) * run.p.w_enc[4 * i + j];
    }
    EXPECT_NEAR(encoded.gradient.b_dec[j] - alone.gradient.b_dec[j], wanted, 1e-12);
  }
}

// Property 25.
TEST(ReferenceGated, ReconstructionAloneGivesTheGateNoGradient) {
  GoldenRun run = GoldenGated();
  run.options.coefficient = 0;
  run.options.gated_aux_weight = 0;
  const ReferenceResult r = Evaluate(run);
  EXPECT_EQ(r.gradient.b_enc, std::vector<double>(10, 0.0));
  EXPECT_GT(testing::Squares(r.gradient.b_mag), 1);
  EXPECT_GT(testing::Squares(r.gradient.w_enc), 1);
}

}  // namespace
}  // namespace sae::model
