// The engine over MPI processes against one rank, float32: a free run, and the bits of fixed
// reductions.
#include <cmath>

#include "gtest/gtest.h"
#include <mpi.h>

#include "sae/model/shard.h"
#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 24;
constexpr std::int64_t kBatch = 48;

config::TrialConfig Config(bool topk, std::int64_t ranks) {
  config::TrialConfig c = topk ? testing::TopKConfig(256, 8, kBatch, ranks)
                               : testing::ReluConfig(256, 0.05, kBatch, ranks);
  if (topk) c.sae.aux_k = 16;
  c.sae.dead_after_tokens = 5 * kBatch;
  return c;
}

struct Trace {
  std::vector<double> losses;
  std::vector<std::vector<std::int64_t>> first_selection;
};

template <class T>
absl::StatusOr<Trace> TrainSteps(const config::TrialConfig& config,
                                 comm::Communicator& communicator) {
  testing::SparseData data(64, kWidth, 4, 3);
  ThreadPool pool(1);
  SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<T>(config, kWidth, communicator, pool));
  SAE_RETURN_IF_ERROR(engine->Initialise(data.Rows(256, 7.5)));
  Trace trace;
  for (int t = 0; t < 40; ++t) {
    SAE_RETURN_IF_ERROR(engine->Step(data.Rows(kBatch, 7.5)));
    SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
    trace.losses.push_back(metrics.at("train.loss"));
    if (t > 0) continue;
    SAE_ASSIGN_OR_RETURN(trace.first_selection, engine->LastSelection());
  }
  return trace;
}

TEST(EngineMpi, AgreesWithOneRank) {
  auto world = comm::CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok()) << world.status();
  const auto self = comm::CreateSelf();
  for (const bool topk : {true, false}) {
    const auto one = TrainSteps<float>(Config(topk, 1), *self);
    const auto many = TrainSteps<float>(Config(topk, (*world)->size()), **world);
    ASSERT_TRUE(one.ok() && many.ok()) << one.status() << many.status();
    EXPECT_EQ(one->first_selection, many->first_selection);
    for (std::size_t t = 0; t < one->losses.size(); ++t)
      EXPECT_NEAR(many->losses[t] / one->losses[t], 1, 1e-4) << t;
  }
}

// Two replicas of half as many shards, and replicas alone.
TEST(EngineMpi, AMeshAgreesWithOneRank) {
  auto world = comm::CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok()) << world.status();
  const auto self = comm::CreateSelf();
  for (const bool topk : {true, false}) {
    const auto one = TrainSteps<double>(Config(topk, 1), *self);
    ASSERT_TRUE(one.ok()) << one.status();
    for (const std::int64_t replicas : {std::int64_t{2}, std::int64_t{(*world)->size()}}) {
      config::TrialConfig config = Config(topk, (*world)->size());
      config.train.replicas = replicas;
      const auto many = TrainSteps<double>(config, **world);
      ASSERT_TRUE(many.ok()) << many.status();
      EXPECT_EQ(one->first_selection, many->first_selection);
      for (std::size_t t = 0; t < one->losses.size(); ++t)
        EXPECT_NEAR(many->losses[t] / one->losses[t], 1, 1e-9) << t;
    }
  }
}

// The state of this rank's latents after 20 steps under a fixed reduction.
absl::StatusOr<testing::SavedState> FixedRun(const testing::RunVariant& variant,
                                             comm::Communicator& communicator) {
  config::TrialConfig config = testing::ConfigOf(variant, communicator.size());
  config.train.reduction = "fixed";
  const auto batches = testing::BatchesOf(config, variant.d_out, 20);
  ThreadPool pool(1);
  SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<float>(config, testing::kRunWidth, variant.d_out,
                                                        communicator, pool));
  SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
  for (const auto& rows : batches) SAE_RETURN_IF_ERROR(engine->Step(rows));
  testing::SavedState out;
  Save(engine->state(), &out);
  return out;
}

// Property 12.
TEST(EngineMpi, FixedReductionGivesTheBitsOfOneRank) {
  auto world = comm::CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok()) << world.status();
  const auto self = comm::CreateSelf();
  const model::LatentShard shard =
      model::ShardOf(testing::kRunLatents, (*world)->size(), (*world)->rank());
  for (const testing::RunVariant& variant : testing::AllVariants()) {
    SCOPED_TRACE(variant.name);
    const auto one = FixedRun(variant, *self);
    const auto many = FixedRun(variant, **world);
    ASSERT_TRUE(one.ok() && many.ok()) << one.status() << many.status();
    for (const auto& [name, bytes] : one->tensors) {
      const std::vector<char>& other = many->tensors.at(name);
      ASSERT_EQ(bytes.size(), other.size());
      const bool replicated = name.starts_with("b_dec") || name.starts_with("W_skip");
      const std::size_t row = bytes.size() / testing::kRunLatents;
      if (replicated) {
        EXPECT_TRUE(bytes == other) << name;
        continue;
      }
      for (std::int64_t i = 0; i < shard.count; ++i) {
        const std::size_t at = static_cast<std::size_t>(shard.Global(i)) * row;
        EXPECT_EQ(std::memcmp(bytes.data() + at, other.data() + at, row), 0) << name << " " << i;
      }
    }
    EXPECT_EQ(one->integers, many->integers);
    EXPECT_EQ(one->doubles, many->doubles);
  }
}

}  // namespace
}  // namespace sae::train

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  ::testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  MPI_Finalize();
  return failed;
}
