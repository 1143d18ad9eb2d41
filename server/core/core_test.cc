#include "server/core/core.h"

#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;
using St = AttemptStatus::State;

TEST_F(CoreTest, ATrialRunsToItsEnd) {
  Create(MakeSpec("s", 1, 2));
  EXPECT_EQ(Reason(0), "no worker is registered");
  Register(Registration("w", 2));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);

  const std::vector<Command> commands = core_->CommandsFor("w");
  ASSERT_EQ(commands.size(), 1u);
  const auto& start = std::get<StartCommand>(commands[0]);
  EXPECT_EQ(start.key, (AttemptKey{"s", "0000", 1}));
  EXPECT_EQ(start.config.sae.k, 4);
  EXPECT_EQ(start.config.ranks, 2);
  EXPECT_EQ(start.slots, 2);
  EXPECT_EQ(start.store, "/data/store");
  EXPECT_EQ(start.store_hash, "xxh3:0123456789abcdef");

  ASSERT_TRUE(Beat("w", {Status("0000", 1, St::kStarting)}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kStarting);
  EXPECT_TRUE(core_->CommandsFor("w").empty()) << "done is not repeated";
  const AttemptKey key{"s", "0000", 1};
  EXPECT_EQ(*Report("w", key, 1, {Line(1, EventKind::kStarted)}), 1);
  EXPECT_EQ(StateOf(0), TrialState::kRunning);
  EXPECT_EQ(
      *Report("w", key, 2, {Line(2, EventKind::kMetrics, 10), Line(3, EventKind::kCheckpoint, 10)}),
      3);
  EXPECT_EQ(*Report("w", key, 4,
                    {Line(4, EventKind::kEvaluation, 20), Line(5, EventKind::kFinished, 20)}),
            5);
  EXPECT_EQ(StateOf(0), TrialState::kRunning) << "its processes are still there";
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded);
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("w")), 2);
  EXPECT_EQ(core_->refused_events(), 0);

  const Progress progress = core_->ProgressOf(Sweep(), Trial(0)).value();
  EXPECT_EQ(progress.step, 20);
  EXPECT_EQ(progress.tokens, 20000);
  EXPECT_DOUBLE_EQ(progress.metrics.at("train.loss"), 1.0 / 11);
  EXPECT_DOUBLE_EQ(progress.metrics.at("heldout.fvu"), 2.0 / 21);
}

TEST_F(CoreTest, EventsMayOvertakeTheStartingStatus) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  ASSERT_TRUE(Report("w", {"s", "0000", 1}, 1, {Line(1, EventKind::kStarted)}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kRunning);
  ASSERT_TRUE(Beat("w", {Status("0000", 1, St::kStarting)}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kRunning);
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(CoreTest, EveryPendingTrialSaysWhy) {
  options_.retry.first_delay = absl::Seconds(10);
  Restart();
  config::SweepSpec spec = MakeSpec("s", 3, 4);
  Create(spec);
  Register(Registration("w", 2));
  EXPECT_EQ(Reason(0), "needs 4 slots; the largest worker has 2");
  Register(Registration("w", 4));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Reason(1), "needs 4 slots on one worker; the largest free is 0");
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 1, "failed")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_THAT(Reason(0), HasSubstr("retry after USER_ERROR at 2023-11-14T22:13:30Z"));
  spec.name = "t";
  spec.max_concurrent = 1;
  spec.trial.ranks = 1;
  Create(spec);
  Register(Registration("x", 4));  // for trial 2 of s
  Register(Registration("y", 4));
  const SweepRecord& other = Sweep("t");
  EXPECT_EQ(core_->ReasonOf(other, other.trials[1]),
            "waiting: maxConcurrent = 1 of its sweep are running");
}

