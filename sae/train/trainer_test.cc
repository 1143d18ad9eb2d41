#include "sae/train/trainer.h"

#include <gtest/gtest.h>

#include "sae/train/trainer_testing.h"
#include "tests/support/fault_env.h"

namespace sae::train {
namespace {
using config::Event;
using config::EventKind;
using sae::testing::FaultEnv;
using sae::testing::TempDir;
using Steps = std::vector<std::int64_t>;

TEST(Trainer, ARunSaysWhatItDoesInOrder) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.inspect = [](TallyEngine& e, int) {
    EXPECT_EQ(e.sample_rows, 16);
    EXPECT_EQ(e.mean_size, Rig::kWidth);
  };
  EXPECT_EQ(rig.Run(1, dir / "events.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
  EXPECT_EQ(events.front().kind, EventKind::kStarted);
  EXPECT_EQ(events.front().from_step, 0);
  EXPECT_EQ(StepsOf(events, EventKind::kMetrics), (Steps{5, 10, 15, 20}));
  EXPECT_EQ(StepsOf(events, EventKind::kEvaluation), (Steps{8, 16, 20}));
  EXPECT_EQ(StepsOf(events, EventKind::kCheckpoint), (Steps{20}));
  EXPECT_EQ(events.back().kind, EventKind::kFinished);
  EXPECT_EQ(events.back().tokens, 80);
  EXPECT_EQ(events.back().values.at("heldout.fvu"), 10);
  EXPECT_EQ(events.back().values.at("heldout.rows"), 10);
  for (std::size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
  EXPECT_TRUE(RealEnv().Exists(dir / "checkpoints/step-000000000020/manifest.json"));
}

TEST(Trainer, TokensPerSecondCountsStepsAndNotEvaluations) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.options.read_heldout = [&](std::int64_t, std::span<float>) {
    rig.clock.Advance(absl::Hours(1));
    return absl::OkStatus();
  };
  ASSERT_TRUE(rig.Run(1, dir / "events.jsonl").ok());
  for (const Event& e : ReadEvents(dir / "events.jsonl")) {
    if (e.kind != EventKind::kMetrics) continue;
    EXPECT_DOUBLE_EQ(e.values.at("tokens_per_second"), 4.0);
    EXPECT_DOUBLE_EQ(e.values.at("ms.step"), 1000.0);
  }
}

TEST(Trainer, TheStragglerIsWhoSpendsMostTimeOutsideCollectives) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.own_clocks = true;
  // A step takes all the same time; ranks 0 and 1 wait for rank 2.
  rig.prepare = [](TallyEngine& engine, CountedSource&, int rank) {
    engine.step_time = absl::Seconds(2);
    engine.exchange_ms = rank == 2 ? 400 : rank == 1 ? 1600 : 1200;
  };
  ASSERT_TRUE(rig.Run(3, dir / "events.jsonl").ok());
  int reports = 0;
  for (const Event& e : ReadEvents(dir / "events.jsonl")) {
    if (e.kind != EventKind::kMetrics) continue;
    ++reports;
    EXPECT_NEAR(e.values.at("straggler.score"), 0.4 / 1.6, 1e-12) << e.step;
    EXPECT_EQ(e.values.at("straggler.rank"), 2) << e.step;
  }
  EXPECT_EQ(reports, 4);
}

TEST(Trainer, OneRankAloneHasNoStraggler) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  ASSERT_TRUE(rig.Run(1, dir / "events.jsonl").ok());
  for (const Event& e : ReadEvents(dir / "events.jsonl"))
    EXPECT_EQ(e.values.count("straggler.score"), 0U) << e.step;
}

TEST(Trainer, RankZerosClockDecidesOnCheckpointsForAll) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.options.config.train.checkpoint_every_seconds =
      14;  // two ranks advance the one clock: 2 s a step
  ASSERT_TRUE(rig.Run(2, dir / "events.jsonl").ok());
  const Steps steps = StepsOf(ReadEvents(dir / "events.jsonl"), EventKind::kCheckpoint);
  ASSERT_GE(steps.size(), 2U);
  EXPECT_EQ(steps.back(), 20);
  EXPECT_EQ(RealEnv().List(dir / "checkpoints")->size(), 2U);
}

