// Retention as far as the core goes: what is decided, commanded, answered and recorded.
#include "server/testing/retention_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Failures final : CoreObserver {
  void OnCheckpointFailed(const std::string& what) override { of.push_back(what); }
  std::vector<std::string> of;
};

class CoreRetention : public RetentionTest {
 protected:
  void Begin(config::CheckpointPolicy policy, int trials = 1) {
    Create(Spec(policy, trials));
    Register(Registration("w", trials));
    StartAll();
  }
  absl::Status Protect(const std::string& name, bool on = true, const RequestKey& key = {}) {
    const absl::Status status = core_->ProtectCheckpoint("s", "0000", name, on, key);
    core_->Tick();
    return status;
  }
  /// "0000/step-1 stays", in their order.
  Names Collect(bool dry_run, const RequestKey& key = {}) {
    Names out;
    const auto all = core_->CollectCheckpoints("s", dry_run, key);
    EXPECT_TRUE(all.ok()) << all.status();
    if (!all.ok()) return out;
    for (const JudgedCheckpoint& c : *all)
      out.push_back(
          absl::StrCat(TrialNameOf(c.trial), "/", c.record.name, c.stays ? " stays" : " goes"));
    return out;
  }
};

TEST_F(CoreRetention, ByDefaultTheTrainerRemovesAllButTheNewestTwo) {
  Begin({});
  EXPECT_EQ(runs_[0].keep, 2);
  for (int step = 1; step <= 4; ++step) SaveAt(0, step, .5);
  ObeyAll();
  EXPECT_THAT(Records(), ElementsAre("step-3", "step-4"));
  EXPECT_THAT(disk_of_[0].own, ElementsAre(3, 4));
  EXPECT_FALSE(Trial(0).checkpoints[0].value.has_value()) << "nobody asks for it";
  CheckReplay();
}

TEST_F(CoreRetention, KeepLatestGoesToTheTrainer) {
  Begin({4, 0, 0});
  EXPECT_EQ(runs_[0].keep, 4);
  for (int step = 1; step <= 6; ++step) SaveAt(0, step);
  EXPECT_THAT(Records(), ElementsAre("step-3", "step-4", "step-5", "step-6"));
  EXPECT_THAT(disk_of_[0].own, ElementsAre(3, 4, 5, 6));
}

TEST_F(CoreRetention, TheBestAreLinkedAndTheRestDeleted) {
  Begin({1, 1, 0});
  EXPECT_EQ(runs_[0].keep, -1);
  SaveAt(0, 1, .5);
  SaveAt(0, 2, .2);
  SaveAt(0, 3, .9);
  Settle();
  EXPECT_THAT(Records(), ElementsAre("step-1 deleting", "step-2 kept", "step-3"));
  EXPECT_THAT(Keeps(), ElementsAre("0000/step-2@1"));
  EXPECT_THAT(Deletes(), ElementsAre("0000/step-1@1"));
  EXPECT_EQ(core_->OutboxDepth(), 2);
  ObeyAll();
  EXPECT_THAT(Records(), ElementsAre("step-2 kept secured", "step-3"));
  EXPECT_EQ(core_->OutboxDepth(), 0);
  // A better one takes its place.
  SaveAt(0, 4, .1);
  ObeyAll();
  EXPECT_THAT(Records(), ElementsAre("step-4 kept secured"));
  EXPECT_THAT(disk_of_[0].own, ElementsAre(4));
  EXPECT_THAT(disk_of_[0].kept, ElementsAre(4));
  CheckReplay();
}

TEST_F(CoreRetention, AnEvaluationAfterTheLastCheckpointCounts) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .5);
  SaveAt(0, 2, .4, true);
  ASSERT_EQ(Trial(0).checkpoints.size(), 2U);
  EXPECT_EQ(Trial(0).checkpoints[1].value, (CheckpointValue{.4, true, 2}));
  Finish(0);
  ObeyAll();
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
  EXPECT_THAT(Records(), ElementsAre("step-2 kept secured"));
  CheckReplay();
}

TEST_F(CoreRetention, WithoutANewMeasurementTheOneBeforeCounts) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .5);
  SaveAt(0, 2);
  EXPECT_EQ(Trial(0).checkpoints[1].value, (CheckpointValue{.5, true, 1}));
}

