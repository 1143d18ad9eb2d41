#include "client/cli/watch_model.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/testing/trials.h"

namespace sae::cli {
namespace {
using saeloom::v1::SweepEvent;
using saeloom::v1::Trial;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

std::vector<Trial> Pending() {
  std::vector<Trial> trials = {testing::TopK("0000", 16, 0), testing::TopK("0001", 32, 0),
                               testing::Relu("0002", 0.5, 0, 0)};
  for (Trial& t : trials) {
    t.set_state(Trial::STATE_PENDING);
    t.clear_metrics();
    t.set_attempt(0);
  }
  return trials;
}

class Recorder {
 public:
  SweepEvent& On(const std::string& trial) {
    event_.Clear();
    event_.set_seq(++seq_);
    event_.set_trial(trial);
    return event_;
  }
  SweepEvent Change(const std::string& trial, Trial::State state, const std::string& reason = "",
                    const std::string& worker = "worker-0", int attempt = 1) {
    auto* c = On(trial).mutable_trial_change();
    c->set_state(state);
    c->set_reason(reason);
    c->set_worker(worker);
    c->set_attempt(attempt);
    return event_;
  }
  SweepEvent Point(const std::string& trial, std::int64_t step, double loss,
                   bool evaluation = false) {
    auto* p = On(trial).mutable_point();
    p->set_step(step);
    p->set_tokens(step * 2048);
    p->set_evaluation(evaluation);
    auto& v = *p->mutable_values();
    v[evaluation ? "heldout.fvu" : "train.fvu"] = loss / 2;
    v[evaluation ? "heldout.l0" : "train.l0"] = 16;
    v[evaluation ? "heldout.dead_fraction" : "train.dead_fraction"] = 0.012;
    if (!evaluation) {
      v["train.loss"] = loss;
      v["tokens_per_second"] = 10000;
    }
    return event_;
  }

 private:
  SweepEvent event_;
  std::int64_t seq_ = 0;
};

TEST(WatchModel, FrameShowsEveryTrial) {
  WatchModel model("demo", {absl::Seconds(5), false});
  model.SetTrials(Pending(), 0);
  Recorder r;
  model.Apply(r.Change("0000", Trial::STATE_RUNNING), kNow);
  EXPECT_THAT(model.Apply(r.Point("0000", 122, 0.5), kNow), IsEmpty());  // the frame shows it
  model.Apply(r.Change("0001", Trial::STATE_PENDING, "needs 2 slots; all are taken", ""), kNow);
  EXPECT_THAT(model.Frame(0, 100),
              ElementsAre("demo  RUNNING  0/3 done, 1 running  left 2m05s",
                          "TRIAL  PARAMETERS                  STATE       STEP  PROGRESS          "
                          "LOSS     FVU     L0   DEAD  TOKENS/S  LEFT",
                          "0000   topk k=16                   RUNNING  122/244  [######......]  "
                          "0.5000  0.2500  16.00  1.20%     10.0k   25s",
                          "0001   topk k=32                   PENDING    0/244  [............]     "
                          "  -       -      -      -         -        needs 2 slots; all are taken",
                          "0002   relu_l1 l1_coefficient=0.5  PENDING    0/244  [............]     "
                          "  -       -      -      -         -"));
}

TEST(WatchModel, FrameFitsTheTerminal) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 0);
  Recorder r;
  model.Apply(r.Change("0000", Trial::STATE_SUCCEEDED), kNow);
  model.Apply(r.Change("0002", Trial::STATE_RUNNING), kNow);
  const auto lines = model.Frame(30, 5);
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_THAT(lines[2], HasSubstr("0002"));  // running ones first
  EXPECT_THAT(lines[3], HasSubstr("0001"));
  EXPECT_EQ(lines[4], "… 1 more trials");
  EXPECT_EQ(lines[1], "TRIAL  PARAMETERS            …");
}

TEST(WatchModel, PlainLinesAreRateLimitedPerTrial) {
  WatchModel model("demo", {absl::Seconds(5), true});
  model.SetTrials(Pending(), 0);
  Recorder r;
  EXPECT_THAT(model.Apply(r.Change("0000", Trial::STATE_RUNNING), kNow),
              ElementsAre("0000  topk k=16                   RUNNING  attempt 1 on worker-0"));
  EXPECT_THAT(model.Apply(r.Point("0000", 10, 0.5), kNow),
              ElementsAre("0000  topk k=16                   step 10/244  4%  loss 0.5000  fvu "
                          "0.2500  L0 16.00  dead 1.20%  10.0k tokens/s  left 48s"));
  EXPECT_THAT(model.Apply(r.Point("0000", 20, 0.4), kNow + absl::Seconds(4)), IsEmpty());
  EXPECT_THAT(model.Apply(r.Point("0001", 20, 0.4), kNow + absl::Seconds(4)), ::testing::SizeIs(1));
  EXPECT_THAT(model.Apply(r.Point("0000", 30, 0.3), kNow + absl::Seconds(5)),
              ElementsAre(HasSubstr("step 30/244  12%  loss 0.3000")));
  EXPECT_THAT(model.Apply(r.Point("0000", 30, 0.3, true), kNow + absl::Seconds(5)),
              ElementsAre("0000  topk k=16                   held out at step 30: fvu 0.1500  L0 "
                          "16.00  dead 1.20%"));
}

