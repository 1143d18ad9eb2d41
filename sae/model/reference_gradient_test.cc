// Analytic gradients against central differences and the symmetries that every loss has.

#include <cmath>
#include <map>
#include <numeric>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::KinkDistance;
using testing::WorstDifference;
using testing::WorstGap;

GoldenRun Named(GoldenRun run, const std::string& name) {
  run.name = name;
  return run;
}

// Random parameters of a transcoder from width 5 to width 3.
GoldenRun Wide(const GoldenRun& like, const std::string& name) {
  GoldenRun run = Named(like, name);
  const std::size_t n = 10, d = 5, out = 3;
  run.p.d = 5;
  run.p.d_out = 3;
  run.p.w_enc = testing::Draw(11, n * d, 0.5);
  run.p.w_dec = testing::Draw(12, n * out, 0.6);
  run.p.b_dec = testing::Draw(13, out, 0.1);
  run.p.w_skip = testing::Draw(14, out * d, 0.3);
  run.x = testing::Draw(15, 6 * d);
  run.y = testing::Draw(16, 6 * out);
  run.options.pre_bias = false;
  return run;
}

// The golden cases, and the options they leave out.
std::vector<GoldenRun> AllRuns() {
  std::vector<GoldenRun> runs = GoldenRuns();
  GoldenRun lp = Named(GoldenRelu(), "relu_lp");
  lp.options.penalty = Penalty::kLp;
  lp.options.p = 0.6;
  runs.push_back(lp);
  GoldenRun norm_fly = Named(GoldenApril(), "relu_l1_norm_on_the_fly");
  norm_fly.options.decoder = DecoderMode::kOnTheFly;
  runs.push_back(norm_fly);
  GoldenRun gated_fly = Named(GoldenGated(), "gated_on_the_fly_mean");
  gated_fly.p.w_dec = MakeGoldenCase().raw_w_dec;
  gated_fly.options.decoder = DecoderMode::kOnTheFly;
  gated_fly.options.loss = LossReduction::kMean;
  runs.push_back(gated_fly);
  GoldenRun multi = Named(GoldenOpenAi(), "multi_topk_aux");
  multi.options.k = 2;
  multi.options.multi_topk = true;
  runs.push_back(multi);
  GoldenRun batch = Named(GoldenBatchTopK(), "batchtopk_aux_without_pre_bias");
  batch.options.aux_k = 2;
  batch.options.dead = GoldenOpenAi().options.dead;
  batch.options.aux_scale = 0.02;
  batch.options.pre_bias = false;
  runs.push_back(batch);
  GoldenRun nested = Named(GoldenMatryoshka(), "matryoshka_aux_bias_term");
  nested.options.aux_k = 2;
  nested.options.dead = batch.options.dead;
  nested.options.aux_scale = 0.02;
  nested.options.prefix_weights = {0.5, 0.2, 1};
  nested.options.bias_weight = 0.25;
  runs.push_back(nested);
  GoldenRun nested_fly = Named(nested, "matryoshka_on_the_fly");
  nested_fly.options.decoder = DecoderMode::kOnTheFly;
  nested_fly.p.w_dec = MakeGoldenCase().raw_w_dec;
  runs.push_back(nested_fly);
  GoldenRun frequent = Named(GoldenJumpRelu(), "jumprelu_frequency");
  frequent.options.frequency_coefficient = 0.5;
  frequent.options.pre_bias = false;
  runs.push_back(frequent);
  GoldenRun tanh_fly = Named(GoldenJumpReluTanh(), "jumprelu_tanh_on_the_fly");
  tanh_fly.options.decoder = DecoderMode::kOnTheFly;
  runs.push_back(tanh_fly);
  for (const GoldenRun& like : {GoldenRelu(), GoldenApril(), GoldenGated(), multi, nested,
                                GoldenJumpRelu(), GoldenJumpReluTanh()})
    runs.push_back(Wide(like, "wide_" + like.name));
  return runs;
}

class ReferenceGradient : public ::testing::TestWithParam<GoldenRun> {};
INSTANTIATE_TEST_SUITE_P(Cases, ReferenceGradient, ::testing::ValuesIn(AllRuns()),
                         [](const auto& one) { return one.param.name; });