TEST_F(CoreRetention, OfTheSweepsBestTrialsOneEach) {
  Begin({1, 0, 1}, 2);
  SaveAt(0, 1, .5);
  SaveAt(0, 2, .6);
  SaveAt(1, 1, .7);
  SaveAt(1, 2, .8);
  ObeyAll();
  EXPECT_THAT(Records(0), ElementsAre("step-1 kept secured", "step-2"));
  EXPECT_THAT(Records(1), ElementsAre("step-2"));
  SaveAt(1, 3, .1);
  ObeyAll();
  EXPECT_THAT(Records(0), ElementsAre("step-2")) << "another trial took its place";
  EXPECT_THAT(Records(1), ElementsAre("step-3 kept secured"));
  CheckReplay();
}

TEST_F(CoreRetention, CommandsAreRepeatedUntilTheyAreAnswered) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .1);
  SaveAt(0, 2, .5);
  SaveAt(0, 3, .9);
  Settle();
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Keeps(), ElementsAre("0000/step-1@1"));
    EXPECT_THAT(Deletes(), ElementsAre("0000/step-2@1"));
    Restart();
    EXPECT_THAT(Keeps(), IsEmpty()) << "its worker has to come back";
    RegisterRequest again = Registration("w", 1);
    again.attempts.push_back({{"s", "0000", 1}, true});
    Register(again);
  }
  // Answers that come twice, or late, change nothing.
  const CheckpointStatus kept = Obey(KeepCheckpointCommand{"s", "0000", "step-1", 1});
  const CheckpointStatus gone = Obey({"s", "0000", {"step-2"}, 1}, "step-2");
  ASSERT_TRUE(Answer({kept, gone}).ok());
  const std::int64_t events = Events();
  ASSERT_TRUE(Answer({kept, gone, kept}).ok());
  EXPECT_EQ(Events(), events);
  EXPECT_THAT(Records(), ElementsAre("step-1 kept secured", "step-3"));
  CheckReplay();
}

TEST_F(CoreRetention, AnswersOfStrangersAndOfOtherAttemptsDoNotCount) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .1);
  SaveAt(0, 2, .5);
  SaveAt(0, 3, .9);
  Settle();
  CheckpointStatus gone = Obey({"s", "0000", {"step-2"}, 1}, "step-2");
  gone.attempt = 2;
  ASSERT_TRUE(Answer({gone}).ok());
  EXPECT_THAT(Records(), ElementsAre("step-1 kept", "step-2 deleting", "step-3"));
  gone.attempt = 1;
  Register(Registration("other", 1, "runs-b"));
  HeartbeatRequest request{SenderOf("other"), 1, 1, {}, {gone}};
  ASSERT_TRUE(core_->Heartbeat(request).ok());
  EXPECT_THAT(Records(), ElementsAre("step-1 kept", "step-2 deleting", "step-3"));
  request.sender = SenderOf("w");
  --request.sender.epoch;
  EXPECT_TRUE(absl::IsAborted(core_->Heartbeat(request).status()));
  EXPECT_THAT(Records(), ElementsAre("step-1 kept", "step-2 deleting", "step-3"));
}

TEST_F(CoreRetention, WhoSharesTheRunsFolderDoesItAndElseItWaits) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .1);
  SaveAt(0, 2, .5);
  SaveAt(0, 3, .9);
  Settle();
  clock_.Advance(absl::Seconds(60));
  core_->Tick();
  Register(Registration("other", 1, "runs-b"));
  EXPECT_THAT(core_->CommandsFor("other"), IsEmpty());
  const auto judged = core_->JudgeCheckpoints(Sweep(), nullptr);
  ASSERT_EQ(judged.size(), 3U);
  EXPECT_THAT(judged[1].why, HasSubstr("waits for a worker that shares runs folder /runs-a"));
  Register(Registration("w3", 1, "runs-a"));
  std::vector<std::string> told;
  for (const Command& command : core_->CommandsFor("w3")) {
    if (const auto* keep = std::get_if<KeepCheckpointCommand>(&command)) told.push_back(keep->name);
    if (const auto* remove = std::get_if<DeleteCheckpointsCommand>(&command))
      told.push_back("not " + remove->names[0]);
  }
  EXPECT_THAT(told, ElementsAre("step-1", "not step-2"));
}

