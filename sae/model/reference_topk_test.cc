// TopK with AuxK and Multi-TopK.

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

GoldenRun PlainTopK(std::int64_t k) {
  GoldenRun run = GoldenBatchTopK();
  run.options.architecture = Architecture::kTopK;
  run.options.k = k;
  return run;
}

// The golden case with and without AuxK.
struct AuxPair {
  ReferenceResult with, without;
};
AuxPair WithAndWithoutAux(GoldenRun run) {
  AuxPair pair;
  pair.with = Evaluate(run);
  run.options.aux_k = 0;
  pair.without = Evaluate(run);
  return pair;
}

// Rows +-2 sqrt(moment) along each of four orthonormal axes: second moments `moments`.
struct PrincipalData {
  std::vector<double> x;
  std::vector<double> axes;  // [4, 4], unit rows
};
PrincipalData MakePrincipalData(const std::vector<double>& moments) {
  PrincipalData data;
  data.axes = {1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1};
  for (double& v : data.axes) v /= 2;
  for (std::size_t r = 0; r < 4; ++r) {
    for (const double sign : {1.0, -1.0}) {
      const double length = sign * std::sqrt(4 * moments[r]);
      for (std::size_t j = 0; j < 4; ++j) data.x.push_back(length * data.axes[4 * r + j]);
    }
  }
  return data;
}

// Property 26.
TEST(ReferenceTopK, AllLatentsAreReluWithoutPenaltyAndNoLinearRankBeatsPca) {
  const ReferenceResult topk = Evaluate(PlainTopK(10));
  GoldenRun relu = GoldenRelu();
  relu.options.coefficient = 0;
  EXPECT_EQ(topk.codes, Evaluate(relu).codes);
  EXPECT_EQ(topk.loss, Evaluate(relu).loss);
  EXPECT_LT(WorstGap(topk.gradient, Evaluate(relu).gradient), 1e-15);

  // Pairs of latents +v and -v are linear: f_+ - f_- = v . x. Two principal axes leave the other
  // two.
  const PrincipalData data = MakePrincipalData({4, 2, 1, 0.5});
  ReferenceParameters p{4, 4, {}, std::vector<double>(4, 0.0), {}, std::vector<double>(4, 0.0)};
  for (const double sign : {1.0, -1.0}) {
    for (std::size_t j = 0; j < 8; ++j) p.w_enc.push_back(sign * data.axes[j]);
  }
  p.w_dec = p.w_enc;
  ReferenceOptions o;
  o.k = 4;
  const ReferenceResult best = ReferenceForwardBackward(p, data.x, data.x, o);
  EXPECT_NEAR(best.loss, 1.5, 1e-12);
  EXPECT_LT(Squares(best.gradient.w_enc) + Squares(best.gradient.w_dec), 1e-24);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    ReferenceParameters q{2,
                          4,
                          testing::Draw(seed, 8),
                          {0, 0},
                          testing::Draw(seed + 1000, 8),
                          std::vector<double>(4, 0.0)};
    o.k = 2;
    EXPECT_GE(ReferenceForwardBackward(q, data.x, data.x, o).loss, 1.5);
  }
}

// Property 27.
TEST(ReferenceTopK, KeepsTheSmallerOfKAndThePositiveAndNoneGivesTheBias) {
  for (const std::int64_t k : {0, 1, 3, 7, 10}) {
    const GoldenRun run = PlainTopK(k);
    const ReferenceResult r = Evaluate(run);
    for (std::int64_t b = 0; b < 6; ++b) {
      std::int64_t kept = 0, positive = 0;
      for (std::size_t i = 0; i < 10; ++i) {
        kept += r.codes[static_cast<std::size_t>(b) * 10 + i] > 0;
        positive += r.pre_activations[static_cast<std::size_t>(b) * 10 + i] > 0;
      }
      EXPECT_EQ(kept, std::min(k, positive));
      if (k == 0) {
        EXPECT_EQ(Row(r.x_hat, b, 4), run.p.b_dec);
      }
    }
  }
}

// Property 28.
TEST(ReferenceTopK, SelectionDependsOnTheOrderAlone) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<double> row = testing::Draw(seed, 40);
    const auto maps = {+[](double v) { return std::exp(3 * v) - 5; },
                       +[](double v) { return v * v * v; }, +[](double v) { return v - 100; },
                       +[](double v) { return std::atan(v); }};
    for (const auto map : maps) {
      std::vector<double> mapped = row;
      for (double& v : mapped) v = map(v);
      // More than are positive too: selection is before the ReLU.
      for (const std::int64_t k : {1, 8, 30})
        EXPECT_EQ(ReferenceTopK(mapped, k), ReferenceTopK(row, k));
    }
  }
}