// Property 1.
TEST_P(ReferenceGradient, EqualsCentralDifferences) {
  ASSERT_GT(KinkDistance(GetParam()), 1e-4);
  EXPECT_LT(WorstDifference(GetParam()), 1e-5);
}

// Property 7.
TEST_P(ReferenceGradient, PermutedLatentsPermuteGradientsAndPermutedTokensKeepSums) {
  const GoldenRun& run = GetParam();
  const ReferenceResult before = Evaluate(run);
  // Latents: only inside a prefix, whose members are alike.
  const std::vector<std::int64_t> order = {2, 0, 1, 5, 3, 4, 9, 7, 6, 8};
  const auto permute = [&](const std::vector<double>& rows) {
    const std::size_t width = rows.size() / 10;
    std::vector<double> out;
    for (std::size_t i = 0; i < 10 && width > 0; ++i) {
      const auto from = rows.begin() + order[i] * static_cast<std::int64_t>(width);
      out.insert(out.end(), from, from + static_cast<std::int64_t>(width));
    }
    return out;
  };
  const auto permuted = [&](ReferenceParameters p) {
    for (const auto member : kReferenceMembers) {
      if (member != &ReferenceParameters::b_dec && member != &ReferenceParameters::w_skip)
        p.*member = permute(p.*member);
    }
    return p;
  };
  GoldenRun mixed = run;
  mixed.p = permuted(run.p);
  for (std::size_t i = 0; i < run.options.dead.size(); ++i)
    mixed.options.dead[i] = run.options.dead[static_cast<std::size_t>(order[i])];
  const ReferenceResult latents = Evaluate(mixed);
  EXPECT_NEAR(latents.loss, before.loss, 1e-12);
  EXPECT_LT(WorstGap(latents.gradient, permuted(before.gradient)), 1e-12);

  GoldenRun turned = run;
  for (auto [rows, width] : {std::pair{&turned.x, run.p.d}, std::pair{&turned.y, run.p.out()}}) {
    std::rotate(rows->begin(), rows->begin() + 2 * width, rows->end());
  }
  const ReferenceResult tokens = Evaluate(turned);
  EXPECT_NEAR(tokens.loss, before.loss, 1e-12);
  EXPECT_LT(WorstGap(tokens.gradient, before.gradient), 1e-12);
}

// `v` rows of 4 values, turned by one rotation of all four axes.
std::vector<double> Rotated(std::vector<double> v) {
  for (std::size_t i = 0; i + 3 < v.size(); i += 4) {
    for (const auto& [a, b, angle] :
         {std::tuple{0, 1, 0.7}, {1, 3, -1.1}, {2, 0, 0.4}, {3, 2, 2.0}}) {
      double& p = v[i + static_cast<std::size_t>(a)];
      double& q = v[i + static_cast<std::size_t>(b)];
      const double turned = std::cos(angle) * p - std::sin(angle) * q;
      q = std::sin(angle) * p + std::cos(angle) * q;
      p = turned;
    }
  }
  return v;
}

class ReferenceSymmetry : public ::testing::TestWithParam<GoldenRun> {};
INSTANTIATE_TEST_SUITE_P(Cases, ReferenceSymmetry, ::testing::ValuesIn(GoldenRuns()),
                         [](const auto& one) { return one.param.name; });

// Property 8.
TEST_P(ReferenceSymmetry, RotationLeavesLossPreActivationsAndL0) {
  GoldenRun run = GetParam();
  run.p.w_skip.clear();  // W_skip would have to be turned on both sides
  const ReferenceResult before = Evaluate(run);
  for (auto* rows : {&run.x, &run.y, &run.p.w_enc, &run.p.w_dec, &run.p.b_dec})
    *rows = Rotated(*rows);
  const ReferenceResult after = Evaluate(run);
  EXPECT_NEAR(after.loss, before.loss, 1e-12);
  EXPECT_EQ(after.l0, before.l0);
  EXPECT_LT(WorstGap(after.pre_activations, before.pre_activations), 1e-12);
  EXPECT_LT(WorstGap(after.gradient.w_enc, Rotated(before.gradient.w_enc)), 1e-12);
  EXPECT_LT(WorstGap(after.gradient.w_dec, Rotated(before.gradient.w_dec)), 1e-12);
}

