#include "sae/model/reference.h"

#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/golden_runs.h"
#include "sae/model/metrics.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::Squares;

constexpr double kGolden = 1e-9;

void ExpectRelative(double value, double wanted, double tolerance) {
  EXPECT_NEAR(value, wanted, tolerance * std::abs(wanted));
}

TEST(Golden, DrawsTheInputs) {
  const GoldenCase g = MakeGoldenCase();
  EXPECT_DOUBLE_EQ(g.x[0], .46133304908124795);
  EXPECT_DOUBLE_EQ(g.p.w_enc[0], -.10748195392090376);
  EXPECT_DOUBLE_EQ(g.raw_w_dec[0], -.3464369341190279);
  EXPECT_DOUBLE_EQ(g.p.w_dec[0], -.3502055194268776);
  EXPECT_DOUBLE_EQ(g.p.b_dec[0], -.034375315302788166);
  EXPECT_DOUBLE_EQ(g.p.threshold[0], .2036787718892499);
  EXPECT_DOUBLE_EQ(g.y[0], -.16663156198384654);
}

class GoldenVectors : public ::testing::TestWithParam<GoldenRun> {};
INSTANTIATE_TEST_SUITE_P(Cases, GoldenVectors, ::testing::ValuesIn(GoldenRuns()),
                         [](const auto& one) { return one.param.name; });

TEST_P(GoldenVectors, LossAndGradientsMatch) {
  const GoldenRun& run = GetParam();
  const ReferenceResult r = Evaluate(run);
  ExpectRelative(r.loss, run.loss, kGolden);
  ExpectRelative(Squares(r.gradient.w_enc), run.w_enc, kGolden);
  ExpectRelative(Squares(r.gradient.b_enc), run.b_enc, kGolden);
  ExpectRelative(Squares(r.gradient.w_dec), run.w_dec, kGolden);
  ExpectRelative(Squares(r.gradient.b_dec), run.b_dec, kGolden);
  ExpectRelative(Squares(r.gradient.r_mag), run.r_mag, kGolden);
  ExpectRelative(Squares(r.gradient.b_mag), run.b_mag, kGolden);
  ExpectRelative(Squares(r.gradient.threshold), run.threshold, kGolden);
  ExpectRelative(Squares(r.gradient.w_skip), run.w_skip, kGolden);
}

TEST(Golden, PartsOfTheCasesMatch) {
  const ReferenceResult openai = Evaluate(GoldenOpenAi());
  ExpectRelative(openai.main, 2.990069728838693, 1e-12);
  ExpectRelative(openai.aux, .1380912542386196, 1e-12);
  ExpectRelative(Evaluate(GoldenBatchTopK()).min_kept, .22173833907559604, 1e-12);
  EXPECT_EQ(Evaluate(GoldenJumpRelu()).l0, 2.5);
  ExpectRelative(Evaluate(GoldenRelu()).l0, 4.333333333333333, 1e-12);
}

TEST(Golden, MetricsOfReluCodesMatch) {
  const GoldenRun run = GoldenRelu();
  const ReferenceResult r = Evaluate(run);
  // The golden gamma is not centred: centre 0.
  ReconstructionAccumulator acc(std::vector<double>(4, 0.0));
  acc.Add<double>(run.x, r.x_hat);
  const ReconstructionMetrics m = acc.Result();
  ExpectRelative(m.squared_error / 4, .868411102866522, 1e-12);
  ExpectRelative(m.fvu, 3.678517294434429, 1e-12);
  ExpectRelative(m.explained_variance_centred, -1.2703643624856595, 1e-12);
  ExpectRelative(m.gamma, 21.752131756448005, 1e-12);
  ExpectRelative(m.cosine, .17824920453797846, 1e-12);
  ExpectRelative(m.l2_ratio, .9925220987762828, 1e-12);
}

