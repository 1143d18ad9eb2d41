// Verbs that meet what happens at the same time: exactly one outcome, and a replay agrees.
#include "server/testing/lifecycle_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;
using S = Situation;

struct Race {
  S situation;
  int exit_code;
  const char* verdict;
  const char* state;
  const char* outcome;
};
constexpr Race kRaces[] = {
    // Saved and yielded: as it was asked.
    {S::kPausing, 75, "yielded", "PAUSED", "paused"},
    {S::kPreempting, 75, "yielded", "PENDING", "paused"},
    {S::kStopping, 75, "yielded", "STOPPED_EARLY", "stopped"},
    {S::kCancelling, 75, "yielded", "CANCELLED", "cancelled"},
    // Finished by itself meanwhile.
    {S::kPausing, 0, "finished", "SUCCEEDED", "succeeded"},
    {S::kPreempting, 0, "finished", "SUCCEEDED", "succeeded"},
    {S::kStopping, 0, "finished", "SUCCEEDED", "succeeded"},
    {S::kCancelling, 0, "finished", "SUCCEEDED", "succeeded"},
    // Stopped of its own accord meanwhile.
    {S::kPausing, 0, "stopped", "STOPPED_EARLY", "stopped"},
    {S::kCancelling, 0, "stopped", "CANCELLED", "cancelled"},
    // Killed at the end of its grace, or broken: no charge, still as it was asked.
    {S::kPausing, 137, "", "PAUSED", "paused"},
    {S::kPreempting, 137, "", "PENDING", "paused"},
    {S::kStopping, 1, "failed", "STOPPED_EARLY", "stopped"},
    {S::kCancelling, 137, "", "CANCELLED", "cancelled"},
};

TEST_F(LifecycleTest, OneOutcomeWhateverRaces) {
  for (const Race& row : kRaces) {
    Fresh();
    Bring(row.situation);
    SCOPED_TRACE(::testing::Message() << StateText() << ", then " << row.exit_code << row.verdict);
    ASSERT_TRUE(Beat("w", {Ended("0000", 1, row.exit_code, row.verdict)}).ok());
    EXPECT_EQ(Trial(0).attempt(1)->outcome, row.outcome);
    EXPECT_EQ(StateText(), row.state);
    EXPECT_EQ(Trial(0).trial_faults, 0);
    EXPECT_EQ(Trial(0).lost_workers, 0);
    const std::int64_t events = Events();
    ASSERT_TRUE(Beat("w", {Ended("0000", 1, row.exit_code, row.verdict)}).ok());
    EXPECT_EQ(Events(), events) << "said again";
    CheckReplay();
  }
}

TEST_F(LifecycleTest, AStopAndALostWorkerHaveOneOutcome) {
  for (const auto& [situation, state] :
       {std::pair{S::kPausing, "PAUSED"}, std::pair{S::kPreempting, "PENDING"},
        std::pair{S::kStopping, "STOPPED_EARLY"}, std::pair{S::kCancelling, "CANCELLED"}}) {
    Fresh();
    Bring(situation);
    clock_.Advance(core_->options().lease + core_->options().lease_margin);
    core_->Tick();
    EXPECT_EQ(StateText(), state);
    EXPECT_EQ(Trial(0).lost_workers, 0);
    CheckReplay();
  }
}

TEST_F(LifecycleTest, AWorkerThatCameBackWithoutAPausingTrialLeavesItPaused) {
  Bring(S::kPausing);
  Register(Registration("w", 1, "runs-a", "2"));
  EXPECT_EQ(StateText(), "PAUSED");
  EXPECT_THAT(Reason(0), HasSubstr("came back without it"));
}

TEST_F(LifecycleTest, OneThatStartsAfterItWasToldToStopGoesOnToStop) {
  for (const S situation : {S::kAllocated, S::kStarting}) {
    Fresh();
    Bring(situation);
    Ask(TrialVerb::kPause);
    ASSERT_TRUE(Report("w", {"s", "0000", 1}, 1,
                       {Line(1, EventKind::kStarted, 3, 3), Line(2, EventKind::kMetrics, 4)})
                    .ok());
    EXPECT_EQ(StateText(), "CHECKPOINTING/pause");
    EXPECT_EQ(Trial(0).attempts.back().from_step, 3);
    ASSERT_TRUE(Report("w", {"s", "0000", 1}, 3, {Line(3, EventKind::kCheckpoint, 5)}).ok());
    End(75, "yielded");
    EXPECT_EQ(StateText(), "PAUSED");
    EXPECT_EQ(Trial(0).checkpoints.back().step, 5);
    CheckReplay();
  }
}

TEST_F(LifecycleTest, CancelWhilePausing) {
  Bring(S::kPausing);
  ASSERT_TRUE(core_->CancelSweep("s", true).ok());
  EXPECT_EQ(StateText(), "CHECKPOINTING/cancel");
  End(75, "yielded");
  EXPECT_EQ(StateText(), "CANCELLED");
  EXPECT_EQ(Sweep().state, SweepState::kCancelled);
  CheckReplay();
}

