// `reduction: fixed`: the same bits at every number of ranks that divides 16, whole runs and
// resumes at another number, every architecture, float32.
#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::ExpectSameBits;
using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

constexpr std::int64_t kSteps = 24;

class EngineFixedReduction : public ::testing::TestWithParam<RunVariant> {
 protected:
  RunRequest Request(std::int64_t ranks) const {
    RunRequest r;
    r.config = testing::ConfigOf(GetParam(), ranks);
    r.config.train.reduction = "fixed";
    r.d_out = GetParam().d_out;
    r.batches = testing::BatchesOf(r.config, r.d_out, kSteps);
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(All, EngineFixedReduction, ::testing::ValuesIn(testing::AllVariants()),
                         testing::NameOf);

// Property 12: a sharded run is the run of one device, to the bit.
TEST_P(EngineFixedReduction, AnyNumberOfRanksGivesTheSameBits) {
  RunRequest r = Request(1);
  r.selections = true;
  const RunOutcome one = testing::Run<float>(r);
  EXPECT_LT(one.losses.back(), one.losses.front());
  for (const std::int64_t ranks : {2, 4, 8, 16}) {
    r = Request(ranks);
    r.selections = true;
    const RunOutcome many = testing::Run<float>(r);
    SCOPED_TRACE(ranks);
    ExpectSameBits(one.end, many.end);
    EXPECT_EQ(one.selections, many.selections);
    EXPECT_EQ(one.l0, many.l0);
    // The metric adds float64 sums of ranks; it reaches no parameter.
    for (std::size_t t = 0; t < one.losses.size(); ++t)
      EXPECT_NEAR(many.losses[t] / one.losses[t], 1, 1e-12) << t;
  }
}

// Properties 12 and 16.
TEST_P(EngineFixedReduction, ResumeAtAnotherNumberOfRanksGoesOnBitForBit) {
  RunRequest r = Request(2);
  r.save_before = {13};
  const RunOutcome whole = testing::Run<float>(r);
  for (const std::int64_t ranks : {1, 8}) {
    RunRequest resumed = Request(ranks);
    resumed.start = &whole.before.at(13);
    resumed.first = 13;
    SCOPED_TRACE(ranks);
    ExpectSameBits(whole.end, testing::Run<float>(resumed).end);
  }
}

}  // namespace
}  // namespace sae::train
