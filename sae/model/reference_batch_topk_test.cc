// BatchTopK and Matryoshka.

#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::Row;
using testing::WorstGap;

std::int64_t CountPositive(const std::vector<double>& codes) {
  return std::count_if(codes.begin(), codes.end(), [](double f) { return f > 0; });
}

// Property 36.
TEST(ReferenceBatchTopK, OfOneTokenIsTopK) {
  for (std::int64_t b = 0; b < 6; ++b) {
    GoldenRun run = GoldenBatchTopK();
    run.x = run.y = Row(run.x, b, 4);
    const ReferenceResult batch = Evaluate(run);
    run.options.architecture = Architecture::kTopK;
    const ReferenceResult topk = Evaluate(run);
    EXPECT_EQ(batch.codes, topk.codes);
    EXPECT_EQ(batch.loss, topk.loss);
    EXPECT_EQ(WorstGap(batch.gradient, topk.gradient), 0);
  }
}

// Property 37.
TEST(ReferenceBatchTopK, KeepsExactlyKTimesBatchWhereSoManyArePositive) {
  for (const std::int64_t k : {0, 1, 2, 3, 4, 5, 8}) {
    GoldenRun run = GoldenBatchTopK();
    run.options.k = k;
    const ReferenceResult r = Evaluate(run);
    const std::int64_t positive = CountPositive(r.pre_activations);
    EXPECT_EQ(CountPositive(r.codes), std::min(6 * k, positive));
    if (6 * k <= positive) {
      EXPECT_EQ(r.l0, static_cast<double>(k));
    }
  }
}

// Property 38.
TEST(ReferenceBatchTopK, IdenticalTokensKeepKEach) {
  GoldenRun run = GoldenBatchTopK();
  for (std::size_t i = 4; i < 24; ++i) run.x[i] = run.x[i - 4];
  run.y = run.x;
  const ReferenceResult r = Evaluate(run);
  ASSERT_GE(CountPositive(Row(r.pre_activations, 0, 10)), 3);
  for (std::int64_t b = 0; b < 6; ++b) {
    EXPECT_EQ(Row(r.codes, b, 10), Row(r.codes, 0, 10));
    EXPECT_EQ(CountPositive(Row(r.codes, b, 10)), 3);
  }
}

TEST(ReferenceBatchTopK, TiesAtTheCutGoToTheLowerTokenThenLatent) {
  // Every code is 1: the first k B in the order of (token, latent) stay.
  ReferenceParameters p{3, 1, {1, 1, 1}, {0, 0, 0}, {1, 1, 1}, {0}};
  const std::vector<double> x = {1, 1, 1};
  ReferenceOptions o;
  o.architecture = Architecture::kBatchTopK;
  o.k = 1;
  EXPECT_EQ(ReferenceForwardBackward(p, x, x, o).codes,
            (std::vector<double>{1, 1, 1, 0, 0, 0, 0, 0, 0}));
}

// Property 39.
TEST(ReferenceBatchTopK, ThresholdJustBelowTheLeastKeptValueGivesTheTrainingCodes) {
  GoldenRun run = GoldenBatchTopK();
  run.x = testing::Draw(31, 4 * 64);
  run.y = run.x;
  const ReferenceResult training = Evaluate(run);
  ASSERT_EQ(CountPositive(training.codes), 3 * 64);
  GoldenRun inference = run;
  inference.options = GoldenJumpRelu().options;
  inference.p.threshold.assign(10, std::nextafter(training.min_kept, 0.0));
  EXPECT_EQ(Evaluate(inference).codes, training.codes);
  // At the value itself that one code is off.
  inference.p.threshold.assign(10, training.min_kept);
  EXPECT_EQ(CountPositive(Evaluate(inference).codes), 3 * 64 - 1);
}

// Property 40.
TEST(ReferenceMatryoshka, OneGroupIsBatchTopKAndTheLastGroupIgnoresEarlierWeights) {
  GoldenRun run = GoldenMatryoshka();
  run.options.prefixes = {10};
  run.options.prefix_weights = {1};
  const ReferenceResult one = Evaluate(run);
  const ReferenceResult batch = Evaluate(GoldenBatchTopK());
  EXPECT_EQ(one.codes, batch.codes);
  EXPECT_EQ(one.loss, batch.loss);
  EXPECT_EQ(WorstGap(one.gradient, batch.gradient), 0);

  run = GoldenMatryoshka();
  const ReferenceResult before = Evaluate(run);
  run.options.prefix_weights[0] = 5;
  run.options.prefix_weights[1] = 0.01;
  const ReferenceResult after = Evaluate(run);
  for (std::int64_t i = 0; i < 10; ++i) {
    const double moved =
        WorstGap(Row(after.gradient.w_dec, i, 4), Row(before.gradient.w_dec, i, 4)) +
        WorstGap(Row(after.gradient.w_enc, i, 4), Row(before.gradient.w_enc, i, 4));
    if (i >= 6) {
      EXPECT_EQ(moved, 0);
    } else if (testing::Squares(Row(before.gradient.w_dec, i, 4)) > 0) {
      EXPECT_GT(moved, 1e-3);
    }
  }
}