TEST_F(LifecycleTest, CancelOfAPausedSweepEndsIt) {
  Bring(S::kPreempting);
  ASSERT_TRUE(core_->CancelSweep("s", true).ok());
  EXPECT_EQ(StateOf(1), TrialState::kCancelled);
  End(75, "yielded");
  EXPECT_EQ(Sweep().state, SweepState::kCancelled);
  CheckReplay();
}

TEST_F(LifecycleTest, PreemptThenPauseThenResume) {
  Bring(S::kPreempting);
  Ask(TrialVerb::kPause);
  EXPECT_EQ(StateText(), "CHECKPOINTING/pause");
  Ask(TrialVerb::kResume);
  EXPECT_EQ(StateText(), "CHECKPOINTING/preempt");
  ASSERT_TRUE(core_->ResumeSweep("s", {}).ok());
  End(75, "yielded");
  EXPECT_EQ(StateText(), "ALLOCATED") << "it goes on at once";
  EXPECT_EQ(Trial(0).attempt(1)->outcome, "preempted");
  CheckReplay();
}

TEST_F(LifecycleTest, RetryInAPausedSweepWaitsForIt) {
  Bring(S::kFailed);
  ASSERT_TRUE(core_->PauseSweep("s", {}).ok());
  ASSERT_TRUE(core_->RetryTrials("s", {}, "").ok());
  core_->Tick();
  EXPECT_EQ(StateText(), "PENDING");
  EXPECT_EQ(Sweep().state, SweepState::kPaused);
  ASSERT_TRUE(core_->ResumeSweep("s", {}).ok());
  ASSERT_TRUE(Beat("w", {Ended("0001", 1, 75, "yielded")}).ok());
  core_->Tick();
  EXPECT_EQ(StateText(), "ALLOCATED");
  CheckReplay();
}

TEST_F(LifecycleTest, APausedSweepWhoseTrialsAllFinishEnds) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  core_->CommandsFor("w");
  ASSERT_TRUE(core_->PauseSweep("s", {}).ok());
  End(0, "finished");
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded);
  CheckReplay();
}

TEST_F(LifecycleTest, AHurriedCancelOverridesAGracefulOne) {
  Bring(S::kCancelling);
  ASSERT_EQ(Stops().size(), 1u);
  EXPECT_TRUE(Stops()[0].checkpoint);
  ASSERT_TRUE(core_->CancelSweep("s", false).ok());
  ASSERT_EQ(Stops().size(), 1u);
  EXPECT_FALSE(Stops()[0].checkpoint);
  const std::int64_t events = Events();
  ASSERT_TRUE(core_->CancelSweep("s", true).ok()) << "no way back";
  EXPECT_EQ(Events(), events);
  End(137, "");
  EXPECT_EQ(StateText(), "CANCELLED");
  CheckReplay();
}

TEST_F(LifecycleTest, ATrialThatDoesNotSaveInTimeIsToldToEndNow) {
  Bring(S::kPausing);
  const absl::Duration limit = absl::Seconds(120) + core_->options().stop_margin;
  const auto wait = [&](absl::Duration whole) {  // with heartbeats, so that no lease ends
    for (absl::Duration left = whole; left > absl::ZeroDuration(); left -= absl::Seconds(5)) {
      clock_.Advance(std::min(left, absl::Seconds(5)));
      ASSERT_TRUE(Beat("w").ok());
    }
  };
  wait(limit - absl::Seconds(1));
  ASSERT_EQ(Stops().size(), 1u);
  EXPECT_TRUE(Stops()[0].checkpoint);
  wait(absl::Seconds(1));
  EXPECT_FALSE(Stops()[0].checkpoint);
  EXPECT_THAT(Stops()[0].reason, HasSubstr("did not save in time"));
  // A new coordinator cannot know when it was told, and gives the whole time again.
  Restart();
  auto registration = Registration("w", 1);
  registration.attempts.push_back({{"s", "0000", 1}, true});
  Register(registration);
  ASSERT_EQ(Stops().size(), 1u);
  EXPECT_TRUE(Stops()[0].checkpoint);
  wait(limit);
  EXPECT_FALSE(Stops()[0].checkpoint);
  End(137, "");
  EXPECT_EQ(StateText(), "PAUSED");
}

TEST_F(LifecycleTest, AResumedTrialGoesWhereItsCheckpointIs) {
  Bring(S::kRunning);
  ASSERT_TRUE(Report("w", {"s", "0000", 1}, 2, {Line(2, EventKind::kCheckpoint, 5)}).ok());
  Ask(TrialVerb::kPause);
  End(75, "yielded");
  ASSERT_TRUE(Beat("w", {Ended("0001", 1, 0, "finished")}).ok());
  clock_.Advance(core_->options().lease + core_->options().lease_margin);
  core_->Tick();
  Register(Registration("other", 4, "runs-b"));
  Ask(TrialVerb::kResume);
  core_->Tick();
  EXPECT_EQ(StateText(), "PENDING");
  EXPECT_THAT(Reason(0), HasSubstr("/runs-a"));
  Register(Registration("w2", 1, "runs-a"));
  EXPECT_EQ(StateText(), "ALLOCATED");
  EXPECT_EQ(Trial(0).attempts.back().worker, "w2");
}

}  // namespace
}  // namespace sae::server::testing