TEST(ReferenceTopK, TiesGoToTheLowerIndexAndAdmitNoMoreThanK) {
  const std::vector<double> row = {1, 2, 2, 2, 0};
  EXPECT_EQ(ReferenceTopK(row, 2), (std::vector<std::int64_t>{1, 2}));
  std::vector<double> many(100, 1.0);
  for (const std::size_t i : {20, 50, 80}) many[i] = 3;
  EXPECT_EQ(ReferenceTopK(many, 6), (std::vector<std::int64_t>{0, 1, 2, 20, 50, 80}));
  // All latents alike: exactly k of them fire.
  GoldenRun run = PlainTopK(3);
  for (std::size_t i = 1; i < 10; ++i) {
    for (std::size_t j = 0; j < 4; ++j) run.p.w_enc[4 * i + j] = run.p.w_enc[j];
    run.p.b_enc[i] = run.p.b_enc[0];
  }
  const ReferenceResult r = Evaluate(run);
  for (std::size_t b = 0; b < 6; ++b) {
    for (std::size_t i = 3; i < 10; ++i) EXPECT_EQ(r.codes[10 * b + i], 0);
  }
  EXPECT_GT(r.l0, 0);
}

// Property 30.
TEST(ReferenceAuxK, WithoutDeadLatentsOrVarianceItAddsNothingAndAliveEncodersGetNothing) {
  GoldenRun run = GoldenOpenAi();
  const AuxPair golden = WithAndWithoutAux(run);
  for (std::int64_t i = 0; i < 10; ++i) {
    if (run.options.dead[static_cast<std::size_t>(i)]) continue;
    EXPECT_EQ(Row(golden.with.gradient.w_enc, i, 4), Row(golden.without.gradient.w_enc, i, 4));
  }
  run.options.dead.assign(10, false);
  const ReferenceResult alive = Evaluate(run);
  EXPECT_EQ(alive.aux, 0);
  EXPECT_EQ(WorstGap(alive.gradient, golden.without.gradient), 0);
  // One token's residual is its own mean, so V = 0: a branch, not 0 / 0.
  run = GoldenOpenAi();
  run.x.resize(4);
  run.y.resize(4);
  const AuxPair constant = WithAndWithoutAux(run);
  EXPECT_EQ(constant.with.aux, 0);
  EXPECT_EQ(WorstGap(constant.with.gradient, constant.without.gradient), 0);
  for (const double v : constant.with.gradient.w_enc) EXPECT_TRUE(std::isfinite(v));
}

TEST(ReferenceAuxK, TrainsTheEncodersOfDeadLatents) {
  const GoldenRun run = GoldenOpenAi();
  const AuxPair golden = WithAndWithoutAux(run);
  for (std::int64_t i = 0; i < 10; ++i) {
    if (!run.options.dead[static_cast<std::size_t>(i)]) continue;
    double used = 0;
    for (std::size_t b = 0; b < 6; ++b)
      used += golden.with.aux_codes[10 * b + static_cast<std::size_t>(i)];
    if (used == 0) continue;
    EXPECT_GT(
        WorstGap(Row(golden.with.gradient.w_enc, i, 4), Row(golden.without.gradient.w_enc, i, 4)),
        1e-4);
  }
  // And the term is part of the gradient of the loss, not only of its value.
  EXPECT_GT(WorstGap(golden.with.gradient, golden.without.gradient), 1e-3);
}

TEST(ReferenceAuxK, ResidualIsDetachedFromAliveLatents) {
  const GoldenRun run = GoldenOpenAi();
  const AuxPair golden = WithAndWithoutAux(run);
  for (std::int64_t i = 0; i < 10; ++i) {
    if (run.options.dead[static_cast<std::size_t>(i)]) continue;
    EXPECT_EQ(Row(golden.with.gradient.w_dec, i, 4), Row(golden.without.gradient.w_dec, i, 4));
  }
}

