#include "server/core/scheduler.h"

#include <gtest/gtest.h>

namespace sae::server {
namespace {

SchedulableTrial Trial(int index, int slots, const std::string& runs_id = "") {
  SchedulableTrial trial;
  trial.sweep = "s";
  trial.index = index;
  trial.slots = slots;
  trial.runs_id = runs_id;
  return trial;
}

std::map<std::size_t, std::string> Placed(const Schedule& schedule,
                                          const std::vector<SchedulableWorker>& workers) {
  std::map<std::size_t, std::string> out;
  for (const Placement& p : schedule.placements) out[p.trial] = workers[p.worker].id;
  return out;
}
using Places = std::map<std::size_t, std::string>;

TEST(Scheduler, GangsAreNeverSplit) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 2, 2}, {"b", "r", 2, 2}};
  const Schedule schedule = Plan({Trial(0, 4)}, workers, {});
  EXPECT_TRUE(schedule.placements.empty());
  ASSERT_EQ(schedule.waits.size(), 1u);
  EXPECT_EQ(schedule.waits[0].reason, WaitReason::kTooLarge);
  EXPECT_EQ(schedule.waits[0].largest, 2);
}

TEST(Scheduler, FirstComeFirstServed) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 2, 2}};
  const Schedule schedule = Plan({Trial(0, 1), Trial(1, 1), Trial(2, 1)}, workers, {});
  EXPECT_EQ(Placed(schedule, workers), (Places{{0, "a"}, {1, "a"}}));
  EXPECT_EQ(schedule.waits[0].reason, WaitReason::kSlotsBusy);
}

TEST(Scheduler, ALargeGangIsNotStarvedBySmallOnes) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 4, 2}};
  const Schedule schedule = Plan({Trial(0, 4), Trial(1, 1)}, workers, {});
  EXPECT_TRUE(schedule.placements.empty());
  // With a second worker the small one need not wait.
  const std::vector<SchedulableWorker> two = {{"a", "r", 4, 2}, {"b", "r", 1, 1}};
  EXPECT_EQ(Placed(Plan({Trial(0, 4), Trial(1, 1)}, two, {}), two), (Places{{1, "b"}}));
}

TEST(Scheduler, AGangThatFitsNowhereBlocksNobody) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 2, 2}};
  EXPECT_EQ(Placed(Plan({Trial(0, 8), Trial(1, 2)}, workers, {}), workers), (Places{{1, "a"}}));
}

TEST(Scheduler, SmallGapsAreFilledFirst) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 4, 4}, {"b", "r", 4, 1}};
  EXPECT_EQ(Placed(Plan({Trial(0, 1), Trial(1, 4)}, workers, {}), workers),
            (Places{{0, "b"}, {1, "a"}}));
}

TEST(Scheduler, ACheckpointTiesATrialToItsRunsFolder) {
  const std::vector<SchedulableWorker> workers = {{"a", "r1", 4, 4}, {"b", "r2", 4, 1}};
  EXPECT_EQ(Placed(Plan({Trial(0, 1, "r2"), Trial(1, 1, "r2")}, workers, {}), workers),
            (Places{{0, "b"}}));
  EXPECT_EQ(Plan({Trial(0, 1, "r3")}, workers, {}).waits[0].reason, WaitReason::kCheckpoint);
  const Wait small = Plan({Trial(0, 8, "r2")}, workers, {}).waits[0];
  EXPECT_EQ(small.reason, WaitReason::kCheckpointSlots);
  EXPECT_EQ(small.largest, 4);
}

TEST(Scheduler, PrefersTheCheckpointsWorkerAndAvoidsTheOneItFailedOn) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 2, 2}, {"b", "r", 2, 2}};
  SchedulableTrial trial = Trial(0, 1, "r");
  trial.prefer = "b";
  EXPECT_EQ(Placed(Plan({trial}, workers, {}), workers), (Places{{0, "b"}}));
  trial.avoid = "b";
  EXPECT_EQ(Placed(Plan({trial}, workers, {}), workers), (Places{{0, "a"}}));
  const std::vector<SchedulableWorker> only = {{"b", "r", 2, 2}};
  EXPECT_EQ(Placed(Plan({trial}, only, {}), only), (Places{{0, "b"}}));
}

TEST(Scheduler, MaxConcurrentAndBackOffHoldTrialsBack) {
  const std::vector<SchedulableWorker> workers = {{"a", "r", 8, 8}};
  SchedulableTrial delayed = Trial(0, 1);
  delayed.delayed = true;
  const Schedule schedule = Plan({delayed, Trial(1, 1), Trial(2, 1)}, workers, {{"s", 1}});
  EXPECT_EQ(Placed(schedule, workers), (Places{{1, "a"}}));
  EXPECT_EQ(schedule.waits[0].reason, WaitReason::kBackOff);
  EXPECT_EQ(schedule.waits[1].reason, WaitReason::kConcurrency);
}

TEST(Scheduler, SaysWhenThereIsNoWorker) {
  EXPECT_EQ(Plan({Trial(0, 1)}, {}, {}).waits[0].reason, WaitReason::kNoWorker);
}

}  // namespace
}  // namespace sae::server