TEST(WatchModel, EvaluationsAreRateLimitedButNotTheLast) {
  WatchModel model("demo", {absl::Seconds(5), true});
  model.SetTrials(Pending(), 0);
  Recorder r;
  EXPECT_THAT(model.Apply(r.Point("0000", 24, 0.5, true), kNow), ::testing::SizeIs(1));
  EXPECT_THAT(model.Apply(r.Point("0000", 48, 0.5, true), kNow + absl::Seconds(1)), IsEmpty());
  EXPECT_THAT(model.Apply(r.Point("0000", 244, 0.5, true), kNow + absl::Seconds(2)),
              ElementsAre(HasSubstr("held out at step 244")));
}

TEST(WatchModel, TheWorkerIsKnownFromTheAllocation) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 0);
  Recorder r;
  EXPECT_THAT(model.Apply(r.Change("0000", Trial::STATE_ALLOCATED, "", "w7"), kNow), IsEmpty());
  EXPECT_THAT(model.Apply(r.Change("0000", Trial::STATE_RUNNING, "", ""), kNow),
              ElementsAre(HasSubstr("RUNNING  attempt 1 on w7")));
}

TEST(WatchModel, HistoryGivesStatesButNoPoints) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 2);
  Recorder r;
  EXPECT_THAT(model.Apply(r.Change("0000", Trial::STATE_RUNNING), kNow), ::testing::SizeIs(1));
  EXPECT_THAT(model.Apply(r.Point("0000", 10, 0.5), kNow), IsEmpty());
  EXPECT_EQ(model.rows().at("0000").step, 10);
  EXPECT_THAT(model.Apply(r.Point("0000", 20, 0.5), kNow), ::testing::SizeIs(1));
  EXPECT_EQ(model.last_seq(), 3);
}

TEST(WatchModel, ANewAttemptGoesBackToItsCheckpoint) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 0);
  Recorder r;
  model.Apply(r.Point("0000", 100, 0.5), kNow);
  SweepEvent e = r.On("0000");
  e.mutable_rewound()->set_step(50);
  e.mutable_rewound()->set_attempt(2);
  EXPECT_THAT(model.Apply(e, kNow),
              ElementsAre("0000  topk k=16                   goes on from step 50 (attempt 2)"));
  EXPECT_EQ(model.rows().at("0000").step, 50);
  EXPECT_EQ(model.rows().at("0000").tokens, 50 * 2048);
}

TEST(WatchModel, AFailedTrialShowsItsReasonAndTheLast20LinesOfItsLog) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 0);
  Recorder r;
  EXPECT_THAT(
      model.Apply(r.Change("0001", Trial::STATE_FAILED, "rank 1 ended with signal 9", "", 3), kNow),
      ElementsAre(
          "0001  topk k=32                   FAILED  attempt 3: rank 1 ended with signal 9"));
  SweepEvent e = r.On("0001");
  e.mutable_notice()->set_text("last lines of attempt 3's log");
  for (int i = 0; i < 25; ++i) e.mutable_notice()->add_lines("line " + std::to_string(i));
  const auto lines = model.Apply(e, kNow);
  ASSERT_EQ(lines.size(), 21U);
  EXPECT_THAT(lines[0], HasSubstr("last lines of attempt 3's log"));
  EXPECT_EQ(lines[1], "    | line 5");
  EXPECT_EQ(lines[20], "    | line 24");
}

TEST(WatchModel, HeartbeatsDoNotMoveTheCursor) {
  WatchModel model("demo");
  SweepEvent e;
  e.set_seq(99);
  e.mutable_heartbeat();
  EXPECT_THAT(model.Apply(e, kNow), IsEmpty());
  EXPECT_EQ(model.last_seq(), 0);
}

TEST(WatchModel, NonFiniteValuesAreShownAsUnknown) {
  WatchModel model("demo");
  model.SetTrials(Pending(), 0);
  Recorder r;
  EXPECT_THAT(model.Apply(r.Point("0000", 10, std::numeric_limits<double>::quiet_NaN()), kNow),
              ElementsAre(HasSubstr("loss -  fvu -")));
}

}  // namespace
}  // namespace sae::cli
