// saeloom-trainer under mpirun, two ranks: as a worker runs it.
#include <gtest/gtest.h>

#include <csignal>
#include <map>

#include "sae/base/env.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
using config::Event;
using config::EventKind;

class TrainerMpirun : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HaveMpi()) GTEST_SKIP() << "no mpirun, or built without MPI";
  }
  /// Each step of the effective curve once: points beyond a later attempt's from_step do not count.
  static void ExpectEachStepOnce(const TrialRig& rig, int attempts, std::int64_t last_step, std::int64_t every) {
    std::map<std::int64_t, int> seen;
    for (int a = 1; a <= attempts; ++a) {
      for (const Event& e : rig.Events(a)) {
        if (e.kind == EventKind::kStarted) seen.erase(seen.upper_bound(e.from_step), seen.end());
        if (e.kind == EventKind::kMetrics) ++seen[e.step];
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), last_step / every);
    for (const auto& [step, count] : seen) EXPECT_EQ(count, 1) << "step " << step;
  }
  TrialRig rig_;
};

TEST_F(TrainerMpirun, TrainsToTheEnd) {
  ASSERT_EQ(rig_.Run(1, 2, true), 0) << rig_.Output();
  EXPECT_EQ(rig_.Events(1).back().kind, EventKind::kFinished);
  ExpectEachStepOnce(rig_, 1, 400, 10);
  EXPECT_NE(rig_.RankLog(1, 0).find("step 400 of 400"), std::string::npos);
  EXPECT_TRUE(RealEnv().Exists(rig_.AttemptFolder(1) + "/rank-1.log"));
}

TEST_F(TrainerMpirun, OneRankAloneUnderMpirunWorks) {
  EXPECT_EQ(rig_.Run(1, 1, true), 0) << rig_.Output();
}

TEST_F(TrainerMpirun, AKilledRankEndsTheGangAndARerunGoesOn) {
  rig_.config.trial.train.tokens = 5000 * 64;
  rig_.config.trial.train.checkpoint_every_seconds = 0.1;
  const auto process = rig_.Start(1, 2, true);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kCheckpoint, 1, *process)) << rig_.Output();
  const std::vector<int> pids = TrainerPids(rig_.AttemptFolder(1));
  ASSERT_EQ(pids.size(), 2U);
  ::kill(pids.back(), SIGKILL);
  EXPECT_EQ(WaitFor(*process), 137) << rig_.Output();
  EXPECT_TRUE(TrainerPids(rig_.AttemptFolder(1)).empty());
  const std::int64_t reached = rig_.Events(1).back().step;
  const std::int64_t total = (reached / 10 + 10) * 10;
  rig_.config.trial.train.tokens = static_cast<double>(total * 64);
  rig_.config.trial.train.checkpoint_every_seconds = 60;
  EXPECT_EQ(rig_.Run(2, 2, true), 0) << rig_.Output();
  EXPECT_GT(rig_.Events(2).front().from_step, 0);
  EXPECT_EQ(rig_.Events(2).back().kind, EventKind::kFinished);
  ExpectEachStepOnce(rig_, 2, total, 10);
}

TEST_F(TrainerMpirun, NoticeToMpirunSavesAndYields) {
  rig_.config.trial.train.tokens = 1e9;
  const auto process = rig_.Start(1, 2, true);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kMetrics, 10, *process)) << rig_.Output();
  ASSERT_TRUE(process->Signal(SIGUSR1).ok());
  EXPECT_EQ(WaitFor(*process), 75) << rig_.Output();
  const Event verdict = rig_.Events(1).back();
  EXPECT_EQ(verdict.kind, EventKind::kYielded);
  EXPECT_TRUE(RealEnv().Exists(rig_.checkpoints() + "/" + verdict.checkpoint + "/manifest.json"));
}

class LauncherDeath : public TrainerMpirun, public ::testing::WithParamInterface<int> {};

