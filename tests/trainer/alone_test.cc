// saeloom-trainer as a process of its own, one rank.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
using config::Event;
using config::EventKind;

TEST(TrainerAlone, TrainsToTheEnd) {
  TrialRig rig;
  ASSERT_EQ(rig.Run(1, 1, false), 0) << rig.Output();
  const std::vector<Event> events = rig.Events(1);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.front().kind, EventKind::kStarted);
  EXPECT_EQ(events.back().kind, EventKind::kFinished);
  EXPECT_EQ(events.back().step, 400);
  double first = 0, last = 0;
  for (const Event& e : events) {
    if (e.kind != EventKind::kMetrics) continue;
    for (const char* name : {"train.loss", "train.fvu", "train.l0", "train.dead_fraction", "tokens_per_second",
                             "ms.encode", "ms.update", "ms.data"}) {
      EXPECT_EQ(e.values.count(name), 1U) << name;
    }
    (e.step == 10 ? first : last) = e.values.at("train.fvu");
  }
  EXPECT_LT(last, 0.7 * first) << "it did not learn";
  EXPECT_LT(events.back().values.at("heldout.fvu"), 0.7 * first);
  EXPECT_LE(events.back().values.at("heldout.l0"), 4.0);
  EXPECT_NE(rig.RankLog(1, 0).find("step 400 of 400"), std::string::npos) << rig.RankLog(1, 0);
  EXPECT_NE(rig.Output().find("step 400 of 400"), std::string::npos) << "and on the terminal";
}

class TrainerSignals : public ::testing::TestWithParam<int> {};

TEST_P(TrainerSignals, SavesYieldsAndGoesOn) {
  TrialRig rig;
  rig.config.trial.train.tokens = 20000 * 64;
  const auto process = rig.Start(1, 1, false);
  ASSERT_TRUE(rig.WaitForEvent(1, EventKind::kMetrics, 10, *process)) << rig.Output();
  ASSERT_TRUE(process->Signal(GetParam()).ok());
  EXPECT_EQ(WaitFor(*process), 75) << rig.Output();
  const Event verdict = rig.Events(1).back();
  EXPECT_EQ(verdict.kind, EventKind::kYielded);
  EXPECT_FALSE(verdict.checkpoint.empty());
  EXPECT_TRUE(RealEnv().Exists(rig.checkpoints() + "/" + verdict.checkpoint + "/manifest.json"));
  rig.config.trial.train.tokens = static_cast<double>((verdict.step + 50) * 64);
  EXPECT_EQ(rig.Run(2, 1, false), 0) << rig.Output();
  EXPECT_EQ(rig.Events(2).front().from_step, verdict.step);
  EXPECT_EQ(rig.Events(2).back().kind, EventKind::kFinished);
}

INSTANTIATE_TEST_SUITE_P(All, TrainerSignals, ::testing::Values(SIGUSR1, SIGTERM, SIGINT));

TEST(TrainerAlone, EndsWhenItsLeaseHasPassed) {
  TrialRig rig;
  rig.config.trial.train.tokens = 1e9;
  rig.config.run.lease = true;
  const auto write = [&](absl::Duration from_now) {
    const std::int64_t at = absl::ToInt64Nanoseconds(RealClock().SinceBoot() + from_now);
    ASSERT_TRUE(RealEnv().MakeDirectories(rig.AttemptFolder(1)).ok());
    ASSERT_TRUE(WriteFileAtomically(RealEnv(), rig.AttemptFolder(1) + "/lease", std::to_string(at)).ok());
  };
  write(absl::Hours(1));
  const auto process = rig.Start(1, 1, false);
  ASSERT_TRUE(rig.WaitForEvent(1, EventKind::kMetrics, 10, *process)) << rig.Output();
  write(-absl::Seconds(1));
  EXPECT_EQ(WaitFor(*process), 75) << rig.Output();
  EXPECT_EQ(rig.Events(1).back().kind, EventKind::kYielded);
  EXPECT_EQ(rig.Events(1).back().message, "the lease has passed");
}

TEST(TrainerAlone, KilledItGoesOnFromItsCheckpoint) {
  TrialRig rig;
  rig.config.trial.train.tokens = 20000 * 64;
  rig.config.trial.train.checkpoint_every_seconds = 0.05;
  const auto process = rig.Start(1, 1, false);
  ASSERT_TRUE(rig.WaitForEvent(1, EventKind::kCheckpoint, 1, *process)) << rig.Output();
  ASSERT_TRUE(process->Signal(SIGKILL).ok());
  EXPECT_EQ(WaitFor(*process), 137);
  rig.config.trial.train.tokens = 20 * 64;
  rig.config.trial.train.checkpoint_every_seconds = 60;
  EXPECT_EQ(rig.Run(2, 1, false), 0) << rig.Output();
  EXPECT_GT(rig.Events(2).front().from_step, 0);
}

TEST(TrainerAlone, ARunInTheSameFolderNumbersItsEventsOn) {
  TrialRig rig;
  ASSERT_EQ(rig.Run(1, 1, false), 0);
  ASSERT_EQ(rig.Run(1, 1, false), 0) << rig.Output();
  const std::vector<Event> events = rig.Events(1);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
}

TEST(TrainerAlone, CheckPrintsAndTouchesNothing) {
  TrialRig rig;
  config::RunConfig config = rig.config;
  config.run.directory = rig.folder() + "/absent";
  ASSERT_EQ(rig.RunJson(config::ToJson(config), {"--check", "-o", "json"}), 0) << rig.Output();
  const auto j = nlohmann::json::parse(rig.Output());
  EXPECT_EQ(j["steps"], 400);
  EXPECT_EQ(j["d"], TrialRig::kWidth);
  EXPECT_FALSE(RealEnv().Exists(rig.folder() + "/absent"));
  EXPECT_FALSE(RealEnv().Exists(rig.checkpoints()));
}

}  // namespace
}  // namespace sae::testing
