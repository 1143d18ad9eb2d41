// Queues, cordons and preemption in the core.
#include "server/core/worker_health.h"
#include "server/testing/fleet_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using State = AttemptStatus::State;

class FleetCoreTest : public FleetTest {
 protected:
  config::SweepSpec Spec(const std::string& name, int trials, std::int64_t priority = 0,
                         const std::string& queue = "", int ranks = 1) {
    config::SweepSpec spec = MakeSpec(name, trials, ranks);
    spec.priority = priority;
    spec.queue = queue;
    spec.pack = 1;
    return spec;
  }
  AttemptStatus Of(const std::string& sweep, AttemptStatus status) {
    status.key.sweep = sweep;
    return status;
  }
  AttemptStatus Failed(const std::string& trial, int attempt, FailureClass failure) {
    AttemptStatus status = Ended(trial, attempt, 1, "failed");
    status.failure_class = failure;
    return status;
  }
  std::int64_t LiveOf(const std::string& sweep) {
    return static_cast<std::int64_t>(Sweep(sweep).live.size());
  }
};

TEST_F(FleetCoreTest, AQueueIsMadeChangedAndFoundAgain) {
  EXPECT_EQ(core_->state().fleet().queues.size(), 1U) << "the default one is always there";
  ASSERT_TRUE(core_->UpdateQueue("research", {16, 2}, "id-1").ok());
  ASSERT_TRUE(core_->UpdateQueue("research", {99, 9}, "id-1").ok()) << "said before";
  EXPECT_EQ(core_->state().fleet().queues.at("research"), (QueueRecord{16, 2}));
  EXPECT_EQ(core_->head(""), 1);
  const absl::Status bad = core_->UpdateQueue("Re search", {-1, 0}, "");
  EXPECT_TRUE(absl::IsInvalidArgument(bad));
  EXPECT_THAT(std::string(bad.message()), HasSubstr("queue.quota_slots: -1, must be >= 0"));
  EXPECT_THAT(std::string(bad.message()), HasSubstr("queue.weight: 0"));
  CheckReplay();
  Restart();
  EXPECT_EQ(core_->state().fleet().queues.at("research"), (QueueRecord{16, 2}));
  EXPECT_EQ(core_->head(""), 1);
}

TEST_F(FleetCoreTest, ASweepNamesAQueueThatExists) {
  const auto prepared = PrepareSweep(Spec("s", 1, 0, "research"), 1000);
  ASSERT_TRUE(prepared.ok());
  const absl::Status status = core_->CreateSweep(*prepared, "");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("there is no queue \"research\"; there are default"));
  ASSERT_TRUE(core_->UpdateQueue("research", {}, "").ok());
  EXPECT_TRUE(core_->CreateSweep(*prepared, "").ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(core_->UpdateSweep("s", SweepUpdated{{}, {}, "other", {}}, "", {})));
}

TEST_F(FleetCoreTest, AQuotaIsNeverExceededAndMayChange) {
  ASSERT_TRUE(core_->UpdateQueue("research", {2, 1}, "").ok());
  Register(Registration("w", 8));
  Create(Spec("s", 5, 0, "research"));
  EXPECT_EQ(LiveOf("s"), 2);
  EXPECT_EQ(Reason(2), "needs 1 slot; queue research uses 2 of its quota of 2 slots");
  EXPECT_EQ((core_->waiting().at({"research", WaitReason::kQuota})), 3);
  Create(Spec("t", 2));
  EXPECT_EQ(LiveOf("t"), 2) << "another queue is not concerned";
  ASSERT_TRUE(core_->UpdateQueue("research", {4, 1}, "").ok());
  core_->Tick();
  EXPECT_EQ(LiveOf("s"), 4);
  // What is over it already runs on.
  ASSERT_TRUE(core_->UpdateQueue("research", {1, 1}, "").ok());
  core_->Tick();
  EXPECT_EQ(LiveOf("s"), 4);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_EQ(LiveOf("s"), 3);
  CheckReplay();
}