TEST_P(LauncherDeath, LeavesNoRankBehindAndACheckpointToGoOnFrom) {
  rig_.config.trial.train.tokens = 1e9;
  rig_.config.trial.train.checkpoint_every_seconds = 0.1;
  const auto process = rig_.Start(1, 2, true);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kCheckpoint, 1, *process)) << rig_.Output();
  ASSERT_TRUE(process->Signal(GetParam()).ok());
  EXPECT_NE(WaitFor(*process), 0);
  EXPECT_TRUE(WaitUntil([&] { return TrainerPids(rig_.AttemptFolder(1)).empty(); }));
  rig_.config.trial.train.tokens = 64;
  EXPECT_EQ(rig_.Run(2, 2, true), 0) << rig_.Output();
  EXPECT_GT(rig_.Events(2).front().from_step, 0);
}

INSTANTIATE_TEST_SUITE_P(All, LauncherDeath, ::testing::Values(SIGTERM, SIGKILL));

TEST_F(TrainerMpirun, ARankThatHangsIsNamedAndTheGangEnds) {
  rig_.config.trial.train.tokens = 1e9;
  rig_.config.run.watchdog_seconds = 3;
  const auto process = rig_.Start(1, 2, true);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kMetrics, 10, *process)) << rig_.Output();
  int stopped = 0;
  for (const int pid : TrainerPids(rig_.AttemptFolder(1))) {
    if (RankOf(pid) == 1) stopped = pid;
  }
  ASSERT_NE(stopped, 0);
  ::kill(stopped, SIGSTOP);
  EXPECT_EQ(WaitFor(*process), 1) << rig_.Output();
  const Event verdict = rig_.Events(1).back();
  EXPECT_EQ(verdict.kind, EventKind::kFailed);
  EXPECT_NE(verdict.message.find("DEADLINE_EXCEEDED"), std::string::npos) << verdict.message;
  EXPECT_NE(verdict.message.find("rank 1"), std::string::npos) << verdict.message;
  EXPECT_GT(verdict.step, 0);
  EXPECT_TRUE(WaitUntil([&] { return TrainerPids(rig_.AttemptFolder(1)).empty(); }));
}

TEST_F(TrainerMpirun, ACheckpointOfOneRankGoesOnAtTwo) {
  rig_.config.trial.train.tokens = 20000 * 64;
  const auto process = rig_.Start(1, 1, false);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kMetrics, 20, *process)) << rig_.Output();
  ASSERT_TRUE(process->Signal(SIGUSR1).ok());
  ASSERT_EQ(WaitFor(*process), 75);
  const std::int64_t step = rig_.Events(1).back().step;
  rig_.config.trial.train.tokens = static_cast<double>((step / 10 + 5) * 10 * 64);
  EXPECT_EQ(rig_.Run(2, 2, true), 0) << rig_.Output();
  EXPECT_EQ(rig_.Events(2).front().from_step, step);
}

TEST_F(TrainerMpirun, AnotherNumberOfProcessesIsOneMessage) {
  EXPECT_EQ(rig_.Run(1, 2, true, 4), 78) << rig_.Output();
  const std::string output = rig_.Output();
  const std::size_t first = output.find("trial.ranks is 4 but 2 processes were started");
  EXPECT_NE(first, std::string::npos) << output;
  EXPECT_EQ(output.find("trial.ranks is 4", first + 1), std::string::npos) << output;
  EXPECT_TRUE(rig_.Events(1).empty());
}

TEST_F(TrainerMpirun, ABadConfigIsOneMessageAnd78) {
  rig_.config.trial.sae.k = 65;
  EXPECT_EQ(rig_.Run(1, 2, true), 78) << rig_.Output();
  const std::string output = rig_.Output();
  const std::size_t first = output.find("sae.k: 65 is more than sae.latents 64");
  EXPECT_NE(first, std::string::npos) << output;
  EXPECT_EQ(output.find("sae.k: 65", first + 1), std::string::npos) << output;
  EXPECT_TRUE(rig_.Events(1).empty());
}

TEST_F(TrainerMpirun, AFailureOfAllRanksHasItsVerdictAndCode) {
  rig_.config.run.store_hash = "xxh3:0123456789abcdef";
  EXPECT_EQ(rig_.Run(1, 2, true), 78) << rig_.Output();
  EXPECT_EQ(rig_.Events(1).back().kind, EventKind::kFailed);
}

}  // namespace
}  // namespace sae::testing
