// Resume, determinism, evaluation and refusals of one engine.
#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using testing::SavedState;

constexpr std::int64_t kWidth = 20;
constexpr std::int64_t kBatch = 40;

config::TrialConfig Config(const std::string& architecture) {
  config::TrialConfig c = architecture == "topk" ? testing::TopKConfig(96, 6, kBatch)
                                                 : testing::ReluConfig(96, 0.2, kBatch);
  if (architecture == "topk") c.sae.aux_k = 8;
  c.sae.dead_after_tokens = 3 * kBatch;
  c.train.tokens = 60 * kBatch;
  c.train.lr = 3e-3;
  c.train.lr_warmup_steps = 5;
  c.train.sparsity_warmup_steps = 10;
  return c;
}

struct Rig {
  explicit Rig(const config::TrialConfig& config, int threads = 1)
      : self(comm::CreateSelf()), pool(threads) {
    auto created = CreateEngine<float>(config, kWidth, *self, pool);
    EXPECT_TRUE(created.ok()) << created.status();
    engine = *std::move(created);
  }
  SavedState Saved() const {
    SavedState s;
    Save(engine->state(), &s);
    return s;
  }
  std::unique_ptr<comm::Communicator> self;
  ThreadPool pool;
  std::unique_ptr<Engine<float>> engine;
};

std::vector<std::vector<float>> Batches(int count, std::uint64_t seed = 5) {
  testing::SparseData data(40, kWidth, 3, seed);
  std::vector<std::vector<float>> out;
  for (int i = 0; i < count; ++i) out.push_back(data.Rows(kBatch, 4));
  return out;
}

class EngineState : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Architectures, EngineState, ::testing::Values("topk", "relu_l1"),
                         [](const auto& test) { return test.param; });

TEST_P(EngineState, ResumeGoesOnBitForBit) {
  const auto batches = Batches(40);
  Rig whole(Config(GetParam()), 2);
  ASSERT_TRUE(whole.engine->Initialise(batches[0]).ok());
  SavedState middle;
  for (std::size_t t = 0; t < batches.size(); ++t) {
    if (t == 17) middle = whole.Saved();
    ASSERT_TRUE(whole.engine->Step(batches[t]).ok());
  }
  Rig resumed(Config(GetParam()), 1);  // another thread count changes no bit
  Restore(middle, *resumed.engine);
  EXPECT_EQ(resumed.engine->step(), 17);
  EXPECT_EQ(resumed.engine->tokens(), 17 * kBatch);
  for (std::size_t t = 17; t < batches.size(); ++t)
    ASSERT_TRUE(resumed.engine->Step(batches[t]).ok());
  const SavedState a = whole.Saved(), b = resumed.Saved();
  EXPECT_EQ(a.tensors, b.tensors);
  EXPECT_EQ(a.integers, b.integers);
  EXPECT_EQ(a.doubles, b.doubles);
}

TEST_P(EngineState, SameSeedGivesTheSameBitsAndAnotherSeedDoesNot) {
  const auto batches = Batches(20);
  std::vector<SavedState> ends;
  for (const std::int64_t seed : {0, 0, 1}) {
    config::TrialConfig config = Config(GetParam());
    config.train.seed = seed;
    Rig rig(config);
    ASSERT_TRUE(rig.engine->Initialise(batches[0]).ok());
    for (const auto& rows : batches) ASSERT_TRUE(rig.engine->Step(rows).ok());
    ends.push_back(rig.Saved());
  }
  EXPECT_EQ(ends[0].tensors, ends[1].tensors);
  EXPECT_NE(ends[0].tensors.at("W_dec"), ends[2].tensors.at("W_dec"));
}

TEST_P(EngineState, EvaluationIsTheSameForAnySplitAndChangesNothing) {
  const auto batches = Batches(12);
  Rig rig(Config(GetParam()));
  ASSERT_TRUE(rig.engine->Initialise(batches[0]).ok());
  for (int t = 0; t < 8; ++t)
    ASSERT_TRUE(rig.engine->Step(batches[static_cast<std::size_t>(t)]).ok());
  const SavedState before = rig.Saved();
  const auto trained = rig.engine->LastMetrics();
  const std::vector<float> mean(kWidth, 0.4F);
  const auto evaluate = [&](const std::vector<std::size_t>& rows_at_once) {
    rig.engine->BeginEvaluation(mean);
    for (std::size_t t = 8; t < 12; ++t) {
      std::size_t row = 0;
      for (const std::size_t rows : rows_at_once) {
        EXPECT_TRUE(
            rig.engine->EvaluateBatch(std::span(batches[t]).subspan(row * kWidth, rows * kWidth))
                .ok());
        row += rows;
      }
    }
    return *rig.engine->FinishEvaluation();
  };
  const auto whole = evaluate({40});
  const auto split = evaluate({1, 13, 26});
  for (const auto& [name, value] : whole)
    EXPECT_NEAR(split.at(name), value, 2e-6 * (1 + std::abs(value))) << name;
  EXPECT_EQ(whole.at("heldout.l0"), split.at("heldout.l0"));
  EXPECT_NEAR(whole.at("heldout.explained_variance"), 1 - whole.at("heldout.fvu"), 1e-12);
  EXPECT_EQ(before.tensors, rig.Saved().tensors);
  // The last step's metrics survive an evaluation.
  EXPECT_EQ(*trained, *rig.engine->LastMetrics());
}