TEST_F(FleetCoreTest, MaxConcurrentAndPriorityCanChangeLive) {
  Register(Registration("w", 4));
  config::SweepSpec spec = Spec("s", 6);
  spec.max_concurrent = 1;
  Create(spec);
  EXPECT_EQ(LiveOf("s"), 1);
  SweepUpdated update;
  update.max_concurrent = 3;
  ASSERT_TRUE(core_->UpdateSweep("s", update, "", {}).ok());
  core_->Tick();
  EXPECT_EQ(LiveOf("s"), 3);
}

TEST_F(FleetCoreTest, HigherPriorityTakesWhatLowerOnesSaveAndGiveUp) {
  Register(Registration("w", 2));
  Create(Spec("s", 2, 10));
  core_->CommandsFor("w");
  ASSERT_TRUE(
      Beat("w", {Status("0000", 1, State::kStarting), Status("0001", 1, State::kStarting)}).ok());
  clock_.Advance(absl::Seconds(1));
  Create(Spec("urgent", 1, 50, "", 2));
  EXPECT_EQ(StateOf(0), TrialState::kCheckpointing);
  EXPECT_EQ(StateOf(1), TrialState::kCheckpointing);
  EXPECT_EQ(Reason(0), "makes room for trial 0000 of sweep urgent, priority 50");
  EXPECT_EQ(core_->ReasonOf(Sweep("urgent"), Trial(0, "urgent")),
            "waiting for 2 slots that others are giving up");
  EXPECT_THAT(Commands("w"), ElementsAre("save and stop 0000/1", "save and stop 0001/1"));
  // One has saved; nobody else takes its slot, nor is anyone asked twice.
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 75, "yielded")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(LiveOf("urgent"), 0);
  ASSERT_TRUE(Beat("w", {Ended("0001", 1, 75, "yielded")}).ok());
  EXPECT_EQ(LiveOf("urgent"), 1);
  EXPECT_EQ(Trial(0).trial_faults + Trial(0).lost_workers, 0) << "no charge";
  // They go on when it has ended.
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Of("urgent", Ended("0000", 1, 0, "finished"))}).ok());
  EXPECT_EQ(LiveOf("s"), 2);
  EXPECT_EQ(Trial(1).attempts.size(), 2U);
  CheckReplay();
}

TEST_F(FleetCoreTest, EqualPriorityTakesNothing) {
  Register(Registration("w", 1));
  Create(Spec("s", 1, 10));
  Create(Spec("t", 1, 10));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(LiveOf("t"), 0);
}

TEST_F(FleetCoreTest, OneThatNobodyHasHeardOfGivesWayAtOnce) {
  Register(Registration("w", 1));
  Create(Spec("s", 1, 10));
  Create(Spec("urgent", 1, 50));
  EXPECT_EQ(LiveOf("s"), 0);
  EXPECT_EQ(core_->NextDeadline(), absl::ZeroDuration());
  core_->Tick();
  EXPECT_EQ(LiveOf("urgent"), 1);
  EXPECT_EQ(Trial(0).attempts[0].outcome, "preempted");
}

TEST_F(FleetCoreTest, ACordonedWorkerTakesNothingUntilItIsUncordoned) {
  Register(Registration("w", 2));
  ASSERT_TRUE(core_->CordonWorker("w", "a fan is loud", false, "id-1").ok());
  EXPECT_TRUE(absl::IsNotFound(core_->CordonWorker("x", "", false, "")));
  EXPECT_TRUE(absl::IsNotFound(core_->UncordonWorker("x", "")));
  Create(Spec("s", 1));
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Reason(0), "all workers are cordoned: w (a fan is loud)");
  Restart();
  Register(Registration("w", 2));
  EXPECT_EQ(StateOf(0), TrialState::kPending) << "it is in the log";
  ASSERT_TRUE(core_->UncordonWorker("w", "").ok());
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  CheckReplay();
}

TEST_F(FleetCoreTest, WhatRunsOnADrainedWorkerSavesAndGoesElsewhere) {
  Register(Registration("w", 1));
  Create(Spec("s", 1));
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Status("0000", 1, State::kStarting)}).ok());
  ASSERT_TRUE(core_->CordonWorker("w", "repairs", true, "").ok());
  EXPECT_EQ(StateOf(0), TrialState::kCheckpointing);
  EXPECT_EQ(Reason(0), "worker w is being drained: repairs");
  EXPECT_THAT(Commands("w"), ElementsAre("save and stop 0000/1"));
  Register(Registration("v", 1));
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 75, "yielded")}).ok());
  EXPECT_EQ(Trial(0).attempts.back().worker, "v");
  EXPECT_EQ(Trial(0).trial_faults + Trial(0).lost_workers, 0);
  CheckReplay();
}