TEST_F(CoreTest, ATrialWithACheckpointWaitsForItsRunsFolder) {
  Create(MakeSpec("s", 1));
  Register(Registration("a", 1, "runs-a"));
  ASSERT_TRUE(Report("a", {"s", "0000", 1}, 1,
                     {Line(1, EventKind::kStarted), Line(2, EventKind::kCheckpoint, 30)})
                  .ok());
  Register(Registration("b", 1, "runs-b"));
  const absl::Duration silence = options_.lease + options_.lease_margin + absl::Seconds(5);
  for (absl::Duration t; t < silence; t += absl::Seconds(3)) {
    clock_.Advance(absl::Seconds(3));
    ASSERT_TRUE(Beat("b").ok());
  }
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Reason(0), "its checkpoint is in runs folder /runs-a, no worker shares it");
  Register(Registration("c", 1, "runs-a"));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).attempts.back().worker, "c");
}

TEST_F(CoreTest, ASilentWorkerLosesItsAttemptsOnlyAfterLeaseAndMargin) {
  Create(MakeSpec("s", 1));
  Register(Registration("a", 1));
  Register(Registration("b", 1));
  ASSERT_EQ(Trial(0).attempts.back().worker, "a");
  const absl::Duration lost = options_.lease + options_.lease_margin;
  for (absl::Duration t; t < lost - absl::Seconds(1); t += absl::Seconds(1)) {
    ASSERT_TRUE(Beat("b").ok());
    clock_.Advance(absl::Seconds(1));
  }
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  clock_.Advance(absl::Seconds(1));
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Trial(0).attempts[0].outcome, "lost");
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kNodeLost);
  clock_.Advance(options_.retry.first_delay);
  ASSERT_TRUE(Beat("b").ok());
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).attempts.back().worker, "b");

  // The lost one comes back: nothing of the old attempt counts.
  EXPECT_TRUE(absl::IsAborted(Beat("a")));
  EXPECT_TRUE(
      absl::IsAborted(Report("a", {"s", "0000", 1}, 1, {Line(1, EventKind::kStarted)}).status()));
  RegisterRequest again = Registration("a", 1);
  again.attempts.push_back({{"s", "0000", 1}, true});
  const RegisterReply reply = Register(again);
  ASSERT_EQ(reply.attempts.size(), 1u);
  EXPECT_FALSE(reply.attempts[0].wanted);
  EXPECT_TRUE(
      absl::IsAborted(Report("a", {"s", "0000", 1}, 1, {Line(1, EventKind::kStarted)}).status()));
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("a")), 0)
      << "its slot is taken until the old ranks are gone";
  HeartbeatRequest beat{SenderOf("a"), 1, 1, {}};
  ASSERT_TRUE(core_->Heartbeat(beat).ok());
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("a")), 1);
}

TEST_F(CoreTest, ARestartedWorkerWithoutTheAttemptEndsIt) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Status("0000", 1, St::kStarting)}).ok());
  Register(Registration("w", 1, "runs-a", "2"));
  EXPECT_EQ(Trial(0).attempts[0].outcome, "lost");
  EXPECT_EQ(Trial(0).lost_workers, 1);
  EXPECT_TRUE(absl::IsAborted(Beat("w"))) << "the old incarnation is fenced";
}

TEST_F(CoreTest, AnAttemptThatNeverStartedKeepsItsNumber) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  core_->CommandsFor("w");
  Register(Registration("w", 1, "runs-a", "2"));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).attempts.size(), 1u);
  EXPECT_EQ(core_->CommandsFor("w").size(), 1u) << "Start is sent again";
}

TEST_F(CoreTest, ARestartedCoordinatorGoesOn) {
  Create(MakeSpec("s", 2));
  Register(Registration("w", 1));
  ASSERT_TRUE(Report("w", {"s", "0000", 1}, 1,
                     {Line(1, EventKind::kStarted), Line(2, EventKind::kMetrics, 5)})
                  .ok());
  const std::int64_t epoch = core_->epoch();
  Restart();
  EXPECT_EQ(core_->epoch(), epoch + 1);
  EXPECT_EQ(StateOf(0), TrialState::kRunning);
  EXPECT_EQ(StateOf(1), TrialState::kPending);
  HeartbeatRequest old{{"w", "1", epoch}, 9, 0, {}};
  EXPECT_TRUE(absl::IsAborted(core_->Heartbeat(old).status()));

  RegisterRequest again = Registration("w", 1);
  again.attempts.push_back({{"s", "0000", 1}, true});
  const RegisterReply reply = Register(again);
  ASSERT_EQ(reply.attempts.size(), 1u);
  EXPECT_TRUE(reply.attempts[0].wanted);
  EXPECT_EQ(reply.attempts[0].seq, 2);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
  EXPECT_EQ(Trial(0).attempts.size(), 1u);
  EXPECT_EQ(StateOf(1), TrialState::kAllocated);
}

