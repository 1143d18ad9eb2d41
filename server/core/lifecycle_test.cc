// Each verb over a trial or a sweep in each state that it can meet, and that a replay agrees.
#include <array>

#include "server/testing/lifecycle_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::HasSubstr;
using S = Situation;

constexpr char kRefused[] = "refused";

struct Row {
  S situation;
  /// What trial 0 is after the verb: as StateText, or kRefused when the verb is.
  const char* pause;
  const char* resume;
  const char* stop;
};
constexpr Row kRows[] = {
    {S::kPending, "PAUSED", "PENDING", "STOPPED_EARLY"},
    {S::kUnsent, "PAUSED", "ALLOCATED", "STOPPED_EARLY"},
    {S::kAllocated, "CHECKPOINTING/pause", "ALLOCATED", "CHECKPOINTING/stop"},
    {S::kStarting, "CHECKPOINTING/pause", "STARTING", "CHECKPOINTING/stop"},
    {S::kRunning, "CHECKPOINTING/pause", "RUNNING", "CHECKPOINTING/stop"},
    {S::kPausing, "CHECKPOINTING/pause", "CHECKPOINTING/preempt", "CHECKPOINTING/stop"},
    {S::kPreempting, "CHECKPOINTING/pause", "CHECKPOINTING/preempt", "CHECKPOINTING/stop"},
    {S::kStopping, kRefused, kRefused, "CHECKPOINTING/stop"},
    {S::kCancelling, kRefused, kRefused, kRefused},
    {S::kPaused, "PAUSED", "PENDING", "STOPPED_EARLY"},
    {S::kSucceeded, kRefused, kRefused, kRefused},
    {S::kStoppedEarly, kRefused, kRefused, "STOPPED_EARLY"},
    {S::kFailed, kRefused, kRefused, kRefused},
    {S::kCancelled, kRefused, kRefused, kRefused},
};

TEST_F(LifecycleTest, EachTrialVerbInEachState) {
  for (const Row& row : kRows) {
    const std::array<std::pair<TrialVerb, const char*>, 3> verbs = {
        {{TrialVerb::kPause, row.pause},
         {TrialVerb::kResume, row.resume},
         {TrialVerb::kStop, row.stop}}};
    for (const auto& [verb, expected] : verbs) {
      Fresh();
      Bring(row.situation);
      const std::string before = StateText();
      const std::int64_t events = Events();
      SCOPED_TRACE(::testing::Message() << before << ", verb " << static_cast<int>(verb));
      const absl::Status status = core_->ChangeTrial(verb, "s", "0000", {});
      if (expected == kRefused) {
        EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
        EXPECT_EQ(StateText(), before);
        EXPECT_EQ(Events(), events);
      } else {
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_EQ(StateText(), expected);
        if (before == expected) {
          EXPECT_EQ(Events(), events) << "nothing to do, nothing is said";
        }
      }
      CheckReplay();
    }
  }
}