TEST(ReferenceAuxK, ReconstructsTheResidualWithoutTheBias) {
  const GoldenRun run = GoldenOpenAi();
  const ReferenceResult r = Evaluate(run);
  // ea = W_dec a - (x - x_hat): b_dec is on both sides.
  double squares = 0;
  std::vector<double> residual(24);
  for (std::size_t b = 0; b < 6; ++b) {
    for (std::size_t j = 0; j < 4; ++j) {
      residual[4 * b + j] = run.x[4 * b + j] - r.x_hat[4 * b + j];
      double e = -residual[4 * b + j];
      for (std::size_t i = 0; i < 10; ++i) e += r.aux_codes[10 * b + i] * run.p.w_dec[4 * i + j];
      squares += e * e;
    }
  }
  const double v = SampleVariance(residual, 4) / 4;
  EXPECT_NEAR(r.aux, squares / 24 / v / 32, 1e-13);
}

// Property 31.
TEST(ReferenceTopK, MeanPredictorHasMainLossOneOnTheSample) {
  GoldenRun run = GoldenOpenAi();
  run.options.aux_k = 0;
  std::fill(run.p.b_enc.begin(), run.p.b_enc.end(), -100.0);
  for (std::size_t j = 0; j < 4; ++j) {
    run.p.b_dec[j] = 0;
    for (std::size_t b = 0; b < 6; ++b) run.p.b_dec[j] += run.x[4 * b + j] / 6;
  }
  const ReferenceResult r = Evaluate(run);
  EXPECT_EQ(r.l0, 0);
  EXPECT_NEAR(r.main, 1, 1e-14);
}

TEST(ReferenceTopK, MainLossIsNormalisedByAConstantNotByTheBatchOrTheToken) {
  GoldenRun run = GoldenOpenAi();
  run.options.aux_k = 0;
  double mean = 0;
  for (std::int64_t b = 0; b < 6; ++b) {
    GoldenRun one = run;
    one.x = one.y = Row(run.x, b, 4);
    mean += Evaluate(one).main / 6;
  }
  EXPECT_NEAR(Evaluate(run).main, mean, 1e-13);
}

// Property 32.
TEST(ReferenceTopK, MultiTopKOverAllLatentsIsTopKPlusTheWeightedDenseLoss) {
  GoldenRun run = PlainTopK(3);  // 4 k = 12 >= n
  const ReferenceResult topk = Evaluate(run);
  const ReferenceResult dense = Evaluate(PlainTopK(10));
  run.options.multi_topk = true;
  for (const double w : {1.0 / 8, 0.7}) {
    run.options.multi_weight = w;
    const ReferenceResult both = Evaluate(run);
    EXPECT_NEAR(both.loss, topk.loss + w * dense.loss, 1e-13);
    EXPECT_EQ(both.codes, topk.codes);
    for (const auto member : kReferenceMembers) {
      for (std::size_t i = 0; i < (run.p.*member).size(); ++i) {
        EXPECT_NEAR((both.gradient.*member)[i],
                    (topk.gradient.*member)[i] + w * (dense.gradient.*member)[i], 1e-13);
      }
    }
  }
}

TEST(ReferenceTopK, MultiTopKTrainsTheEncodersOfTheAddedLatents) {
  GoldenRun run = PlainTopK(1);
  const ReferenceResult without = Evaluate(run);
  run.options.multi_topk = true;
  const ReferenceResult with = Evaluate(run);
  for (std::int64_t b = 0; b < 6; ++b) {
    std::vector<double> top = Row(with.pre_activations, b, 10);
    for (double& v : top) v = std::max(v, 0.0);
    std::vector<double> wanted(10, 0.0);
    for (const std::int64_t i : ReferenceTopK(top, 4))
      wanted[static_cast<std::size_t>(i)] = top[static_cast<std::size_t>(i)];
    EXPECT_EQ(Row(with.multi_codes, b, 10), wanted);
  }
  int added = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    double main = 0, multi = 0;
    for (std::size_t b = 0; b < 6; ++b) {
      main += with.codes[10 * b + i];
      multi += with.multi_codes[10 * b + i];
    }
    if (main > 0 || multi == 0) continue;
    ++added;
    EXPECT_EQ(without.gradient.b_enc[i], 0);
    EXPECT_GT(std::abs(with.gradient.b_enc[i]), 1e-6);
    EXPECT_GT(Squares(Row(with.gradient.w_enc, static_cast<std::int64_t>(i), 4)), 1e-9);
  }
  EXPECT_GT(added, 0);
}

}  // namespace
}  // namespace sae::model