TEST_F(FleetCoreTest, AGpuFaultCordonsAtOnceUnlessNoOtherIsLeft) {
  Register(Registration("w", 1));
  Create(Spec("s", 1));
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Failed("0000", 1, FailureClass::kGpuFault)}).ok());
  EXPECT_FALSE(core_->state().fleet().cordoned("w")) << "it is the only one";
  Register(Registration("v", 1));
  ASSERT_TRUE(core_->state().fleet().cordoned("w"));
  EXPECT_EQ(core_->state().fleet().cordons.at("w").reason, "1 GPU_FAULT");
  EXPECT_FALSE(core_->state().fleet().cordons.at("w").by_person);
  clock_.Advance(absl::Seconds(2));
  core_->Tick();
  EXPECT_EQ(Trial(0).attempts.back().worker, "v");
  // A person has looked at it: it begins anew.
  ASSERT_TRUE(core_->UncordonWorker("w", "").ok());
  core_->Tick();
  EXPECT_FALSE(core_->state().fleet().cordoned("w"));
  EXPECT_EQ(core_->health().Failures("w"), 0);
  CheckReplay();
}

TEST_F(FleetCoreTest, ARestartCountsTheSame) {
  Register(Registration("w", 1));
  Create(Spec("s", 1));
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Failed("0000", 1, FailureClass::kGpuFault)}).ok());
  Restart();
  EXPECT_EQ(core_->health().Failures("w"), 1);
}

TEST(WorkerHealth, ThreeFailuresOfTheMachinesKindInTwenty) {
  WorkerHealth health;
  absl::Time now = absl::UnixEpoch();
  const auto end = [&](FailureClass failure) {
    now += absl::Minutes(1);
    health.Ended("w", failure, now);
  };
  for (int i = 0; i < 5; ++i) end(FailureClass::kUserError);
  end(FailureClass::kNodeLost);
  end(FailureClass::kRendezvousTimeout);
  EXPECT_EQ(health.Verdict("w"), "");
  end(FailureClass::kOomHost);
  EXPECT_EQ(health.Verdict("w"), "1 NODE_LOST, 1 OOM_HOST, 1 RENDEZVOUS_TIMEOUT");
  for (int i = 0; i < 17; ++i) end(FailureClass::kUnspecified);
  EXPECT_EQ(health.Failures("w"), 3);
  end(FailureClass::kUnspecified);
  EXPECT_EQ(health.Failures("w"), 2) << "the first has left the window";
}

TEST(WorkerHealth, OneCrashIsOneFailure) {
  WorkerHealth health;
  for (int i = 0; i < 8; ++i) health.Ended("w", FailureClass::kNodeLost, absl::UnixEpoch());
  EXPECT_EQ(health.Failures("w"), 1);
  EXPECT_THAT(health.Bad(), IsEmpty());
}

TEST_F(FleetCoreTest, TheSweepsRulesStandOverTheCoordinators) {
  config::SweepSpec spec = Spec("s", 1);
  spec.retry = {{{"NODE_LOST"}, -1, true}, {{"USER_ERROR", "HANG"}, 0, false}};
  Create(spec);
  Register(Registration("w", 1));
  Register(Registration("v", 1));
  const std::string first = Trial(0).attempts[0].worker;
  const std::string second = first == "w" ? "v" : "w";
  core_->CommandsFor(first);
  ASSERT_TRUE(Beat(first, {Failed("0000", 1, FailureClass::kNodeLost)}).ok());
  clock_.Advance(absl::Seconds(2));
  core_->Tick();
  EXPECT_EQ(Trial(0).attempts.back().worker, second) << "not where it failed";
  core_->CommandsFor(second);
  ASSERT_TRUE(Beat(second, {Failed("0000", 2, FailureClass::kUserError)}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kFailed);
  EXPECT_THAT(Reason(0), HasSubstr("(1 of 1 attempts)"));
}

}  // namespace
}  // namespace sae::server::testing
