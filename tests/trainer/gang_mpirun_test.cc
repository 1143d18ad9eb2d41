// A gang of trials over two ranks, as a worker runs it.
#include <gtest/gtest.h>

#include <csignal>

#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
using config::Event;
using config::EventKind;

TEST(TrainerGangMpirun, FinishesAndFailsTrialByTrial) {
  if (!HaveMpi()) GTEST_SKIP() << "no mpirun, or built without MPI";
  TrialRig rig;
  const auto process = rig.StartGang({1, 2, 3}, 2, true, [](int member, auto& c) {
    c.trial.sae.k = 2 * member;
    if (member == 2) c.trial.train.lr = 1e30;
  });
  ASSERT_EQ(WaitFor(*process), 93) << rig.Output();
  EXPECT_EQ(rig.Events(1).back().kind, EventKind::kFinished);
  EXPECT_EQ(rig.Events(2).back().kind, EventKind::kFailed);
  EXPECT_EQ(rig.Events(3).back().kind, EventKind::kFinished);
  EXPECT_NE(rig.RankLog(3, 1).find("[rank 1]"), std::string::npos) << rig.RankLog(3, 1);
}

TEST(TrainerGangMpirun, AKilledRankEndsThemAllAndTheyGoOn) {
  if (!HaveMpi()) GTEST_SKIP() << "no mpirun, or built without MPI";
  TrialRig rig;
  const auto process = rig.StartGang({1, 2}, 2, true, [](int, auto& c) {
    c.trial.train.tokens = 200000.0 * 64;
    c.trial.train.checkpoint_every_seconds = 0.1;
  });
  for (const int member : {1, 2})
    ASSERT_TRUE(rig.WaitForEvent(member, EventKind::kCheckpoint, 1, *process)) << rig.Output();
  const std::vector<int> pids = TrainerPids(rig.AttemptFolder(1));
  ASSERT_EQ(pids.size(), 2U);
  ::kill(pids.back(), SIGKILL);
  EXPECT_EQ(WaitFor(*process), 137) << rig.Output();
  std::int64_t reached = 0;
  for (const int member : {1, 2}) reached = std::max(reached, rig.Events(member).back().step);
  const auto again = rig.StartGang({1, 2}, 2, true, [&](int, auto& c) {
    c.trial.train.tokens = static_cast<double>((reached + 20) * 64);
  });
  ASSERT_EQ(WaitFor(*again), 0) << rig.Output();
  for (const int member : {1, 2}) EXPECT_EQ(rig.Events(member).back().kind, EventKind::kFinished);
}

}  // namespace
}  // namespace sae::testing