TEST_F(CoreTest, AWorkerThatDoesNotComeBackAfterARestartLosesItsLease) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  Restart();
  clock_.Advance(options_.lease + options_.lease_margin - absl::Seconds(1));
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  clock_.Advance(absl::Seconds(1));
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kPending);
}

TEST_F(CoreTest, WallClockJumpsDoNotMoveLeasesOrBackOffs) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  clock_.JumpWall(absl::Hours(5));
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 1, "")}).ok());
  clock_.JumpWall(absl::Hours(5));
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  clock_.JumpWall(-absl::Hours(20));
  clock_.Advance(options_.retry.first_delay);
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
}

TEST_F(CoreTest, ARetryDoesNotWaitForTheBackOffOfWhatWasCancelled) {
  options_.retry.first_delay = absl::Hours(1);
  Restart();
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 1, "failed")}).ok());
  ASSERT_EQ(StateOf(0), TrialState::kPending);
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  core_->Tick();
  ASSERT_EQ(StateOf(0), TrialState::kCancelled);
  ASSERT_TRUE(core_->RetryTrials("s", {"0000"}, "").ok());
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
}

TEST_F(CoreTest, AFullDiskIsNotTriedAtEveryTick) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  clock_.Advance(options_.lease + options_.lease_margin + absl::Seconds(1));
  disk_->failures.assign(100, absl::ResourceExhaustedError("full"));
  for (int i = 0; i < 20; ++i) core_->Tick();
  EXPECT_GE(disk_->failures.size(), 95U) << "of 100 tries";
  disk_->failures.clear();
  clock_.Advance(absl::Seconds(5));
  for (int i = 0; i < 3; ++i) core_->Tick();
  EXPECT_NE(StateOf(0), TrialState::kAllocated) << "the lease is over at last";
}

TEST_F(CoreTest, FailuresUseUpTheBudgetAndRetryRenewsIt) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  for (int attempt = 1; attempt <= 3; ++attempt) {
    ASSERT_EQ(StateOf(0), TrialState::kAllocated) << attempt;
    AttemptStatus ended = Ended("0000", attempt, 1, "failed");
    for (int i = 0; i < 30; ++i) ended.log_tail.push_back("line " + std::to_string(i));
    ASSERT_TRUE(Beat("w", {ended}).ok());
    clock_.Advance(absl::Seconds(9));
    ASSERT_TRUE(Beat("w").ok());
  }
  EXPECT_EQ(StateOf(0), TrialState::kFailed);
  EXPECT_THAT(Trial(0).reason, HasSubstr("3 of 3 attempts"));
  EXPECT_EQ(Trial(0).log_tail.size(), 30u);
  EXPECT_EQ(Sweep().state, SweepState::kFailed);
  // Watchers get the last 20 lines before the sweep's end.
  const std::vector<LogEvent> events = core_->Read("s", 0, 1000).value();
  ASSERT_GE(events.size(), 2u);
  const auto& notice = std::get<Notice>(events[events.size() - 2].body);
  ASSERT_EQ(notice.lines.size(), 20u);
  EXPECT_EQ(notice.lines.back(), "line 29");

  EXPECT_EQ(core_->RetryTrials("s", {}, "r1").value(), std::vector<std::string>{"0000"});
  EXPECT_EQ(core_->RetryTrials("s", {}, "r1").value(), std::vector<std::string>{"0000"})
      << "the same request";
  core_->Tick();
  EXPECT_EQ(Sweep().state, SweepState::kRunning);
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).trial_faults, 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(core_->RetryTrials("s", {"0000"}, "").status()));
  EXPECT_TRUE(absl::IsNotFound(core_->RetryTrials("s", {"0007"}, "").status()));
}