// Property 9.
TEST_P(ReferenceSymmetry, ShiftedDataAndBiasLeaveLossAndPreActivationsWithPreBias) {
  GoldenRun run = GetParam();
  if (!run.options.pre_bias) {
    // Without pre-bias the encoder sees the shift: z must move.
    const ReferenceResult before = Evaluate(run);
    for (double& v : run.x) v += 0.25;
    EXPECT_GT(WorstGap(Evaluate(run).pre_activations, before.pre_activations), 0.01);
    return;
  }
  const ReferenceResult before = Evaluate(run);
  for (auto* rows : {&run.x, &run.y, &run.p.b_dec}) {
    for (double& v : *rows) v += 0.25;
  }
  const ReferenceResult after = Evaluate(run);
  EXPECT_NEAR(after.loss, before.loss, 1e-12);
  EXPECT_LT(WorstGap(after.pre_activations, before.pre_activations), 1e-13);
}

// Property 14.
TEST(ReferenceBatch, MicroBatchesAddUpToOneBatchWhereNoTermIsNormalisedByTheBatch) {
  // Each half is a batch of its own; the gradient of the whole is their mean.
  const auto halves = [](const GoldenRun& run) {
    ReferenceParameters mean = ZerosLike(run.p);
    for (const std::size_t half : {0, 1}) {
      const auto x = std::span(run.x).subspan(half * 12, 12);
      const auto y = std::span(run.y).subspan(half * 12, 12);
      const ReferenceResult r = ReferenceForwardBackward(run.p, x, y, run.options);
      for (const auto member : kReferenceMembers) {
        for (std::size_t i = 0; i < (mean.*member).size(); ++i)
          (mean.*member)[i] += (r.gradient.*member)[i] / 2;
      }
    }
    return WorstGap(mean, Evaluate(run).gradient);
  };
  for (const GoldenRun& run : {GoldenRelu(), GoldenApril(), GoldenGated(), GoldenJumpRelu(),
                               GoldenJumpReluTanh(), GoldenOnTheFly()})
    EXPECT_LT(halves(run), 1e-13) << run.name;
  GoldenRun topk = GoldenOpenAi();
  topk.options.aux_k = 0;
  EXPECT_LT(halves(topk), 1e-13);
  // The exceptions: AuxK's V, the batch's FVU, selection over the batch, a penalty on mean L0.
  for (const GoldenRun& run : {GoldenOpenAi(), GoldenSkipTranscoder(), GoldenBatchTopK(),
                               GoldenMatryoshka(), GoldenJumpReluQuadratic()})
    EXPECT_GT(halves(run), 1e-6) << run.name;
}

// Property 3.
TEST(ReferenceDecoder, OnTheFlyGradientIsOrthogonalAndScaleOfVIsFree) {
  GoldenRun run = GoldenOnTheFly();
  const ReferenceResult before = Evaluate(run);
  for (std::int64_t i = 0; i < 10; ++i) {
    const std::vector<double> v = testing::Row(run.p.w_dec, i, 4);
    const std::vector<double> g = testing::Row(before.gradient.w_dec, i, 4);
    EXPECT_LT(std::abs(testing::Dot(v, g)),
              1e-12 * std::sqrt(testing::Squares(v) * testing::Squares(g)) + 1e-18);
  }
  for (std::size_t i = 0; i < 40; ++i) run.p.w_dec[i] *= i < 4 ? 7.0 : 0.3;
  const ReferenceResult scaled = Evaluate(run);
  EXPECT_NEAR(scaled.loss, before.loss, 1e-13);
  // dL/dv scales by the inverse.
  for (std::size_t i = 0; i < 40; ++i)
    EXPECT_NEAR(scaled.gradient.w_dec[i] * (i < 4 ? 7.0 : 0.3), before.gradient.w_dec[i], 1e-12);
}

}  // namespace
}  // namespace sae::model
