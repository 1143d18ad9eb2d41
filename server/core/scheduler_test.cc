#include "server/core/scheduler.h"

#include <gtest/gtest.h>

#include "server/testing/plan_fixture.h"

namespace sae::server::testing {
namespace {
using Placed = std::map<std::string, std::string>;
constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;

Wait OnlyWait(const World& world) {
  const Schedule schedule = PlanOf(world);
  EXPECT_EQ(schedule.waits.size(), 1U);
  return schedule.waits.empty() ? Wait{} : schedule.waits[0].wait;
}

TEST(Scheduler, AGangIsNotSplitWherePeersCannotBeReached) {
  const World world{{MakeTrial(0, 4)}, {MakeWorker("a", 2, 2), MakeWorker("b", 2, 2)}};
  EXPECT_EQ(PlacedIn(world), Placed());
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kTooLarge);
  EXPECT_EQ(OnlyWait(world).text, "needs 4 slots; the largest worker has 2");
}

TEST(Scheduler, FirstComeFirstServed) {
  const World world{{MakeTrial(0, 1), MakeTrial(1, 1), MakeTrial(2, 1)}, {MakeWorker("a", 2, 2)}};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a"}, {"s/1", "a"}}));
  const Schedule schedule = PlanOf(world);
  ASSERT_EQ(schedule.waits.size(), 1U);
  EXPECT_EQ(schedule.waits[0].trials, 1);
  EXPECT_EQ(schedule.waits[0].wait.text, "waiting for a free slot");
}

TEST(Scheduler, ALargeGangIsNotStarvedBySmallOnes) {
  EXPECT_EQ(PlacedIn({{MakeTrial(0, 4), MakeTrial(1, 1)}, {MakeWorker("a", 4, 2)}}), Placed());
  // With a second worker the small one need not wait.
  EXPECT_EQ(PlacedIn({{MakeTrial(0, 4), MakeTrial(1, 1)},
                      {MakeWorker("a", 4, 2), MakeWorker("b", 1, 1)}}),
            (Placed{{"s/1", "b"}}));
}

TEST(Scheduler, AGangThatFitsNowhereBlocksNobody) {
  EXPECT_EQ(PlacedIn({{MakeTrial(0, 8), MakeTrial(1, 2)}, {MakeWorker("a", 2, 2)}}),
            (Placed{{"s/1", "a"}}));
}

TEST(Scheduler, SmallGapsAreFilledFirst) {
  EXPECT_EQ(PlacedIn({{MakeTrial(0, 1), MakeTrial(1, 4)},
                      {MakeWorker("a", 4, 4), MakeWorker("b", 4, 1)}}),
            (Placed{{"s/0", "b"}, {"s/1", "a"}}));
}

TEST(Scheduler, ACheckpointTiesATrialToItsRunsFolder) {
  const std::vector<SchedulableWorker> workers = {MakeWorker("a", 4, 4, "r1"),
                                                  MakeWorker("b", 4, 1, "r2")};
  EXPECT_EQ(PlacedIn({{MakeTrial(0, 1, "r2"), MakeTrial(1, 1, "r2")}, workers}),
            (Placed{{"s/0", "b"}}));
  EXPECT_EQ(OnlyWait({{MakeTrial(0, 1, "r3")}, workers}).text,
            "its checkpoint is in runs folder /r3, no worker shares it");
  const Wait small = OnlyWait({{MakeTrial(0, 8, "r2")}, workers});
  EXPECT_EQ(small.reason, WaitReason::kCheckpointSlots);
  EXPECT_EQ(small.text,
            "needs 8 slots; its checkpoint is in runs folder /r2, whose largest worker has 4");
}

TEST(Scheduler, PrefersTheCheckpointsWorkerAndAvoidsTheOneItFailedOn) {
  World world{{MakeTrial(0, 1, "r")}, {MakeWorker("a", 2, 2), MakeWorker("b", 2, 2)}};
  world.trials[0].prefer = "b";
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "b"}}));
  world.trials[0].avoid = {"b"};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a"}}));
  world.workers = {MakeWorker("b", 2, 2)};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "b"}}));
}