TEST_F(CoreTest, CancelStopsWhatRunsAndNothingElseStarts) {
  Create(MakeSpec("s", 3));
  Register(Registration("w", 2));
  core_->CommandsFor("w");
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  ASSERT_TRUE(core_->CancelSweep("s").ok()) << "again";
  core_->Tick();
  EXPECT_EQ(StateOf(2), TrialState::kCancelled);
  EXPECT_EQ(Reason(0), "cancelling");
  std::size_t stops = 0;
  for (const Command& c : core_->CommandsFor("w"))
    stops += std::holds_alternative<StopCommand>(c) ? 1 : 0;
  EXPECT_EQ(stops, 2u);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 75, "yielded")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kCancelled);
  EXPECT_EQ(Sweep().state, SweepState::kRunning);
  ASSERT_TRUE(Beat("w", {Ended("0001", 1, 0, "finished")}).ok());
  EXPECT_EQ(StateOf(1), TrialState::kSucceeded);
  EXPECT_EQ(Sweep().state, SweepState::kCancelled);
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(CoreTest, CancelEndsAttemptsThatNoWorkerHasHeardOf) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  EXPECT_EQ(StateOf(0), TrialState::kCancelled);
  EXPECT_EQ(Sweep().state, SweepState::kCancelled);
  EXPECT_TRUE(core_->CommandsFor("w").empty());
  EXPECT_TRUE(absl::IsNotFound(core_->CancelSweep("none")));
}

TEST_F(CoreTest, CreateIsIdempotentByRequestIdAndUniqueByName) {
  Create(MakeSpec("s", 1), "id-1");
  Create(MakeSpec("s", 1), "id-1");
  const auto other = PrepareSweep(MakeSpec("s", 1), 1000).value();
  EXPECT_TRUE(absl::IsAlreadyExists(core_->CreateSweep(other, "id-2")));
  EXPECT_EQ(core_->SweepOfRequest("id-1").value(), "s");
  EXPECT_TRUE(absl::IsInvalidArgument(core_->RetryTrials("s", {}, "id-1").status()))
      << "an id is for one request";
  Restart();
  EXPECT_EQ(core_->SweepOfRequest("id-1").value(), "s");
}

TEST_F(CoreTest, ASweepThatCannotRunSaysSoOnce) {
  Create(MakeSpec("s", 2, 4));
  Register(Registration("w", 2));
  const std::int64_t before = core_->head("s");
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(absl::Seconds(3));
    ASSERT_TRUE(Beat("w").ok());
  }
  const std::vector<LogEvent> events = core_->Read("s", before, 100).value();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<Notice>(events[0].body).text,
            "2 trials wait, none can run: needs 4 slots; the largest worker has 2");
}

TEST_F(CoreTest, WhatCannotBeStoredDoesNotHappen) {
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  const auto prepared = PrepareSweep(MakeSpec("s", 1), 1000).value();
  EXPECT_TRUE(absl::IsResourceExhausted(core_->CreateSweep(prepared, "id")));
  EXPECT_EQ(core_->state().sweep("s"), nullptr);
  ASSERT_TRUE(core_->CreateSweep(prepared, "id").ok());
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  ASSERT_TRUE(core_->Register(Registration("w", 1)).ok());
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).attempts.size(), 1u);
}

TEST_F(CoreTest, AStatusThatCannotBeStoredIsNotAcknowledged) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  const HeartbeatRequest beat{SenderOf("w"), 1, 0, {Ended("0000", 1, 0, "finished")}};
  EXPECT_TRUE(core_->Heartbeat(beat)->status_acks.empty());
  EXPECT_EQ(core_->Heartbeat(beat)->status_acks.size(), 1u);
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
}

TEST_F(CoreTest, RegistrationsAreChecked) {
  RegisterRequest bad = Registration("", 0);
  bad.runs_directory = "relative";
  const absl::Status status = core_->Register(bad).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  for (const char* field : {"worker_id", "slots", "runs_directory"})
    EXPECT_THAT(Message(status), HasSubstr(field));
}

}  // namespace
}  // namespace sae::server::testing
