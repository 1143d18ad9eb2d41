// Each invariant on a history made by hand that keeps it, and on ones that break it.
#include "server/sim/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/config/events.h"
#include "server/sim/log_model.h"

namespace sae::server::sim {
namespace {

using config::EventKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSpec[] = R"({"apiVersion": "saeloom/v1", "name": "s", "store": "/d",
  "trial": {"sae": {"architecture": "topk", "latents": 64, "k": 4}, "train": {"tokens": 1000}},
  "objective": {"metric": "heldout.fvu", "goal": "minimize"}, "search": {"grid": {}},
  "maxConcurrent": 2})";

absl::Duration S(double seconds) { return absl::Seconds(seconds); }

/// Trial 0000 runs on "a" from 1 s, is lost, runs on "b" and succeeds.
class CheckerTest : public ::testing::Test {
 protected:
  CheckerTest() {
    h.slots = {{"a", 2}, {"b", 2}};
    h.trial_attempts = 3;
    h.worker_attempts = 10;
    SweepCreated created;
    created.spec = kSpec;
    created.points.resize(2);
    Add(1, "", created);
    Add(1, "0000", Allocated(1, "a"));
    Add(2, "0000", AttemptRunning{1, 0});
    Add(3, "0000", Metrics(1, 1));
    Add(3, "0000", CheckpointSaved{1, "step-1", 1, 1000});
    Add(20, "0000", Ended(1, TrialState::kPending, Charge::kWorker));
    Add(21, "0000", Allocated(2, "b"));
    Add(22, "0000", AttemptRunning{2, 1});
    Add(23, "0000", Metrics(2, 2));
    Add(24, "0000", Ended(2, TrialState::kSucceeded, Charge::kNone));
    h.processes = {{{"s", "0000", 1}, "a", "a1", 1, S(1.5), S(12)},
                   {{"s", "0000", 2}, "b", "b1", 1, S(21.5), S(23.5)}};
    h.lines[{"s", "0000", 1}] = {Line(1, EventKind::kStarted, 0), Line(2, EventKind::kMetrics, 1),
                                 Line(3, EventKind::kCheckpoint, 1),
                                 Line(4, EventKind::kMetrics, 2)};
    h.lines[{"s", "0000", 2}] = {Line(1, EventKind::kStarted, 1), Line(2, EventKind::kMetrics, 2)};
    h.acknowledged = {{{"s", "0000", 1}, 3}, {{"s", "0000", 2}, 2}};
    ClientOp submit;
    submit.kind = ClientOp::Kind::kSubmit;
    submit.sweep = "s";
    submit.request_id = "r";
    submit.points = 2;
    submit.outcome = ClientOp::Outcome::kOk;
    h.operations = {submit};
    h.watches = {{"s", {{1, "sweep_created", ""}, {2, "attempt_allocated", "0000"}}}};
  }

  void Add(double at, const std::string& trial, Body body) {
    const auto seq = static_cast<std::int64_t>(h.log.size()) + 1;
    h.log.push_back({"s", seq, absl::UnixEpoch(), trial, std::move(body)});
    h.committed.push_back(S(at));
  }
  static AttemptAllocated Allocated(int attempt, const std::string& worker, int slots = 1) {
    AttemptAllocated e;
    e.attempt = attempt;
    e.worker = worker;
    e.slots = slots;
    return e;
  }
  static AttemptEnded Ended(int attempt, TrialState next, Charge charge) {
    AttemptEnded e;
    e.attempt = attempt;
    e.next = next;
    e.charge = charge;
    return e;
  }
  static Point Metrics(int attempt, std::int64_t step) { return {attempt, step, step, false, {}}; }
  static std::string Line(std::int64_t seq, EventKind kind, std::int64_t step) {
    config::Event event;
    event.seq = seq;
    event.kind = kind;
    event.step = step;
    if (kind == EventKind::kCheckpoint) event.checkpoint = "step-" + std::to_string(step);
    return config::ToJsonLine(event);
  }

  History h;
};

TEST_F(CheckerTest, AGoodHistoryBreaksNothing) { EXPECT_THAT(CheckAll(h), IsEmpty()); }

TEST_F(CheckerTest, TwoAttemptsOfATrialThatLiveTogether) {
  h.processes[0].end = S(22);
  EXPECT_THAT(CheckOneLiveAttempt(h), ElementsAre(HasSubstr("attempt 2 on b starts")));
}

TEST_F(CheckerTest, MoreSlotsAllocatedThanAWorkerHas) {
  Add(25, "0001", Allocated(1, "a", 3));
  EXPECT_THAT(CheckSlots(h), ::testing::Contains(HasSubstr("3 of 2 slots of a are allocated")));
}

TEST_F(CheckerTest, MoreProcessesThanAMachineHasSlots) {
  h.processes.push_back({{"s", "0001", 1}, "b", "b2", 2, S(22), S(23)});
  EXPECT_THAT(CheckSlots(h), ElementsAre(HasSubstr("3 of 2 slots of b are in use")));
}

