// The run loop over a real engine on replicas x shards: each rank reads its replica's rows alone,
// one batch ahead and none beyond the last, and checkpoints of one mesh go on at another.
#include <algorithm>
#include <atomic>

#include <gtest/gtest.h>

#include "sae/data/prefetch_source.h"
#include "sae/train/engine/engine_testing.h"
#include "sae/train/trainer_testing.h"

namespace sae::train {
namespace {
using sae::testing::TempDir;

constexpr std::int64_t kWidth = 12, kBatch = 24, kSteps = 20;

/// Rows of known features, and which of them were asked for.
class TallySource final : public data::ActivationSource {
 public:
  TallySource() : rows_(testing::SparseData(40, kWidth, 3, 5).Rows(kBatch * kSteps + kSample, 4)) {}
  static constexpr std::int64_t kSample = 64;
  std::int64_t d() const override { return kWidth; }
  absl::Status Next(std::span<float> rows) override {
    std::copy_n(rows_.begin() + position_ * kWidth, rows.size(), rows.begin());
    const auto count = static_cast<std::int64_t>(rows.size()) / kWidth;
    if (count != kSample) delivered += count;
    position_ += count;
    return absl::OkStatus();
  }
  std::int64_t Position() const override { return position_; }
  absl::Status Seek(std::int64_t position) override {
    position_ = position;
    return absl::OkStatus();
  }
  std::atomic<std::int64_t> delivered{0};  // by the thread that reads ahead

 private:
  std::vector<float> rows_;
  std::int64_t position_ = 0;
};

struct Result {
  Outcome outcome = Outcome::kFinished;
  double fvu = 0;
  std::int64_t delivered = 0;  ///< to each rank
};

Result Train(const std::string& folder, std::int64_t replicas, std::int64_t shards,
             std::int64_t stop_at = kSteps + 1) {
  spdlog::set_level(spdlog::level::err);
  Result out;
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(replicas * shards), [&](comm::Communicator& c) -> absl::Status {
        config::TrialConfig config = testing::TopKConfig(64, 5, kBatch, c.size());
        config.train.tokens = static_cast<double>(kBatch * kSteps);
        config.train.replicas = replicas;
        config.train.lr = 3e-3;
        config = config::Resolve(config, kWidth);
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<float>(config, kWidth, c, pool));
        TallySource source;
        data::PrefetchSource ahead(source);
        FakeClock clock;
        std::unique_ptr<EventWriter> events;
        if (c.rank() == 0) {
          SAE_ASSIGN_OR_RETURN(events, EventWriter::Open(RealEnv(), clock, folder + "/events"));
        }
        TrainerParts parts;
        parts.env = &RealEnv();
        parts.clock = &clock;
        parts.communicator = &c;
        parts.engine = engine.get();
        parts.source = &ahead;
        parts.events = events.get();
        parts.stop_requested = [&] {
          return engine->step() >= stop_at ? StopReason::kPreempt : StopReason::kNone;
        };
        parts.progress = [] {};
        TrainerOptions options;
        options.config = config;
        options.checkpoints = folder + "/checkpoints";
        options.instruction_set = "test";
        options.sample_rows = TallySource::kSample;
        options.heldout_rows = 31;
        options.read_heldout = [](std::int64_t first, std::span<float> rows) {
          const auto all = testing::SparseData(40, kWidth, 3, 5).Rows(31, 4);
          std::copy_n(all.begin() + first * kWidth, rows.size(), rows.begin());
          return absl::OkStatus();
        };
        options.mean.assign(kWidth, 0.F);
        SAE_ASSIGN_OR_RETURN(const Outcome outcome, Trainer(std::move(parts), options).Run());
        if (c.rank() != 0) return absl::OkStatus();
        out.outcome = outcome;
        out.delivered = source.delivered.load();
        const auto all = ReadEvents(folder + "/events");
        const auto fvu = all.back().values.find("heldout.fvu");
        if (fvu != all.back().values.end()) out.fvu = fvu->second;
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

TEST(TrainerMesh, EachRankReadsItsReplicasRowsAlone) {
  TempDir one_dir, many_dir;
  const Result one = Train(one_dir.path(), 1, 1), many = Train(many_dir.path(), 4, 1);
  EXPECT_EQ(one.delivered, kBatch * kSteps);
  EXPECT_EQ(many.delivered, kBatch * kSteps / 4);
  EXPECT_GT(one.fvu, 0);
  EXPECT_NEAR(many.fvu / one.fvu, 1, 1e-4);
}

TEST(TrainerMesh, ACheckpointGoesOnAtAnotherMesh) {
  TempDir straight;
  const Result one = Train(straight.path(), 1, 1);
  struct {
    std::int64_t replicas, shards;
  } const meshes[] = {{2, 2}, {1, 2}, {4, 1}, {1, 1}};
  for (std::size_t i = 0; i < std::size(meshes); ++i) {
    TempDir dir;
    const auto from = meshes[i], to = meshes[(i + 1) % std::size(meshes)];
    EXPECT_EQ(Train(dir.path(), from.replicas, from.shards, 8).outcome, Outcome::kYielded);
    const Result rest = Train(dir.path(), to.replicas, to.shards);
    EXPECT_EQ(rest.outcome, Outcome::kFinished);
    EXPECT_EQ(rest.delivered, kBatch * (kSteps - 8) / to.replicas);
    EXPECT_NEAR(rest.fvu / one.fvu, 1, 1e-4) << i;
  }
}

}  // namespace
}  // namespace sae::train
