// `selection: certified` through the engine: what is selected does not depend on the number of
// ranks, and training goes as with float32.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Penalised;
using testing::Ranked;
using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

constexpr std::int64_t kSteps = 40;

class EngineCertified : public ::testing::TestWithParam<RunVariant> {
 protected:
  RunRequest Request(const char* selection, std::int64_t ranks) const {
    RunRequest r;
    r.config = testing::ConfigOf(GetParam(), ranks);
    r.config.sae.latents = 256;
    r.config.train.selection = selection;
    r.batches = testing::BatchesOf(r.config, r.d_out, kSteps);
    r.selections = true;
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(All, EngineCertified,
                         ::testing::Values(RunVariant{"topk", Ranked("topk", 0)},
                                           RunVariant{"topk_aux", Ranked("topk", 8)},
                                           RunVariant{"batchtopk", Ranked("batchtopk", 8)},
                                           RunVariant{"matryoshka", Ranked("matryoshka", 0)},
                                           RunVariant{"relu_l1", Penalised("relu_l1")},
                                           RunVariant{"gated", Penalised("gated")},
                                           RunVariant{"jumprelu", Penalised("jumprelu")}),
                         testing::NameOf);

// Property 12. Each step again from one rank's state before it: the same set, and so the same
// codes; after it parameters agree to rounding.
TEST_P(EngineCertified, EachStepSelectsTheSameAtAnyNumberOfRanks) {
  RunRequest r = Request("certified", 1);
  for (std::int64_t t = 0; t < kSteps; ++t) r.save_before.insert(t);
  const RunOutcome one = testing::Run<float>(r);
  for (const std::int64_t ranks : {2, 4}) {
    for (std::int64_t t = 0; t < kSteps; t += 3) {
      RunRequest step = Request("certified", ranks);
      step.start = &one.before.at(t);
      step.first = static_cast<std::size_t>(t);
      step.batches.resize(step.first + 1);
      const RunOutcome many = testing::Run<float>(step);
      const auto at = static_cast<std::size_t>(t);
      ASSERT_EQ(many.selections[0], one.selections[at]) << "step " << t << " at " << ranks;
      ASSERT_NEAR(many.losses[0] / one.losses[at], 1, 1e-6) << t;
    }
  }
}

TEST_P(EngineCertified, TrajectoryIsThatOfFloat32) {
  const RunOutcome screened = testing::Run<float>(Request("certified", 1));
  const RunOutcome plain = testing::Run<float>(Request("float32", 1));
  std::size_t tokens = 0, same = 0;
  for (std::size_t t = 0; t < plain.losses.size(); ++t) {
    EXPECT_NEAR(screened.losses[t] / plain.losses[t], 1, 1e-4) << t;
    for (std::size_t b = 0; b < plain.selections[t].size(); ++b, ++tokens)
      same += screened.selections[t][b] == plain.selections[t][b] ? 1 : 0;
  }
  EXPECT_EQ(tokens, static_cast<std::size_t>(kSteps * testing::kRunBatch));
  EXPECT_GE(static_cast<double>(same), 0.99 * static_cast<double>(tokens));
}

}  // namespace
}  // namespace sae::train