TEST_F(CheckerTest, SlotsOfWhatStillRunsGivenAway) {
  h.processes[0].end = S(30);  // given up at 20 s
  Add(25, "0001", Allocated(1, "a", 2));
  EXPECT_THAT(CheckSlots(h), ElementsAre(HasSubstr("with what still runs there 3 of 2")));
}

TEST_F(CheckerTest, AnAcknowledgedSubmitThatIsLost) {
  h.operations[0].sweep = "other";
  EXPECT_THAT(CheckClientOperations(h),
              ElementsAre(HasSubstr("nobody submitted"), HasSubstr("is lost")));
}

TEST_F(CheckerTest, ASubmitRefusedBecauseOfItself) {
  h.operations[0].outcome = ClientOp::Outcome::kRefused;
  h.operations[0].code = absl::StatusCode::kAlreadyExists;
  EXPECT_THAT(CheckClientOperations(h), ElementsAre(HasSubstr("because of itself")));
}

TEST_F(CheckerTest, ASweepCreatedTwice) {
  h.log.push_back(h.log[0]);
  EXPECT_THAT(CheckClientOperations(h), ElementsAre(HasSubstr("created 2 times")));
}

TEST_F(CheckerTest, AnAcknowledgedRetryAndCancelThatAreLost) {
  ClientOp op = h.operations[0];
  op.kind = ClientOp::Kind::kRetry;
  op.trials = {"0000"};
  h.operations.push_back(op);
  op.kind = ClientOp::Kind::kCancel;
  h.operations.push_back(op);
  EXPECT_THAT(CheckClientOperations(h),
              ElementsAre(HasSubstr("retry of s/0000"), HasSubstr("cancel of s")));
}

TEST_F(CheckerTest, MoreRetriesThanWereAskedFor) {
  Add(25, "0000", TrialRetried{});
  EXPECT_THAT(CheckClientOperations(h), ElementsAre(HasSubstr("retried 1 times, asked for 0")));
}

TEST_F(CheckerTest, AnAcknowledgedPointThatIsLost) {
  std::erase_if(
      h.log, [](const LogEvent& e) { return e.telemetry() && std::get<Point>(e.body).step == 2; });
  EXPECT_THAT(CheckReports(h), ElementsAre(HasSubstr("attempt 2: line 2, step 2")));
}

TEST_F(CheckerTest, AnAcknowledgedCheckpointThatIsLost) {
  std::erase_if(h.log,
                [](const LogEvent& e) { return std::holds_alternative<CheckpointSaved>(e.body); });
  EXPECT_THAT(CheckReports(h), ElementsAre(HasSubstr("checkpoint step-1")));
}

TEST_F(CheckerTest, APointThatIsThereTwice) {
  Add(24, "0000", Metrics(2, 2));
  EXPECT_THAT(CheckReports(h), ElementsAre(HasSubstr("is there twice")));
}

TEST_F(CheckerTest, SupersededPointsMayBeMissing) {
  h.acknowledged.push_back({{"s", "0000", 1}, 4});  // step 2, the second attempt begins at 1
  EXPECT_THAT(CheckReports(h), IsEmpty());
}

TEST_F(CheckerTest, AStartThatWasNeverAllocated) {
  h.processes.push_back({{"s", "0001", 1}, "a", "a2", 1, S(22), S(23)});
  EXPECT_THAT(CheckStarts(h), ElementsAre(HasSubstr("never allocated")));
}

TEST_F(CheckerTest, AStartOnAnotherWorker) {
  h.processes[1].worker = "a";
  EXPECT_THAT(CheckStarts(h), ElementsAre(HasSubstr("it was allocated to b")));
}

TEST_F(CheckerTest, AStartAfterTheEnd) {
  h.processes[0].start = S(20.5);
  EXPECT_THAT(CheckStarts(h), ElementsAre(HasSubstr("it had ended")));
}

TEST_F(CheckerTest, AStartForTheSecondTime) {
  h.processes.push_back({{"s", "0000", 1}, "a", "a2", 1, S(13), S(14)});
  EXPECT_THAT(CheckStarts(h), ElementsAre(HasSubstr("for the second time")));
  h.committed.clear();
  EXPECT_THAT(CheckStarts(h), ElementsAre(HasSubstr("for the second time")));
}

TEST_F(CheckerTest, AGangThatStartsBeforeAllOfItIsPrepared) {
  AttemptAllocated gang = Allocated(1, "a", 3);
  gang.hosts = {{"a", 2}, {"b", 1}};
  Add(25, "0001", gang);
  Add(26, "0001", AttemptStarting{1});
  EXPECT_THAT(CheckGangs(h), ElementsAre(HasSubstr("not all of its hosts had prepared")));
  h.log.back().body = AttemptPrepared{1};
  h.reservations = {{{"s", "0001", 1}, "a", S(25)}, {{"s", "0001", 1}, "b", S(25)}};
  Add(27, "0001", AttemptStarting{1});
  EXPECT_THAT(CheckGangs(h), IsEmpty());
}

