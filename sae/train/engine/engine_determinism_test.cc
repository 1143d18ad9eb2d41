// The same bits from the same seed, at any number of threads, and across a resume: every
// architecture, float32.
#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::ExpectSameBits;
using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

class EngineDeterminism : public ::testing::TestWithParam<RunVariant> {
 protected:
  RunRequest Request(std::int64_t steps) const {
    RunRequest r;
    r.config = testing::ConfigOf(GetParam());
    r.d_out = GetParam().d_out;
    r.batches = testing::BatchesOf(r.config, r.d_out, steps);
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(All, EngineDeterminism, ::testing::ValuesIn(testing::AllVariants()),
                         testing::NameOf);

// Property 15.
TEST_P(EngineDeterminism, SameSeedGivesTheSameBitsAfterAHundredSteps) {
  RunRequest r = Request(100);
  const RunOutcome first = testing::Run<float>(r), second = testing::Run<float>(r);
  ExpectSameBits(first.end, second.end);
  EXPECT_EQ(first.losses, second.losses);
  EXPECT_LT(first.losses.back(), first.losses.front());  // the bits are of a run that learns
  r.config.train.seed = 1;
  EXPECT_NE(testing::Run<float>(r).end.tensors.at("W_dec"), first.end.tensors.at("W_dec"));
}

TEST_P(EngineDeterminism, ThreadCountsGiveTheSameBits) {
  RunRequest r = Request(30);
  const RunOutcome one = testing::Run<float>(r);
  for (const int threads : {2, 3}) {
    r.threads = threads;
    const RunOutcome more = testing::Run<float>(r);
    ExpectSameBits(one.end, more.end);
    EXPECT_EQ(one.losses, more.losses);
    EXPECT_EQ(one.heldout, more.heldout);
  }
}

// Property 16. Cut before and after the first resampling (step 12), inside and after the warm-ups.
TEST_P(EngineDeterminism, ResumedRunEqualsTheUninterruptedOne) {
  RunRequest r = Request(60);
  r.save_before = {3, 11, 37};
  const RunOutcome whole = testing::Run<float>(r);
  // Looking at the state in mid-run, which flushes lazy rows, changes nothing.
  RunRequest quiet = r;
  quiet.save_before.clear();
  ExpectSameBits(whole.end, testing::Run<float>(quiet).end);
  for (const auto& [step, state] : whole.before) {
    quiet.start = &state;
    quiet.first = static_cast<std::size_t>(step);
    quiet.threads = 2;
    const RunOutcome resumed = testing::Run<float>(quiet);
    ExpectSameBits(whole.end, resumed.end);
    EXPECT_EQ(whole.heldout, resumed.heldout);
    EXPECT_TRUE(std::equal(resumed.losses.rbegin(), resumed.losses.rend(), whole.losses.rbegin()));
  }
}

}  // namespace
}  // namespace sae::train