TEST(Scheduler, MaxConcurrentHoldsTrialsBack) {
  World world{{MakeTrial(1, 1), MakeTrial(2, 1)}, {MakeWorker("a", 8, 8)}};
  world.sweeps = {MakeTerms("s")};
  world.sweeps[0].room = 1;
  world.sweeps[0].max_concurrent = 3;
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/1", "a"}}));
  EXPECT_EQ(OnlyWait(world).text, "waiting: maxConcurrent = 3 of its sweep are running");
}

TEST(Scheduler, SaysWhenThereIsNoWorker) {
  EXPECT_EQ(OnlyWait({{MakeTrial(0, 1)}, {}}).text, "no worker is registered");
}

TEST(Scheduler, SaysWhatIsFreeAndWhatIsMissing) {
  EXPECT_EQ(OnlyWait({{MakeTrial(0, 8)}, {MakeWorker("a", 8, 4), MakeWorker("b", 8, 1)}}).text,
            "needs 8 slots on one worker; the largest free is 4");
  World paused{{MakeTrial(0, 1)}, {MakeWorker("a", 1, 1)}, {MakeTerms("s")}};
  paused.sweeps[0].paused = true;
  EXPECT_EQ(OnlyWait(paused).text, "its sweep is paused");
}

TEST(Scheduler, NothingStartsOnACordonedWorker) {
  World world{{MakeTrial(0, 4)}, {MakeWorker("w1", 8, 8), MakeWorker("w2", 2, 2)}};
  world.workers[0].cordon = "3 GPU_FAULT";
  EXPECT_EQ(PlacedIn(world), Placed());
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kCordoned);
  EXPECT_EQ(OnlyWait(world).text, "all workers with enough slots are cordoned: w1 (3 GPU_FAULT)");
}

TEST(Scheduler, MemoryIsPlanned) {
  World world{{MakeTrial(0, 1)}, {MakeWorker("a", 4, 2)}};
  world.trials[0].memory = 4 * kGibibyte;
  world.workers[0].memory = 16 * kGibibyte;
  world.workers[0].memory_used = 14 * kGibibyte;
  EXPECT_EQ(PlacedIn(world), Placed());
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kMemory);
  EXPECT_EQ(
      OnlyWait(world).text,
      "needs 4.2 GiB of memory on one worker; the most that is free beside 1 slot is 2.0 GiB");
  world.workers[0].memory_used = 11 * kGibibyte;
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a"}}));
  // Of two that hold it, the one that it fills best.
  world.workers.push_back(MakeWorker("b", 4, 2));
  world.workers[1].memory = 64 * kGibibyte;
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a"}}));
  world.workers[0].memory = 128 * kGibibyte;
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "b"}}));
  // Alone on a worker it is tried, whatever the plan says.
  World alone{world.trials, {MakeWorker("a", 1, 1)}};
  alone.workers[0].memory = kGibibyte;
  EXPECT_EQ(PlacedIn(alone), (Placed{{"s/0", "a"}}));
}

TEST(Scheduler, SeveralWorkersHoldAGangThatNoneCouldHoldAlone) {
  World world{
      {MakeTrial(0, 6)},
      {MakePeer("a", 4, 4), MakePeer("b", 4, 1), MakePeer("c", 4, 3), MakeWorker("d", 4, 4)}};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a:4 c:2"}}));
  world.trials[0].prefer = "c";
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "c:2 a:4"}}));
  // One that is large enough is waited for.
  world.workers.push_back(MakeWorker("e", 8, 2));
  EXPECT_EQ(PlacedIn(world), Placed());
  EXPECT_EQ(OnlyWait(world).text, "needs 6 slots on one worker; the largest free is 2");
  world.workers.pop_back();
  world.sweeps = {MakeTerms("s")};
  world.sweeps[0].topology = Topology::kSameNode;
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kTooLarge);
}

