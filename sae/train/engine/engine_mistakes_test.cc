// Mistakes that other implementations make, each with the test that would catch it here; those of
// formulas are beside the reference (docs/properties.md has the whole list).
#include <algorithm>
#include <cmath>

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
using testing::SavedState;

RunRequest RequestOf(const RunVariant& variant, std::int64_t ranks, std::int64_t steps) {
  RunRequest r;
  r.config = testing::ConfigOf(variant, ranks);
  r.d_out = variant.d_out;
  r.batches = testing::BatchesOf(r.config, r.d_out, steps);
  return r;
}

std::vector<double> Floats(const SavedState& s, const std::string& name) {
  const std::vector<char>& bytes = s.tensors.at(name);
  std::vector<float> v(bytes.size() / sizeof(float));
  std::memcpy(v.data(), bytes.data(), bytes.size());
  return {v.begin(), v.end()};
}

double LargestMove(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

TEST(EngineMistakes, ShardedBatchTopKKeepsKTimesTheBatchOfAllShards) {
  for (const std::int64_t ranks : {1, 2, 4}) {
    const RunOutcome run = testing::Run<float>(RequestOf({"", Ranked("batchtopk", 0)}, ranks, 20));
    for (const double l0 : run.l0) EXPECT_EQ(l0, 5) << ranks;
  }
}

// A clip of each shard by its own norm would scale shards apart.
TEST(EngineMistakes, ClipsByTheNormOfAllShards) {
  for (const std::int64_t ranks : {1, 2, 4, 8}) {
    for (const char* architecture : {"topk", "gated"}) {
      const auto clip = [](auto& c) { c.train.clip = 1e-3; };
      const RunVariant variant{"", architecture == std::string("topk") ? Ranked("topk", 0, clip)
                                                                       : Penalised("gated", clip)};
      RunRequest r = RequestOf(variant, ranks, 1);
      r.config.train.beta1 = 0;
      const RunOutcome run = testing::Run<double>(r);
      double squares = 0;  // of all gradients after clipping
      for (const auto& [name, bytes] : run.end.tensors) {
        if (!name.ends_with(".adam_m")) continue;
        for (const double m : testing::Doubles(run.end, name)) squares += m * m;
      }
      EXPECT_NEAR(std::sqrt(squares), 1e-3, 1e-12) << architecture << " at " << ranks;
    }
  }
}

TEST(EngineMistakes, GradientsDoNotGrowWithTheNumberOfRanks) {
  for (const RunVariant& variant : testing::Float32Variants()) {
    const RunOutcome one = testing::Run<double>(RequestOf(variant, 1, 2));
    for (const std::int64_t ranks : {2, 4}) {
      const RunOutcome many = testing::Run<double>(RequestOf(variant, ranks, 2));
      for (const std::string name :
           {"W_enc.adam_m", "W_dec.adam_m", "b_enc.adam_m", "b_dec.adam_m"}) {
        EXPECT_LT(LargestMove(testing::Doubles(one.end, name), testing::Doubles(many.end, name)),
                  1e-10)
            << variant.name << " " << name << " at " << ranks;
      }
    }
  }
}

// Of all four ranks: moments, and counters of dead latents.
TEST(EngineMistakes, ResumeKeepsMomentsAndCountersOfEveryRank) {
  RunRequest r = RequestOf({"", Ranked("topk", 8)}, 4, 30);
  r.save_before = {15};
  const RunOutcome whole = testing::Run<float>(r);
  RunRequest rest = r;
  rest.save_before.clear();
  rest.first = 15;
  rest.start = &whole.before.at(15);
  ExpectSameBits(whole.end, testing::Run<float>(rest).end);
  for (const std::string name : {"W_enc.adam_m", "W_dec.adam_v", "b_enc.adam_v"}) {
    for (const std::size_t rank : {0, 1, 2, 3}) {  // each rank's part matters
      SavedState lossy = whole.before.at(15);
      std::vector<char>& bytes = lossy.tensors.at(name);
      const auto part = static_cast<std::ptrdiff_t>(bytes.size() / 4);
      const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(rank) * part;
      std::fill(from, from + part, char{0});
      rest.start = &lossy;
      EXPECT_FALSE(testing::Run<float>(rest).end.tensors == whole.end.tensors)
          << name << " of rank " << rank;
    }
  }
}

TEST(EngineMistakes, LogThresholdsMoveWithTheirOwnRate) {
  RunRequest r = RequestOf({"", Penalised("jumprelu")}, 1, 60);
  r.config.train.lr = 2e-4;
  r.save_before = {0};
  const RunOutcome run = testing::Run<float>(r);
  EXPECT_GT(
      LargestMove(Floats(run.before.at(0), "log_threshold"), Floats(run.end, "log_threshold")),
      0.1);
}

// Steps that bf16 cannot represent beside log theta still add up.
TEST(EngineMistakes, SmallStepsOfThresholdsAddUp) {
  static constexpr double kRate = 2e-6;
  RunRequest r = RequestOf({"", Penalised("jumprelu",
                                          [](auto& c) {
                                            c.sae.threshold_lr = kRate;
                                            c.train.lr_warmup_steps = 0;
                                          })},
                           1, 60);
  r.save_before = {0};
  const RunOutcome run = testing::Run<float>(r);
  const std::vector<double> before = Floats(run.before.at(0), "log_threshold");
  const double moved = LargestMove(before, Floats(run.end, "log_threshold"));
  EXPECT_GT(moved, 20 * kRate);
  const double smallest = std::abs(*std::min_element(
      before.begin(), before.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
  EXPECT_LT(moved, smallest / 512) << "the case shows nothing";
}

TEST(EngineMistakes, L0FallsWithItsCoefficientWithoutSaturation) {
  double last = 1e9;
  for (const double coefficient : {1e-4, 1e-2, 3e-2, 1e-1}) {
    RunRequest r = RequestOf({"", Penalised("jumprelu")}, 1, 100);
    r.config.sae.l0_coefficient = coefficient;
    const RunOutcome run = testing::Run<float>(r);
    EXPECT_LT(run.l0.back(), 0.95 * last) << coefficient;
    last = run.l0.back();
  }
  EXPECT_GE(last, 0);
}

TEST(EngineMistakes, DeadWindowCountsTokensWhateverTheBatch) {
  for (const std::int64_t batch : {8, 16, 32}) {
    RunRequest r = RequestOf({"", Penalised("relu_l1")}, 1, 1);
    r.config.train.batch = batch;
    r.batches = testing::BatchesOf(r.config, r.d_out, 1);
    r.config.sae.dead_after_tokens = 96;
    r.save_before = {0};
    const RunOutcome fresh = testing::Run<float>(r);
    SavedState start = fresh.before.at(0);
    const std::vector<float> silent(testing::kRunLatents, -50.0F);
    std::memcpy(start.tensors.at("b_enc").data(), silent.data(), silent.size() * sizeof(float));
    const auto self = comm::CreateSelf();
    ThreadPool pool(1);
    auto engine = *CreateEngine<float>(r.config, testing::kRunWidth, *self, pool);
    Restore(start, *engine);
    engine->set_dense_density(2);
    std::int64_t dead_at = 0;
    for (std::int64_t tokens = batch; tokens <= 128 && dead_at == 0; tokens += batch) {
      ASSERT_TRUE(engine->Step(r.batches[0]).ok());
      if (engine->LastMetrics()->at("train.dead_fraction") == 1) dead_at = tokens;
    }
    EXPECT_EQ(dead_at, 96) << batch;
  }
}

}  // namespace
}  // namespace sae::train