TEST_F(CoreRetention, ProtectedOnesAreLinkedAndStayUntilTheyAreNot) {
  Begin({});
  SaveAt(0, 1);
  ASSERT_TRUE(Protect("step-1", true, "id").ok());
  const std::int64_t events = Events();
  ASSERT_TRUE(Protect("step-1", true, "id").ok());
  ASSERT_TRUE(Protect("step-1").ok());
  EXPECT_EQ(Events(), events) << "it is protected";
  EXPECT_THAT(Keeps(), ElementsAre("0000/step-1@1"));
  ObeyAll();
  for (int step = 2; step <= 4; ++step) SaveAt(0, step);
  EXPECT_THAT(disk_of_[0].own, ElementsAre(3, 4));
  EXPECT_THAT(disk_of_[0].kept, ElementsAre(1));
  EXPECT_THAT(Records(), ElementsAre("step-1 protected secured", "step-3", "step-4"));
  EXPECT_THAT(Collect(false),
              ElementsAre("0000/step-1 stays", "0000/step-3 stays", "0000/step-4 stays"));
  ASSERT_TRUE(Protect("step-1", false).ok());
  EXPECT_THAT(Records(), ElementsAre("step-1 secured deleting", "step-3", "step-4"));
  const absl::Status late = Protect("step-1");
  EXPECT_TRUE(absl::IsFailedPrecondition(late)) << late;
  EXPECT_THAT(Message(late), HasSubstr("being deleted"));
  ObeyAll();
  EXPECT_THAT(disk_of_[0].kept, IsEmpty());
  EXPECT_THAT(Records(), ElementsAre("step-3", "step-4"));
  const absl::Status gone = Protect("step-1");
  EXPECT_TRUE(absl::IsNotFound(gone)) << gone;
  EXPECT_THAT(Message(gone), HasSubstr("it has step-3, step-4"));
  CheckReplay();
}

TEST_F(CoreRetention, OneThatIsUnprotectedBeforeItWasLinkedLeavesNothing) {
  Begin({});
  SaveAt(0, 1);
  ASSERT_TRUE(Protect("step-1").ok());
  for (int step = 2; step <= 3; ++step) SaveAt(0, step);
  ASSERT_TRUE(Protect("step-1", false).ok());
  EXPECT_THAT(Records(), ElementsAre("step-1 deleting", "step-2", "step-3"));
  // The worker links it only now: it was told so before.
  disk_of_[0].kept.insert(1);
  ASSERT_TRUE(Answer({{"s", "0000", "step-1", 1, CheckpointStatus::State::kKept, "", 10, 7}}).ok());
  ObeyAll();
  EXPECT_THAT(disk_of_[0].kept, IsEmpty());
  CheckReplay();
}

TEST_F(CoreRetention, WhatWasGoneBeforeItCouldBeKeptLeavesTheList) {
  Begin({});
  SaveAt(0, 1);
  SaveAt(0, 2);
  ASSERT_TRUE(Protect("step-1").ok());
  ASSERT_TRUE(Protect("step-2").ok());
  SaveAt(0, 3);
  disk_of_[0].own = {3};
  using Kind = CheckpointStatus::State;
  ASSERT_TRUE(Answer({{"s", "0000", "step-1", 1, Kind::kMissing, "", 0, 7},
                      {"s", "0000", "step-2", 1, Kind::kMissing, "", 0, 8}})
                  .ok());
  EXPECT_THAT(Records(), ElementsAre("step-2 protected", "step-3"))
      << "one of the newest two may only be shown late";
  EXPECT_THAT(core_->JudgeCheckpoints(Sweep(), nullptr)[0].why,
              HasSubstr("its worker does not find it whole"));
  CheckReplay();
}

TEST_F(CoreRetention, CollectingSaysWhatItDoesAndADryRunDoesNothing) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .5);
  ObeyAll();
  SaveAt(0, 2, .1);
  SaveAt(0, 3, .2);
  // The policy is looked at once a second.
  const std::int64_t events = Events();
  const std::string before = core_->state().DebugString();
  const Names judged = {"0000/step-1 goes", "0000/step-2 stays", "0000/step-3 stays"};
  EXPECT_EQ(Collect(true), judged);
  EXPECT_EQ(Events(), events);
  EXPECT_EQ(core_->state().DebugString(), before);
  EXPECT_EQ(Collect(false, "id"), judged);
  EXPECT_THAT(Records(), ElementsAre("step-1 secured deleting", "step-2 kept", "step-3"));
  EXPECT_EQ(Collect(false, "id"), judged) << "the same request again";
  ObeyAll();
  EXPECT_EQ(Collect(false, "id"),
            (Names{"0000/step-2 stays", "0000/step-3 stays", "0000/step-1 goes"}));
  EXPECT_THAT(Collect(true), ElementsAre("0000/step-2 stays", "0000/step-3 stays"));
  EXPECT_TRUE(absl::IsNotFound(core_->CollectCheckpoints("t", true, "").status()));
}