TEST(Trainer, OneRanksStopRequestStopsAllAtOneStep) {
  for (const StopReason reason :
       {StopReason::kPreempt, StopReason::kTerminate, StopReason::kLease}) {
    TempDir dir;
    Rig rig(dir / "checkpoints");
    rig.stop = [&](int rank, std::int64_t step) {
      return rank == 1 && step >= 7 ? reason : StopReason::kNone;
    };
    Steps ended(2);
    rig.inspect = [&](TallyEngine& e, int rank) {
      ended[static_cast<std::size_t>(rank)] = e.step();
    };
    EXPECT_EQ(rig.Run(2, dir / "events.jsonl").value(), Outcome::kYielded);
    EXPECT_EQ(ended, (Steps{7, 7}));
    const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
    EXPECT_EQ(events.back().kind, EventKind::kYielded);
    EXPECT_EQ(events.back().step, 7);
    EXPECT_EQ(events.back().checkpoint, "step-000000000007");
    EXPECT_EQ(events.back().message, ToText(reason));
  }
}

TEST(Trainer, AStopAfterTheLastStepIsAFinish) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.stop = [](int, std::int64_t step) {
    return step >= 20 ? StopReason::kTerminate : StopReason::kNone;
  };
  EXPECT_EQ(rig.Run(2, dir / "events.jsonl").value(), Outcome::kFinished);
}

TEST(Trainer, AfterItsLeaseItRemovesNothing) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.options.config.train.checkpoint_every_seconds = 2;
  rig.stop = [](int, std::int64_t step) {
    return step >= 10 ? StopReason::kLease : StopReason::kNone;
  };
  ASSERT_EQ(rig.Run(1, dir / "events.jsonl").value(), Outcome::kYielded);
  EXPECT_EQ(
      *RealEnv().List(dir / "checkpoints"),
      (std::vector<std::string>{"step-000000000006", "step-000000000008", "step-000000000010"}));
}

TEST(Trainer, OneRanksBrokenShardIsEveryRanksError) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.prepare = [](TallyEngine&, CountedSource& source, int rank) {
    if (rank == 1) source.fail_at = 30;
  };
  const auto outcome = rig.Run(2, dir / "events.jsonl");
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kDataLoss) << outcome.status();
  EXPECT_NE(Message(outcome.status()).find("rank 1: shard-00003.safetensors"), std::string::npos)
      << outcome.status();
}

TEST(Trainer, DivergenceIsAFailedPrecondition) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.prepare = [](TallyEngine& engine, CountedSource&, int) { engine.diverge_at = 9; };
  const auto outcome = rig.Run(2, dir / "events.jsonl");
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(Message(outcome.status()).find("step 9: the loss is nan"), std::string::npos);
}

TEST(Trainer, AFullDiskAtAPeriodicCheckpointIsAWarning) {
  TempDir dir;
  FaultEnv env(RealEnv());
  Rig rig(dir / "checkpoints");
  rig.env = &env;
  rig.options.config.train.checkpoint_every_seconds = 6;
  rig.prepare = [&](TallyEngine& engine, CountedSource&, int) {
    engine.on_step = [&](std::int64_t step) {
      if (step == 5) env.FailOnce(3);
    };
  };
  EXPECT_EQ(rig.Run(1, dir / "events.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
  EXPECT_EQ(StepsOf(events, EventKind::kWarning), (Steps{6}));
  EXPECT_EQ(StepsOf(events, EventKind::kCheckpoint), (Steps{12, 18, 20}));
  for (const Event& e : events) {
    EXPECT_EQ(e.failed, e.kind == EventKind::kWarning ? "write" : "");
    if (e.kind != EventKind::kCheckpoint) continue;
    EXPECT_EQ(e.values.count("ms.save"), 1U);
    EXPECT_GT(e.values.at("bytes.save"), 0);
  }
}

TEST(Trainer, AtMostTheStatedNumberOfHeldOutRowsIsRead) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.options.heldout_rows = 10 * kMaxHeldoutRows;
  rig.options.config.train.batch = 4096;
  rig.options.config.train.tokens = 4096;
  ASSERT_TRUE(rig.Run(1, dir / "events.jsonl").ok());
  EXPECT_EQ(ReadEvents(dir / "events.jsonl").back().values.at("heldout.fvu"),
            static_cast<double>(kMaxHeldoutRows));
}

TEST(Trainer, WithoutHeldOutRowsItWarnsAndFinishes) {
  TempDir dir;
  Rig rig(dir / "checkpoints");
  rig.options.heldout_rows = 0;
  EXPECT_EQ(rig.Run(1, dir / "events.jsonl").value(), Outcome::kFinished);
  const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
  EXPECT_EQ(StepsOf(events, EventKind::kWarning), (Steps{0}));
  EXPECT_EQ(StepsOf(events, EventKind::kEvaluation), Steps{});
}

}  // namespace
}  // namespace sae::train
