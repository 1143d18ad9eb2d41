// Folding the input scale and decoder norms into the parameters.

#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::WorstGap;

// Latents chosen one by one; decoder rows of any norm.
std::vector<GoldenRun> Pointwise() {
  std::vector<GoldenRun> runs = {GoldenRelu(), GoldenApril(), GoldenGated(), GoldenJumpRelu()};
  for (GoldenRun& run : runs) {
    run.p.w_dec = MakeGoldenCase().raw_w_dec;
    run.options.decoder = DecoderMode::kFree;
  }
  return runs;
}

GoldenRun RawTopK() {
  GoldenRun run = GoldenBatchTopK();
  run.options.architecture = Architecture::kTopK;
  run.p.w_dec = MakeGoldenCase().raw_w_dec;
  return run;
}

std::vector<double> Times(std::vector<double> v, double factor) {
  for (double& x : v) x *= factor;
  return v;
}

// Property 10.
TEST(ReferenceFold, KeepsReconstructionsExceptOfTopKUnlessItSelectsByNorm) {
  for (const GoldenRun& run : Pointwise()) {
    GoldenRun folded = run;
    folded.p = ReferenceFoldDecoderNorms(run.p);
    EXPECT_LT(WorstGap(Evaluate(folded).x_hat, Evaluate(run).x_hat), 1e-13) << run.name;
    EXPECT_EQ(Evaluate(folded).l0, Evaluate(run).l0) << run.name;
    for (std::int64_t i = 0; i < 10; ++i)
      EXPECT_NEAR(testing::Squares(testing::Row(folded.p.w_dec, i, 4)), 1, 1e-15);
  }
  const GoldenRun topk = RawTopK();
  GoldenRun folded = topk;
  folded.p = ReferenceFoldDecoderNorms(topk.p);
  const ReferenceResult before = Evaluate(topk), after = Evaluate(folded);
  EXPECT_GT(WorstGap(after.x_hat, before.x_hat), 1e-2);  // another set
  // What the folded one selects is what z_i N_i ranks first.
  for (std::int64_t b = 0; b < 6; ++b) {
    std::vector<double> ranked = testing::Row(before.pre_activations, b, 10);
    for (std::int64_t i = 0; i < 10; ++i) {
      ranked[static_cast<std::size_t>(i)] *=
          std::sqrt(testing::Squares(testing::Row(topk.p.w_dec, i, 4)));
    }
    std::vector<std::int64_t> selected, wanted;
    for (std::int64_t i = 0; i < 10; ++i) {
      if (after.codes[static_cast<std::size_t>(10 * b + i)] > 0) selected.push_back(i);
    }
    for (const std::int64_t i : ReferenceTopK(ranked, 3)) {
      if (ranked[static_cast<std::size_t>(i)] > 0) wanted.push_back(i);
    }
    EXPECT_EQ(selected, wanted);
  }
}

// Property 10.
TEST(ReferenceFold, InputScaleGivesTheSameSaeInRawUnits) {
  constexpr double kScale = 7.5;
  std::vector<GoldenRun> runs = Pointwise();
  runs.push_back(RawTopK());
  runs.push_back(GoldenBatchTopK());
  runs.push_back(GoldenSkipTranscoder());
  for (const GoldenRun& run : runs) {
    GoldenRun raw = run;
    raw.p = ReferenceFoldInputScale(run.p, kScale);
    raw.x = Times(run.x, kScale);
    raw.y = Times(run.y, kScale);
    const ReferenceResult scaled = Evaluate(run), r = Evaluate(raw);
    EXPECT_LT(WorstGap(r.x_hat, Times(scaled.x_hat, kScale)), 1e-12) << run.name;
    EXPECT_LT(WorstGap(r.codes, Times(scaled.codes, kScale)), 1e-12) << run.name;
  }
}

TEST(ReferenceFold, LeavesAZeroRowAlone) {
  GoldenRun run = GoldenApril();
  std::fill(run.p.w_dec.begin(), run.p.w_dec.begin() + 4, 0.0);
  const ReferenceParameters folded = ReferenceFoldDecoderNorms(run.p);
  EXPECT_EQ(testing::Row(folded.w_enc, 0, 4), testing::Row(run.p.w_enc, 0, 4));
  EXPECT_EQ(folded.w_dec[0], 0);
}

}  // namespace
}  // namespace sae::model