TEST_F(CoreRetention, AForksSourceStaysUntilTheForkHasEnded) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .5);
  const auto fork = [&](const std::string& name, const std::string& checkpoint) {
    auto prepared = PrepareSweep(MakeSpec(name, 1), 10).value();
    prepared.event.forked_from = "s/0000/" + checkpoint;
    prepared.event.fork_runs_id = "runs-a";
    return core_->CreateSweep(prepared, {}, "ann");
  };
  ASSERT_TRUE(fork("f", "step-1").ok());
  ASSERT_TRUE(Protect("step-1", false).ok());
  SaveAt(0, 2, .1);
  SaveAt(0, 3, .9);
  ObeyAll();
  EXPECT_THAT(disk_of_[0].own, ElementsAre(1, 2, 3));
  const auto judged = core_->JudgeCheckpoints(Sweep(), nullptr);
  EXPECT_EQ(judged[0].why, "a fork begins from it");
  ASSERT_TRUE(core_->CancelSweep("f").ok());
  Settle();
  EXPECT_THAT(Deletes(), ElementsAre("0000/step-1@1"));
  const absl::Status late = fork("g", "step-1");
  EXPECT_TRUE(absl::IsFailedPrecondition(late)) << late;
  ObeyAll();
  EXPECT_THAT(disk_of_[0].own, ElementsAre(2, 3));
  CheckReplay();
}

TEST_F(CoreRetention, AnAttemptThatGoesOnFromAnEarlierOneDoesNotLoseIt) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .9);
  SaveAt(0, 2, .1);
  ObeyAll();
  SaveAt(0, 3, .5);
  SaveAt(0, 4, .6);
  Settle();  // 3 is told to go; 4 turns out to be damaged
  disk_of_[0].own.erase(4);
  Kill(0);
  StartAll();
  EXPECT_EQ(Trial(0).attempts.back().from_step, 3);
  EXPECT_THAT(Records(), ElementsAre("step-2 kept secured", "step-3 deleting"));
  const CheckpointStatus refused = Obey({"s", "0000", {"step-3"}, 1}, "step-3");
  EXPECT_EQ(refused.state, CheckpointStatus::State::kFailed);
  Failures failures;
  core_->AddObserver(&failures);
  ASSERT_TRUE(Answer({refused}).ok());
  ASSERT_TRUE(Answer({refused}).ok()) << "its acknowledgement was lost";
  EXPECT_THAT(failures.of, ElementsAre("delete"));
  EXPECT_THAT(core_->JudgeCheckpoints(Sweep(), nullptr)[1].why, HasSubstr("it is the newest"));
  SaveAt(0, 4, .7);
  ObeyAll();
  EXPECT_THAT(Records(), ElementsAre("step-2 kept secured", "step-4"));
  EXPECT_THAT(disk_of_[0].own, ElementsAre(2, 4));
  CheckReplay();
}

TEST_F(CoreRetention, ARestartedWorkersFailuresAreNumberedAnew) {
  Begin({1, 1, 0});
  SaveAt(0, 1, .9);
  Failures failures;
  core_->AddObserver(&failures);
  const auto failed = [](std::int64_t id) {
    return CheckpointStatus{"s",  "0000", "step-1", 1, CheckpointStatus::State::kFailed,
                            "no", 0,      id};
  };
  Settle();
  ASSERT_TRUE(Answer({failed(7)}).ok());
  auto again = Registration("w", 1, "runs-a", "2");
  again.attempts = {{{"s", "0000", 1}, true}};
  Register(again);
  ASSERT_TRUE(core_->Heartbeat({SenderOf("w", "2"), ++heartbeats_, 0, {}, {failed(1)}}).ok());
  EXPECT_THAT(failures.of, ElementsAre("keep", "keep"));
}

TEST_F(CoreRetention, ADeletedSweepIsForgotten) {
  Begin({1, 1, 0});
  for (int step = 1; step <= 3; ++step) SaveAt(0, step, .5);
  Settle();
  Finish(0);
  ASSERT_GT(core_->OutboxDepth(), 0);
  ASSERT_TRUE(core_->DeleteSweep("s", {}).ok());
  Settle();
  EXPECT_EQ(core_->OutboxDepth(), 0);
  EXPECT_THAT(core_->CommandsFor("w"), IsEmpty());
  CheckReplay();
}

TEST_F(CoreRetention, AStoreThatFailsDecidesNothing) {
  Begin({1, 1, 0});
  for (int step = 1; step <= 3; ++step) SaveAt(0, step, 1.0 / step);
  disk_->failures.push_back(absl::ResourceExhaustedError("injected"));
  Settle();
  EXPECT_THAT(Deletes(), IsEmpty());
  Settle();
  EXPECT_THAT(Deletes(), ElementsAre("0000/step-1@1", "0000/step-2@1"));
  CheckReplay();
}

}  // namespace
}  // namespace sae::server::testing