TEST(Reference, OldNamesAreTheSameLosses) {
  const GoldenRun relu = GoldenRelu();
  EXPECT_EQ(ReferenceReluL1(relu.p, relu.x, 0.3).loss, Evaluate(relu).loss);
  const GoldenRun topk = GoldenOpenAi();
  ReferenceTopKOptions o;
  o.k = 3;
  o.aux_k = 2;
  o.dead = topk.options.dead;
  o.main_scale = 1 / (6 * topk.options.sample_variance);
  o.aux_scale = topk.options.aux_scale;
  const ReferenceResult old = ReferenceTopKAux(topk.p, topk.x, o);
  EXPECT_DOUBLE_EQ(old.loss, Evaluate(topk).loss);
  EXPECT_LT(testing::WorstGap(old.gradient, Evaluate(topk).gradient), 1e-14);
}

TEST(Reference, ReductionsAreMultiplesOfTheSumOfSquares) {
  GoldenRun run = GoldenOpenAi();
  run.options.aux_k = 0;
  const double squares = Evaluate(run).main * 6 * run.options.sample_variance;
  const std::pair<LossReduction, double> wanted[] = {
      {LossReduction::kSum, squares / 6},
      {LossReduction::kMean, squares / 24},
      // On the sample itself the constant of openai and the batch's own variance agree.
      {LossReduction::kFvu, squares / (6 * run.options.sample_variance)}};
  for (const auto& [reduction, loss] : wanted) {
    run.options.loss = reduction;
    EXPECT_NEAR(Evaluate(run).main, loss, 1e-12);
  }
  run.options.rho = 0.125;
  EXPECT_NEAR(Evaluate(run).main, squares / 8, 1e-12);
}

TEST(Reference, AuxScaleMakesEveryReductionAConstantTimesOpenAis) {
  const GoldenRun openai = GoldenOpenAi();
  const ReferenceResult theirs = Evaluate(openai);
  for (const LossReduction reduction : {LossReduction::kSum, LossReduction::kMean}) {
    GoldenRun run = openai;
    run.options.loss = reduction;
    run.options.aux_scale =
        ReferenceAuxScale(1.0 / 32, reduction, 6, 4, openai.options.sample_variance);
    const ReferenceResult r = Evaluate(run);
    EXPECT_NEAR(r.aux / r.main, theirs.aux / theirs.main, 1e-13);
    const double factor = r.loss / theirs.loss;
    for (std::size_t i = 0; i < 40; ++i)
      EXPECT_NEAR(r.gradient.w_enc[i], factor * theirs.gradient.w_enc[i], 1e-13);
  }
}

TEST(Reference, OptionsFollowAResolvedConfig) {
  config::TrialConfig c;
  c.sae.architecture = "matryoshka";
  c.sae.latents = 64;
  c.sae.k = 4;
  c.sae.prefix_weights = "mean_with_bias";
  c.sae.prefixes = "8,32";
  c.sae.loss = "fvu";
  c.sae.decoder = "on_the_fly";
  ReferenceOptions o = ReferenceOptionsOf(config::Resolve(c, 16));
  EXPECT_EQ(o.architecture, Architecture::kMatryoshka);
  EXPECT_EQ(o.prefixes, (std::vector<std::int64_t>{8, 32, 64}));
  EXPECT_EQ(o.prefix_weights, std::vector<double>(3, 0.25));
  EXPECT_EQ(o.bias_weight, 0.25);
  EXPECT_EQ(o.loss, LossReduction::kFvu);
  EXPECT_EQ(o.decoder, DecoderMode::kOnTheFly);
  EXPECT_EQ(o.k, 4);
  EXPECT_GT(o.aux_k, 0);

  c = {};
  c.sae.architecture = "jumprelu";
  c.sae.latents = 64;
  c.sae.penalty = "tanh";
  c.sae.l0_coefficient = 0.5;
  c.sae.pre_act_coefficient = 1e-3;
  c.sae.bandwidth = 0.2;
  o = ReferenceOptionsOf(config::Resolve(c, 16));
  EXPECT_EQ(o.penalty, Penalty::kTanh);
  EXPECT_EQ(o.coefficient, 0.5);
  EXPECT_EQ(o.pre_act_coefficient, 1e-3);
  EXPECT_EQ(o.bandwidth, 0.2);
  EXPECT_FALSE(o.pre_bias);
  EXPECT_EQ(o.k, 0);
}

}  // namespace
}  // namespace sae::model
