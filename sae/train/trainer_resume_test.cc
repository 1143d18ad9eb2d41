// A run that is interrupted and resumed is the run that was not.
#include <cstring>

#include <gtest/gtest.h>

#include "sae/train/trainer.h"
#include "sae/train/trainer_testing.h"

namespace sae::train {
namespace {
using config::Event;
using config::EventKind;
using sae::testing::TempDir;
using Steps = std::vector<std::int64_t>;

StopReason StopAt30(int, std::int64_t step) {
  return step >= 30 ? StopReason::kPreempt : StopReason::kNone;
}

struct SixtySteps : Rig {
  explicit SixtySteps(const std::string& checkpoints) : Rig(checkpoints) {
    options.config.train.tokens = 240;
  }
};

TEST(TrainerResume, GoesOnWithTheNextBatchAndEachStepIsReportedOnce) {
  for (const int first : {1, 2}) {
    for (const int second : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat(first, " ranks, then ", second));
      TempDir dir;
      std::map<int, std::vector<float>> whole, resumed;
      SixtySteps straight(dir / "straight");
      straight.inspect = [&](TallyEngine& e, int rank) { whole[rank] = e.weights(); };
      ASSERT_TRUE(straight.Run(second, dir / "straight.jsonl").ok());

      SixtySteps before(dir / "checkpoints");
      before.stop = StopAt30;
      ASSERT_EQ(before.Run(first, dir / "1.jsonl").value(), Outcome::kYielded);
      SixtySteps after(dir / "checkpoints");
      after.inspect = [&](TallyEngine& e, int rank) {
        resumed[rank] = e.weights();
        EXPECT_EQ(e.sample_rows, 0) << "initialised again";
      };
      ASSERT_EQ(after.Run(second, dir / "2.jsonl").value(), Outcome::kFinished);
      EXPECT_EQ(whole, resumed);

      std::vector<Event> events = ReadEvents(dir / "1.jsonl");
      const std::vector<Event> rest = ReadEvents(dir / "2.jsonl");
      EXPECT_EQ(rest.front().from_step, 30);
      events.insert(events.end(), rest.begin(), rest.end());
      const std::vector<Event> all = ReadEvents(dir / "straight.jsonl");
      for (const EventKind kind : {EventKind::kMetrics, EventKind::kEvaluation}) {
        EXPECT_EQ(StepsOf(events, kind), StepsOf(all, kind));
      }
    }
  }
}

TEST(TrainerResume, AtTheLastStepItEvaluatesAgainAndFinishes) {
  TempDir dir;
  ASSERT_TRUE(SixtySteps(dir / "checkpoints").Run(1, dir / "1.jsonl").ok());
  EXPECT_EQ(SixtySteps(dir / "checkpoints").Run(2, dir / "2.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "2.jsonl");
  EXPECT_EQ(events.front().from_step, 60);
  EXPECT_EQ(StepsOf(events, EventKind::kMetrics), Steps{});
  EXPECT_EQ(StepsOf(events, EventKind::kEvaluation), Steps{60});
  EXPECT_EQ(events.back().kind, EventKind::kFinished);
}

// What a fork does: another trial's folder, which holds the checkpoint alone.
TEST(TrainerResume, AForkOfAFinishedRunTrainsOnWithItsOwnSettings) {
  TempDir dir;
  ASSERT_TRUE(SixtySteps(dir / "checkpoints").Run(1, dir / "1.jsonl").ok());
  std::filesystem::create_directories(std::string(dir / "fork"));
  std::filesystem::copy(dir / "checkpoints/step-000000000060", dir / "fork/step-000000000060");
  SixtySteps fork(dir / "fork");
  fork.options.config.train.tokens = 400;
  fork.options.config.train.lr = 0.5;
  ASSERT_EQ(fork.Run(2, dir / "2.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "2.jsonl");
  EXPECT_EQ(events.front().from_step, 60);
  const Steps steps = StepsOf(events, EventKind::kMetrics);
  ASSERT_FALSE(steps.empty());
  EXPECT_GT(steps.front(), 60);
  EXPECT_EQ(steps.back(), 100);
  std::string warnings;
  for (const Event& e : events) {
    if (e.kind == EventKind::kWarning) absl::StrAppend(&warnings, e.message, "\n");
  }
  EXPECT_NE(warnings.find("train.tokens was 240 in the checkpoint and is now 400"),
            std::string::npos)
      << warnings;
  EXPECT_NE(warnings.find("train.lr was"), std::string::npos) << warnings;
}

TEST(TrainerResume, ADamagedCheckpointIsAWarningAndThePreviousOneIsUsed) {
  TempDir dir;
  SixtySteps before(dir / "checkpoints");
  before.options.config.train.checkpoint_every_seconds = 10;
  before.stop = StopAt30;
  ASSERT_TRUE(before.Run(1, dir / "1.jsonl").ok());
  std::filesystem::resize_file(dir / "checkpoints/step-000000000030/latents-00002.safetensors", 60);
  ASSERT_EQ(SixtySteps(dir / "checkpoints").Run(1, dir / "2.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "2.jsonl");
  EXPECT_EQ(events[0].from_step, 20);
  EXPECT_EQ(events[1].kind, EventKind::kWarning);
  EXPECT_EQ(events[1].failed, "read");
  EXPECT_NE(events[1].message.find("latents-00002"), std::string::npos) << events[1].message;
  EXPECT_TRUE(RealEnv().Exists(dir / "checkpoints/damaged-step-000000000030"));
}

TEST(TrainerResume, ACheckpointOfAnotherRunIsRefused) {
  TempDir dir;
  ASSERT_TRUE(SixtySteps(dir / "checkpoints").Run(1, dir / "1.jsonl").ok());
  const auto refused = [&](const std::function<void(TrainerOptions&)>& change) {
    SixtySteps rig(dir / "checkpoints");
    change(rig.options);
    const auto outcome = rig.Run(1, dir / "2.jsonl");
    EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument) << outcome.status();
    return Message(outcome.status());
  };
  EXPECT_NE(refused([](auto& o) { o.store_hash = "xxh3:2"; }).find("was trained on store"),
            std::string::npos);
  EXPECT_NE(refused([](auto& o) { o.config.sae.latents = 24; }).find("has 12 latents, not 24"),
            std::string::npos);
  EXPECT_NE(refused([](auto& o) {
              o.config.sae.architecture = "relu_l1";
            }).find("of architecture topk, not relu_l1"),
            std::string::npos);
  EXPECT_NE(refused([](auto& o) { o.config.train.moments = "int8"; }).find("set train.moments f32"),
            std::string::npos);
}

TEST(TrainerResume, ChangedSettingsAreNamed) {
  TempDir dir;
  SixtySteps before(dir / "checkpoints");
  before.stop = StopAt30;
  ASSERT_TRUE(before.Run(1, dir / "1.jsonl").ok());
  SixtySteps after(dir / "checkpoints");
  after.options.config.train.beta2 = 0.5;
  after.options.instruction_set = "avx2";
  ASSERT_TRUE(after.Run(1, dir / "2.jsonl").ok());
  const std::vector<Event> events = ReadEvents(dir / "2.jsonl");
  EXPECT_EQ(events[1].message, "train.beta2 was 0.999 in the checkpoint and is now 0.5");
  EXPECT_NE(events[2].message.find("instruction set test"), std::string::npos);
}

}  // namespace
}  // namespace sae::train