// Property 41.
TEST(ReferenceMatryoshka, TruncatedPrefixesEqualTheFusedSums) {
  const GoldenRun run = GoldenMatryoshka();
  const ReferenceResult r = Evaluate(run);
  const std::vector<std::int64_t>& ends = run.options.prefixes;
  // Forward: one pass over latents, the error read at each prefix. Backward: suffix sums of G.
  std::vector<double> x_hat(24), error(3 * 24), suffix(3 * 24), w_dec(40), b_dec(4);
  for (std::size_t i = 0; i < 24; ++i) x_hat[i] = run.p.b_dec[i % 4];
  std::size_t latent = 0;
  for (std::size_t g = 0; g < 3; ++g) {
    double loss = 0;
    for (; latent < static_cast<std::size_t>(ends[g]); ++latent) {
      for (std::size_t i = 0; i < 24; ++i)
        x_hat[i] += r.codes[10 * (i / 4) + latent] * run.p.w_dec[4 * latent + i % 4];
    }
    for (std::size_t i = 0; i < 24; ++i) {
      error[24 * g + i] = x_hat[i] - run.x[i];
      loss += error[24 * g + i] * error[24 * g + i] / 6;
    }
    EXPECT_NEAR(r.prefix_losses[g], loss, 1e-13);
  }
  for (std::size_t g = 3; g-- > 0;) {
    for (std::size_t i = 0; i < 24; ++i) {
      const double later = g < 2 ? suffix[24 * (g + 1) + i] : 0;
      suffix[24 * g + i] = later + 2 * run.options.prefix_weights[g] * error[24 * g + i] / 6;
    }
  }
  for (std::size_t i = 0; i < 24; ++i) b_dec[i % 4] += suffix[i];
  for (std::size_t l = 0; l < 10; ++l) {
    const std::size_t g = l < 3 ? 0 : l < 6 ? 1 : 2;
    for (std::size_t b = 0; b < 6; ++b) {
      if (r.codes[10 * b + l] == 0) continue;
      double u = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        w_dec[4 * l + j] += r.codes[10 * b + l] * suffix[24 * g + 4 * b + j];
        u += run.p.w_dec[4 * l + j] * suffix[24 * g + 4 * b + j];
      }
      for (std::size_t j = 0; j < 4; ++j) b_dec[j] -= u * run.p.w_enc[4 * l + j];
    }
  }
  EXPECT_LT(WorstGap(r.gradient.w_dec, w_dec), 1e-13);
  EXPECT_LT(WorstGap(r.gradient.b_dec, b_dec), 1e-13);
}

TEST(ReferenceMatryoshka, WeightsOfTheMeanAreOneOverTheGroupsNotItsSquare) {
  config::TrialConfig c;
  c.sae.architecture = "matryoshka";
  c.sae.latents = 10;
  c.sae.k = 3;
  c.sae.prefixes = "3,6,10";
  const Options mean = OptionsOf(config::Resolve(c, 4));
  EXPECT_EQ(mean.prefix_weights, std::vector<double>(3, 1.0 / 3));
  GoldenRun run = GoldenMatryoshka();
  run.options.prefixes = mean.prefixes;
  run.options.prefix_weights = mean.prefix_weights;
  const ReferenceResult r = Evaluate(run);
  EXPECT_NEAR(r.main, (r.prefix_losses[0] + r.prefix_losses[1] + r.prefix_losses[2]) / 3, 1e-13);
  EXPECT_NEAR(r.main, run.loss, 1e-10);
}

TEST(ReferenceMatryoshka, BiasTermIsAPrefixWithoutLatents) {
  GoldenRun run = GoldenMatryoshka();
  const ReferenceResult before = Evaluate(run);
  run.options.bias_weight = 0.4;
  const ReferenceResult after = Evaluate(run);
  double loss = 0;
  for (std::size_t i = 0; i < 24; ++i) {
    const double e = run.p.b_dec[i % 4] - run.x[i];
    loss += e * e / 6;
  }
  EXPECT_NEAR(after.loss, before.loss + 0.4 * loss, 1e-13);
  EXPECT_EQ(after.gradient.w_dec, before.gradient.w_dec);
  EXPECT_GT(WorstGap(after.gradient.b_dec, before.gradient.b_dec), 1e-3);
}

}  // namespace
}  // namespace sae::model
