// Rows that a step does not touch: lazy rows and deferred decoder rows give the bits of dense ones,
// also where the state is read, and so brought up to date, in the middle of a run.
#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::ExpectSameBits;
using testing::Penalised;
using testing::Ranked;
using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

RunRequest RequestOf(const RunVariant& variant, const char* rows, std::int64_t ranks) {
  RunRequest r;
  r.config = testing::ConfigOf(variant, ranks);
  r.config.sae.latents = 512;  // most rows rest in most steps
  r.config.train.batch = 16;
  r.config.train.rows = rows;
  r.batches = testing::BatchesOf(r.config, r.d_out, 50);
  return r;
}

// Codes of few latents, so that many have none in a step.
config::TrialConfig& Sparse(config::TrialConfig& c) {
  (c.sae.architecture == "jumprelu" ? c.sae.l0_coefficient : c.sae.l1_coefficient) = 1;
  return c;
}

class EngineRows : public ::testing::TestWithParam<std::tuple<RunVariant, const char*>> {};
INSTANTIATE_TEST_SUITE_P(
    Lazy, EngineRows,
    ::testing::Combine(
        ::testing::Values(
            RunVariant{"topk", Ranked("topk", 0, [](auto& c) { c.train.beta1 = 0; })},
            RunVariant{"topk_aux", Ranked("topk", 8, [](auto& c) { c.train.beta1 = 0; })},
            RunVariant{"batchtopk", Ranked("batchtopk", 0, [](auto& c) { c.train.beta1 = 0; })},
            RunVariant{"jumprelu", Penalised("jumprelu", [](auto& c) { Sparse(c); })},
            RunVariant{"gated", Penalised("gated", [](auto& c) { Sparse(c); })},
            RunVariant{"topk_clip", Ranked("topk", 8,
                                           [](auto& c) {
                                             c.train.beta1 = 0;
                                             c.train.clip = 0.2;
                                           })}),
        ::testing::Values("lazy")),
    [](const auto& test) { return std::get<0>(test.param).name; });
INSTANTIATE_TEST_SUITE_P(
    Deferred, EngineRows,
    ::testing::Combine(
        ::testing::Values(
            RunVariant{"topk_aux", Ranked("topk", 8)}, RunVariant{"topk", Ranked("topk", 0)},
            RunVariant{"topk_multi", Ranked("topk", 0, [](auto& c) { c.sae.multi_topk = true; })},
            RunVariant{"matryoshka", Ranked("matryoshka", 8)},
            RunVariant{"free", Ranked("topk", 8, [](auto& c) { c.sae.decoder = "free"; })}),
        ::testing::Values("deferred")),
    [](const auto& test) { return std::get<0>(test.param).name; });

TEST_P(EngineRows, EqualDenseRowsBitForBit) {
  const auto& [variant, rows] = GetParam();
  for (const std::int64_t ranks : {1, 2}) {
    RunRequest dense = RequestOf(variant, "dense", ranks), other = RequestOf(variant, rows, ranks);
    dense.selections = other.selections = true;
    dense.dense_density = 2;  // the one difference is in rows: lazy ones go by entries always
    dense.save_before = {7, 8, 29};
    const RunOutcome a = testing::Run<float>(dense), b = testing::Run<float>(other);
    SCOPED_TRACE(ranks);
    ExpectSameBits(a.end, b.end);
    EXPECT_EQ(a.losses, b.losses);
    EXPECT_EQ(a.heldout, b.heldout);
    // Some latents did rest: else this shows nothing.
    std::set<std::int64_t> last;
    for (const auto& ids : a.selections.back()) last.insert(ids.begin(), ids.end());
    EXPECT_LT(last.size(), 512U);
    other.save_before = dense.save_before;
    const RunOutcome flushed = testing::Run<float>(other);
    ExpectSameBits(a.end, flushed.end);
    for (const auto& [step, state] : a.before) ExpectSameBits(state, flushed.before.at(step));
  }
}

}  // namespace
}  // namespace sae::train
