// saeloom-trainer with several run configs: one process, one stream, a verdict for each trial.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
using config::Event;
using config::EventKind;

constexpr double kLong = 200000.0 * 64;  // tokens: more than a test waits for

void WriteLease(const TrialRig& rig, int member, absl::Duration deadline) {
  const std::string path = rig.AttemptFolder(member) + "/lease";
  std::filesystem::create_directories(rig.AttemptFolder(member));
  std::ofstream(path + ".new") << absl::ToInt64Nanoseconds(deadline) << "\n";
  std::filesystem::rename(path + ".new", path);
}

TEST(TrainerGang, EachTrialHasItsOwnEventsCheckpointsAndVerdict) {
  TrialRig rig;
  const auto process = rig.StartGang({1, 2, 3}, 1, false, [](int member, auto& c) {
    c.trial.sae.k = 2 * member;
    c.trial.train.tokens = 64.0 * 100 * member;
  });
  ASSERT_EQ(WaitFor(*process), 0) << rig.Output();
  for (const int member : {1, 2, 3}) {
    const std::vector<Event> events = rig.Events(member);
    EXPECT_EQ(events.front().kind, EventKind::kStarted);
    EXPECT_EQ(events.back().kind, EventKind::kFinished);
    EXPECT_EQ(events.back().step, 100 * member);
    EXPECT_GT(events.back().values.at("heldout.l0"), 0);
    EXPECT_TRUE(RealEnv().Exists(absl::StrCat(rig.AttemptFolder(member), "/checkpoints")));
    EXPECT_NE(rig.RankLog(member, 0).find(absl::StrCat("trial 000", member, ": step")), std::string::npos);
  }
}

TEST(TrainerGang, ASignalLetsAllYieldAndTheyGoOnTogether) {
  TrialRig rig;
  const auto long_run = [](int, auto& c) { c.trial.train.tokens = kLong; };
  const auto process = rig.StartGang({1, 2}, 1, false, long_run);
  ASSERT_TRUE(rig.WaitForEvent(2, EventKind::kMetrics, 10, *process)) << rig.Output();
  ::kill(process->pid(), SIGUSR1);
  ASSERT_EQ(WaitFor(*process), 75) << rig.Output();
  for (const int member : {1, 2}) EXPECT_EQ(rig.Events(member).back().kind, EventKind::kYielded);
  const std::int64_t reached = rig.Events(1).back().step;
  const auto again = rig.StartGang({1, 2}, 1, false, [&](int, auto& c) {
    c.trial.train.tokens = static_cast<double>((reached + 20) * 64);
  });
  ASSERT_EQ(WaitFor(*again), 0) << rig.Output();
  EXPECT_EQ(rig.Events(1).back().kind, EventKind::kFinished);
}

TEST(TrainerGang, ALeaseThatPassesTakesItsTrialAlone) {
  TrialRig rig;
  const absl::Duration later = RealClock().SinceBoot() + absl::Hours(1);
  for (const int member : {1, 2}) WriteLease(rig, member, later);
  const auto process = rig.StartGang({1, 2}, 1, false, [](int member, auto& c) {
    c.trial.train.tokens = member == 1 ? kLong : 64.0 * 400;
    c.run.lease = true;
  });
  ASSERT_TRUE(rig.WaitForEvent(1, EventKind::kMetrics, 10, *process)) << rig.Output();
  WriteLease(rig, 1, absl::Seconds(1));
  ASSERT_EQ(WaitFor(*process), 75) << rig.Output();
  EXPECT_EQ(rig.Events(1).back().kind, EventKind::kYielded);
  EXPECT_EQ(rig.Events(1).back().message, "the lease has passed");
  EXPECT_EQ(rig.Events(2).back().kind, EventKind::kFinished);
}

TEST(TrainerGang, OneThatDivergesFailsAlone) {
  TrialRig rig;
  const auto process = rig.StartGang({1, 2}, 1, false, [](int member, auto& c) {
    if (member == 1) c.trial.train.lr = 1e30;
  });
  ASSERT_EQ(WaitFor(*process), 93) << rig.Output();
  EXPECT_EQ(rig.Events(1).back().kind, EventKind::kFailed);
  EXPECT_EQ(rig.Events(1).back().values.at("exit_code"), 93);
  EXPECT_EQ(rig.Events(2).back().kind, EventKind::kFinished);
}

TEST(TrainerGang, TrialsThatCannotShareAreRefusedByName) {
  TrialRig rig;
  const auto process = rig.StartGang({1, 2}, 1, false, [](int member, auto& c) { c.trial.train.batch = 32 * member; });
  ASSERT_EQ(WaitFor(*process), 78);
  EXPECT_NE(rig.Output().find("trial 0002: trial.train.batch is \"64\", that of trial 0001 \"32\""), std::string::npos)
      << rig.Output();
  EXPECT_TRUE(rig.Events(1).empty());
}

}  // namespace
}  // namespace sae::testing