TEST_P(EngineState, NanIsRefusedWithStepAndValueAndLeavesParameters) {
  auto batches = Batches(3);
  Rig rig(Config(GetParam()));
  ASSERT_TRUE(rig.engine->Initialise(batches[0]).ok());
  ASSERT_TRUE(rig.engine->Step(batches[0]).ok());
  const SavedState before = rig.Saved();
  batches[1][37] = std::numeric_limits<float>::quiet_NaN();
  const absl::Status status = rig.engine->Step(batches[1]);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("step 1"), ::testing::HasSubstr("nan")));
  EXPECT_EQ(before.tensors.at("W_enc"), rig.Saved().tensors.at("W_enc"));
  EXPECT_EQ(before.tensors.at("b_dec"), rig.Saved().tensors.at("b_dec"));
}

TEST_P(EngineState, NanOfOneRankIsSeenByAll) {
  config::TrialConfig config = Config(GetParam());
  config.ranks = 2;
  const auto batches = Batches(1);
  for (const double density : {0.0, 2.0}) {
    std::vector<absl::StatusCode> codes(2);
    const absl::Status status = comm::RunInProcess(2, [&](comm::Communicator& c) {
      ThreadPool pool(1);
      SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<float>(config, kWidth, c, pool));
      SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
      engine->set_dense_density(density);
      if (c.rank() == 1) {
        static_cast<float*>(engine->state().tensors[0].data)[5] =
            std::numeric_limits<float>::quiet_NaN();
      }
      codes[static_cast<std::size_t>(c.rank())] = engine->Step(batches[0]).code();
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(codes, std::vector<absl::StatusCode>(2, absl::StatusCode::kFailedPrecondition));
  }
}

TEST_P(EngineState, RefusesWhatComesTooEarlyOrDoesNotFit) {
  const auto batches = Batches(1);
  Rig rig(Config(GetParam()));
  EXPECT_EQ(rig.engine->Step(batches[0]).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(rig.engine->LastMetrics().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(rig.engine->StateLoaded().code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(rig.engine->Initialise(batches[0]).ok());
  const std::vector<float> part(batches[0].begin(), batches[0].begin() + kWidth * 3);
  EXPECT_EQ(rig.engine->Step(part).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rig.engine->Step(std::span(batches[0]).first(7)).code(),
            absl::StatusCode::kInvalidArgument);
  rig.engine->BeginEvaluation(std::vector<float>(kWidth));
  EXPECT_EQ(rig.engine->FinishEvaluation().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(EngineCreate, NamesWhatDoesNotFit) {
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  const auto two = CreateEngine<float>(testing::TopKConfig(16, 2, 8, 2), 4, *self, pool);
  EXPECT_EQ(two.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(two.status().message()), ::testing::HasSubstr("ranks 2"));
  const auto k = CreateEngine<float>(testing::TopKConfig(16, 17, 8), 4, *self, pool);
  EXPECT_THAT(std::string(k.status().message()), ::testing::HasSubstr("17"));
}

TEST(EngineCounters, CountsTokensSinceALatentFired) {
  config::TrialConfig config = Config("topk");
  const auto batches = Batches(4);
  Rig rig(config);
  ASSERT_TRUE(rig.engine->Initialise(batches[0]).ok());
  std::vector<std::int64_t> expected(96, 0);
  for (const auto& rows : batches) {
    ASSERT_TRUE(rig.engine->Step(rows).ok());
    for (std::int64_t& t : expected) t += kBatch;
    const auto selection = rig.engine->LastSelection();
    ASSERT_TRUE(selection.ok());
    for (const auto& ids : *selection) {
      for (const std::int64_t i : ids) expected[static_cast<std::size_t>(i)] = 0;
      EXPECT_LE(ids.size(), 6U);
    }
  }
  const SavedState s = rig.Saved();
  std::vector<std::int64_t> counted(96);
  std::memcpy(counted.data(), s.tensors.at("tokens_since_fired").data(), 96 * sizeof(std::int64_t));
  EXPECT_EQ(counted, expected);
}

}  // namespace
}  // namespace sae::train