TEST(Scheduler, SeveralWorkersShareARunsFolderAndARack) {
  World world{{MakeTrial(0, 6)},
              {MakePeer("a", 4, 4, "x", "r1"), MakePeer("b", 4, 4, "x", "r2"),
               MakePeer("c", 4, 2, "y", "r2"), MakePeer("d", 4, 4, "", "r3"),
               MakePeer("e", 4, 4, "", "r3")}};
  world.sweeps = {MakeTerms("s")};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "b:4 c:2"}}));
  world.sweeps[0].topology = Topology::kSameRack;
  EXPECT_EQ(PlacedIn(world), Placed());
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kTooLarge) << "an unknown rack is no rack";
  world.workers[2].rack = "x";
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "b:4 c:2"}}));
  world.workers[1].free = 3;
  EXPECT_EQ(OnlyWait(world).text,
            "needs 6 slots over several workers; 5 of the 8 that can share a gang are free");
}

TEST(Scheduler, HigherPriorityGoesFirst) {
  World world{MakeTrials("low", 1, 1),
              {MakeWorker("a", 1, 1)},
              {MakeTerms("low", 10), MakeTerms("high", 20)}};
  world.trials.push_back(MakeTrials("high", 1, 1)[0]);
  EXPECT_EQ(PlacedIn(world), (Placed{{"high/0", "a"}}));
}

TEST(Scheduler, QueuesShareByWeightThenOwnersThenSubmission) {
  World world;
  world.workers = {MakeWorker("a", 8, 6)};
  world.sweeps = {MakeTerms("s1", 0, "q", "ann"), MakeTerms("s2", 0, "q", "bob"),
                  MakeTerms("s3", 0, "p", "ann")};
  world.queues["q"] = {0, 2, 0, {}};
  world.queues["p"] = {0, 1, 0, {}};
  for (const char* sweep : {"s1", "s2", "s3"}) {
    for (SchedulableTrial& trial : MakeTrials(sweep, 6, 1)) world.trials.push_back(trial);
  }
  EXPECT_EQ(PlacedIn(world), (Placed{{"s1/0", "a"},
                                     {"s1/1", "a"},
                                     {"s2/0", "a"},
                                     {"s2/1", "a"},
                                     {"s3/0", "a"},
                                     {"s3/1", "a"}}));
  // What they hold already counts.
  world.queues["q"] = {0, 2, 4, {{"ann", 4}}};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s2/0", "a"},
                                     {"s2/1", "a"},
                                     {"s2/2", "a"},
                                     {"s3/0", "a"},
                                     {"s3/1", "a"},
                                     {"s3/2", "a"}}));
}

TEST(Scheduler, AQuotaIsAHardLimit) {
  World world{MakeTrials("s", 3, 2), {MakeWorker("a", 8, 8)}, {MakeTerms("s", 0, "research")}};
  world.queues["research"] = {16, 1, 13, {}};
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/0", "a"}}));
  EXPECT_EQ(OnlyWait(world).reason, WaitReason::kQuota);
  EXPECT_EQ(OnlyWait(world).text, "needs 2 slots; queue research uses 15 of its quota of 16 slots");
}

TEST(Scheduler, InASweepTheOrderGoesBeforeTheIndex) {
  World world{MakeTrials("s", 3, 1), {MakeWorker("a", 2, 2)}};
  world.trials[2].order = -1;
  EXPECT_EQ(PlacedIn(world), (Placed{{"s/2", "a"}, {"s/0", "a"}}));
}

TEST(Scheduler, ManyThatWaitCostNoMoreThanOne) {
  World world{MakeTrials("s", 20000, 2), {MakeWorker("a", 4, 1)}};
  const Schedule schedule = PlanOf(world);
  ASSERT_EQ(schedule.waits.size(), 1U);
  EXPECT_EQ(schedule.waits[0].trials, 20000);
}

TEST(PlannedMemory, IsRoundedUpByAtMostAnEighth) {
  EXPECT_EQ(PlannedMemory(0), 0);
  EXPECT_EQ(PlannedMemory(kGibibyte), kGibibyte);
  for (std::int64_t bytes = 1; bytes < 5000; ++bytes) {
    EXPECT_GE(PlannedMemory(bytes), bytes);
    EXPECT_LE(PlannedMemory(bytes) * 8, bytes * 9);
    EXPECT_EQ(PlannedMemory(PlannedMemory(bytes)), PlannedMemory(bytes));
  }
}

}  // namespace
}  // namespace sae::server::testing