TEST_F(CheckerTest, AGangOfWhichAHostHadPreparedNothing) {
  AttemptAllocated gang = Allocated(1, "a", 3);
  gang.hosts = {{"a", 2}, {"b", 1}};
  Add(25, "0001", gang);
  Add(26, "0001", AttemptPrepared{1});
  h.reservations = {{{"s", "0001", 1}, "a", S(25.5)}, {{"s", "0001", 1}, "b", S(26.5)}};
  EXPECT_THAT(CheckGangs(h), ElementsAre(HasSubstr("b had held nothing for it")));
  h.reservations[1].start = S(25.5);
  EXPECT_THAT(CheckGangs(h), IsEmpty());
}

TEST_F(CheckerTest, AGangThatIsNotWhole) {
  AttemptAllocated gang = Allocated(1, "a", 3);
  gang.hosts = {{"a", 2}};
  Add(25, "0001", gang);
  EXPECT_THAT(CheckGangs(h), ElementsAre(HasSubstr("its hosts have 2 slots, it needs 3")));
}

TEST_F(CheckerTest, TrialsOfOneGangAllocatedApart) {
  AttemptAllocated packed = Allocated(1, "a");
  packed.gang = "0001/1";
  Add(25, "0001", packed);
  packed.worker = "b";
  Add(26, "0000", packed);
  EXPECT_THAT(CheckGangs(h), ElementsAre(HasSubstr("is on a and on b"), HasSubstr("at once")));
}

TEST_F(CheckerTest, AnEventAfterTheEnd) {
  Add(25, "0000", Allocated(3, "a"));
  EXPECT_THAT(CheckTerminalStates(h), ElementsAre(HasSubstr("the trial had ended")));
}

TEST_F(CheckerTest, ARetryReopens) {
  Add(25, "0000", TrialRetried{});
  Add(26, "0000", Allocated(3, "a"));
  EXPECT_THAT(CheckTerminalStates(h), IsEmpty());
}

TEST_F(CheckerTest, ASweepThatEndsTwice) {
  Add(25, "", SweepChanged{SweepState::kSucceeded});
  EXPECT_THAT(CheckTerminalStates(h), IsEmpty());
  Add(26, "", SweepChanged{SweepState::kFailed});
  EXPECT_THAT(CheckTerminalStates(h), ElementsAre(HasSubstr("the sweep had ended")));
}

TEST_F(CheckerTest, AHoleInTheLog) {
  h.log[4].seq = 99;
  EXPECT_THAT(CheckStreams(h), ElementsAre(HasSubstr("expected seq 5")));
}

TEST_F(CheckerTest, AWatcherThatMissesOneOrSeesAnother) {
  h.watches[0].seen[1].seq = 3;
  EXPECT_THAT(CheckStreams(h), ElementsAre(HasSubstr("the next was 2")));
  h.watches[0].seen[1] = {2, "notice", ""};
  EXPECT_THAT(CheckStreams(h), ElementsAre(HasSubstr("the log has another there")));
}

TEST_F(CheckerTest, WhatHasNotEndedOnceAllIsSettled) {
  h.settled = true;
  EXPECT_THAT(CheckSettled(h), ElementsAre(HasSubstr("open trials: 1")));
  h.may_linger = {"s"};
  EXPECT_THAT(CheckSettled(h), IsEmpty());
}

TEST_F(CheckerTest, AQuotaExceeded) {
  QueueUpdated queue;
  queue.name = "default";
  queue.quota_slots = 1;
  h.log.insert(h.log.begin(), {"", 1, absl::UnixEpoch(), "", queue});
  EXPECT_THAT(CheckQuotas(h), IsEmpty());
  Add(25, "0001", Allocated(1, "a", 2));
  EXPECT_THAT(CheckQuotas(h), ElementsAre(HasSubstr("uses 2 slots, its quota is 1")));
}

TEST_F(CheckerTest, MaxConcurrentExceeded) {
  SweepUpdated updated;
  updated.max_concurrent = 1;
  Add(25, "", updated);
  Add(25, "0000", TrialRetried{});
  Add(26, "0000", Allocated(3, "a"));
  EXPECT_THAT(CheckQuotas(h), IsEmpty());
  Add(26, "0001", Allocated(1, "a"));
  EXPECT_THAT(CheckQuotas(h), ElementsAre(HasSubstr("2 trials live, maxConcurrent is 1")));
}

TEST_F(CheckerTest, MoreAttemptsThanTheLimit) {
  h.worker_attempts = 1;
  EXPECT_THAT(CheckAttemptLimits(h), ElementsAre(HasSubstr("used up its attempts")));
}

}  // namespace
}  // namespace sae::server::sim