TEST_F(LifecycleTest, PromotionNeedsASearchThatPromotes) {
  for (const S situation : kAllSituations) {
    Fresh();
    Bring(situation);
    EXPECT_EQ(core_->ChangeTrial(TrialVerb::kPromote, "s", "0000", {}).code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST_F(LifecycleTest, APausedTrialOfASearchThatPromotesGoesOn) {
  config::SweepSpec spec = MakeSpec("s", 2);
  spec.search = "asha";
  spec.max_trials = 2;
  spec.asha.mode = "promote";
  PreparedSweep prepared{spec,
                         {config::ToJson(spec), {{{"sae.k", "4"}}, {{"sae.k", "5"}}}, "", "", ""}};
  ASSERT_TRUE(core_->CreateSweep(prepared, "").ok());
  Ask(TrialVerb::kPromote, absl::StatusCode::kFailedPrecondition);
  Ask(TrialVerb::kPause);
  Ask(TrialVerb::kPromote);
  EXPECT_EQ(StateText(), "PENDING");
  EXPECT_EQ(Trial(0).reason, "promoted by a person");
  CheckReplay();
}

struct SweepRow {
  S situation;
  const char* pause;  ///< the sweep's state afterwards, or kRefused
  const char* resume;
  bool deletable;
};
constexpr SweepRow kSweepRows[] = {
    {S::kPending, "PAUSED", "RUNNING", false},    {S::kUnsent, "PAUSED", "RUNNING", false},
    {S::kRunning, "PAUSED", "RUNNING", false},    {S::kPausing, "PAUSED", "RUNNING", false},
    {S::kPreempting, "PAUSED", "RUNNING", false}, {S::kStopping, "PAUSED", "RUNNING", false},
    {S::kCancelling, kRefused, kRefused, false},  {S::kPaused, "PAUSED", "RUNNING", false},
    {S::kSucceeded, "PAUSED", "RUNNING", false},  // the other trial has not ended
    {S::kFailed, "PAUSED", "RUNNING", false},     {S::kCancelled, kRefused, kRefused, true},
};

TEST_F(LifecycleTest, EachSweepVerbInEachState) {
  for (const SweepRow& row : kSweepRows) {
    for (int verb = 0; verb < 3; ++verb) {
      Fresh();
      Bring(row.situation);
      SCOPED_TRACE(::testing::Message() << StateText() << ", verb " << verb);
      const std::string before = ToString(Sweep().state);
      absl::Status status;
      const char* expected = verb == 0 ? row.pause : row.resume;
      if (verb == 0) status = core_->PauseSweep("s", {});
      if (verb == 1) status = core_->ResumeSweep("s", {});
      if (verb == 2) {
        status = core_->DeleteSweep("s", {});
        EXPECT_EQ(status.ok(), row.deletable) << status;
        EXPECT_EQ(core_->state().sweep("s") == nullptr, row.deletable);
      } else if (expected == kRefused) {
        EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
        EXPECT_EQ(ToString(Sweep().state), before);
      } else {
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_EQ(ToString(Sweep().state), expected);
      }
      CheckReplay();
    }
  }
}

TEST_F(LifecycleTest, ASweepsPauseStopsAllAndItsResumptionStartsThem) {
  Bring(S::kRunning);
  ASSERT_TRUE(core_->ChangeTrial(TrialVerb::kPause, "s", "0001", {}).ok());
  ASSERT_TRUE(core_->PauseSweep("s", {}).ok());
  core_->Tick();
  ASSERT_EQ(Stops().size(), 1u);
  EXPECT_TRUE(Stops()[0].checkpoint);
  EXPECT_EQ(Stops()[0].grace, absl::Seconds(120));
  End(75, "yielded");
  EXPECT_EQ(StateText(), "PENDING");
  EXPECT_EQ(Trial(0).attempts.back().outcome, "paused");
  EXPECT_EQ(Reason(0), "its sweep is paused");
  EXPECT_TRUE(core_->CommandsFor("w").empty()) << "nothing starts";
  EXPECT_EQ(Sweep().state, SweepState::kPaused);
  ASSERT_TRUE(core_->ResumeSweep("s", {}).ok());
  core_->Tick();
  EXPECT_EQ(StateText(), "ALLOCATED");
  EXPECT_EQ(StateOf(1), TrialState::kPaused) << "paused by itself, and still";
  CheckReplay();
}

TEST_F(LifecycleTest, ASweepWithPausedTrialsHasNotEnded) {
  Bring(S::kPaused);
  ASSERT_TRUE(Beat("w", {Ended("0001", 1, 0, "finished")}).ok());
  EXPECT_EQ(StateOf(1), TrialState::kSucceeded);
  EXPECT_EQ(Sweep().state, SweepState::kRunning);
  Ask(TrialVerb::kStop);
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded) << "stopped early is no failure";
  CheckReplay();
}

TEST_F(LifecycleTest, UpdateChangesWhatIsGivenAndTheEtag) {
  Bring(S::kPending);
  const std::string etag = EtagOf(Sweep());
  SweepUpdated update;
  update.priority = 7;
  update.labels.emplace()["model"] = "gpt2";
  ASSERT_TRUE(core_->UpdateSweep("s", update, etag, {}).ok());
  EXPECT_EQ(Sweep().spec.priority, 7);
  EXPECT_EQ(Sweep().spec.labels.at("model"), "gpt2");
  EXPECT_EQ(Sweep().spec.max_concurrent, 0) << "as it was";
  EXPECT_NE(EtagOf(Sweep()), etag);
  const absl::Status old = core_->UpdateSweep("s", update, etag, {});
  EXPECT_EQ(old.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Message(old), HasSubstr(EtagOf(Sweep())));
  CheckReplay();
}

TEST_F(LifecycleTest, MaxConcurrentChangesWhileItRuns) {
  Create([] {
    auto spec = MakeSpec("s", 4);
    spec.max_concurrent = 1;
    return spec;
  }());
  Register(Registration("w", 4));
  EXPECT_EQ(Sweep().live.size(), 1u);
  SweepUpdated update;
  update.max_concurrent = 3;
  ASSERT_TRUE(core_->UpdateSweep("s", update, "", {}).ok());
  core_->Tick();
  EXPECT_EQ(Sweep().live.size(), 3u);
}

TEST_F(LifecycleTest, ADeletedSweepIsForgottenAndItsNameStaysUsed) {
  Bring(S::kCancelled);
  ASSERT_TRUE(core_->DeleteSweep("s", "id").ok());
  EXPECT_EQ(core_->head("s"), 0);
  EXPECT_EQ(core_->acknowledged({"s", "0000", 1}), 0);
  EXPECT_TRUE(core_->state().sweep_order().empty());
  EXPECT_FALSE(core_->Read("s", 0, 100)->empty()) << "its events stay";
  const auto again = PrepareSweep(MakeSpec("s", 1), 10).value();
  EXPECT_EQ(core_->CreateSweep(again, "").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(core_->DeleteSweep("s", "id").ok()) << "the same request";
  EXPECT_EQ(core_->DeleteSweep("s", "").code(), absl::StatusCode::kNotFound);
  CheckReplay();
  Restart();
  EXPECT_EQ(core_->head("s"), 0);
  EXPECT_EQ(core_->CreateSweep(again, "").code(), absl::StatusCode::kAlreadyExists);
  Register(Registration("w", 1));
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(LifecycleTest, PointsThatExistAreSkippedAndCounted) {
  Bring(S::kCancelled);
  const std::vector<TrialAssignments> points = {
      {{"sae.k", "4"}}, {{"sae.k", "9"}}, {{"sae.k", "9.0"}}, {{"sae.k", "10"}}};
  const auto added = core_->AddPoints("s", points, 100, "id");
  ASSERT_TRUE(added.ok()) << added.status();
  EXPECT_EQ(added->trials, (std::vector<std::string>{"0002", "0003"}));
  EXPECT_EQ(added->skipped, 2);
  EXPECT_EQ(Sweep().state, SweepState::kRunning) << "it goes on";
  EXPECT_EQ(Sweep().Config(Trial(2)).sae.k, 9);
  EXPECT_EQ(Trial(2).slots, 1);
  const auto again = core_->AddPoints("s", points, 100, "id");
  EXPECT_EQ(again->trials, added->trials) << "the first answer";
  EXPECT_EQ(again->skipped, 2);
  EXPECT_EQ(Sweep().trials.size(), 4u);
  CheckReplay();
  EXPECT_EQ(core_->AddPoints("s", points, 100, "")->skipped, 4);
  options_.max_trials = 4;
  Restart();
  EXPECT_EQ(core_->AddPoints("s", {{{"sae.k", "11"}}}, 100, "").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(LifecycleTest, ARequestIdIsUsedOnce) {
  Bring(S::kRunning);
  ASSERT_TRUE(core_->PauseSweep("s", {"id", "body"}).ok());
  ASSERT_TRUE(core_->ResumeSweep("s", "id2").ok());
  const std::int64_t events = Events();
  EXPECT_TRUE(core_->PauseSweep("s", {"id", "body"}).ok()) << "answered, not done again";
  EXPECT_EQ(Sweep().state, SweepState::kRunning);
  for (const absl::Status& status :
       {core_->PauseSweep("s", {"id", "other"}), core_->ResumeSweep("s", "id"),
        core_->CancelSweep("s", true, "id2"), core_->DeleteSweep("s", "id"),
        core_->UpdateSweep("s", {}, "", "id"),
        core_->ChangeTrial(TrialVerb::kStop, "s", "0000", "id"),
        core_->AddPoints("s", {}, 1, "id").status(), core_->RetryTrials("s", {}, "id").status(),
        core_->CreateSweep(PrepareSweep(MakeSpec("t", 1), 10).value(), "id")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(Message(status), HasSubstr("Sweep of sweep \"s\"")) << "names the first use";
  }
  EXPECT_EQ(Events(), events);
}

TEST_F(LifecycleTest, NothingIsDoneWhenItCannotBeStored) {
  Bring(S::kRunning);
  const std::string before = core_->state().DebugString();
  for (int verb = 0; verb < 5; ++verb) {
    disk_->failures.push_back(absl::ResourceExhaustedError("disk full"));
    absl::Status status;
    if (verb == 0) status = core_->PauseSweep("s", "a");
    if (verb == 1) status = core_->CancelSweep("s", true, "b");
    if (verb == 2) status = core_->ChangeTrial(TrialVerb::kStop, "s", "0000", "c");
    if (verb == 3) status = core_->AddPoints("s", {{{"sae.k", "9"}}}, 9, "d").status();
    if (verb == 4) status = core_->UpdateSweep("s", {.priority = 3}, "", "e");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(core_->state().DebugString(), before);
  }
  EXPECT_TRUE(core_->PauseSweep("s", "a").ok()) << "its id was not used";
}

}  // namespace
}  // namespace sae::server::testing
