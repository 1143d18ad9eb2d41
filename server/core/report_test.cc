// Reports exactly once: duplicates, gaps, group commits, failures, restarts.
#include "server/core/core.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;

class ReportTest : public CoreTest {
 protected:
  void SetUp() override {
    Create(MakeSpec("s", 1));
    Register(Registration("w", 1));
    ASSERT_EQ(*Report("w", key_, 1, {Line(1, EventKind::kStarted)}), 1);
  }
  std::vector<std::int64_t> StepsInLog() const {
    std::vector<std::int64_t> steps;
    for (const LogEvent& event : disk_->log) {
      if (const auto* point = std::get_if<Point>(&event.body)) steps.push_back(point->step);
    }
    return steps;
  }
  AttemptKey key_{"s", "0000", 1};
};
using Steps = std::vector<std::int64_t>;

TEST_F(ReportTest, DuplicatesAreSkipped) {
  const std::vector<std::string> lines = {Line(2, EventKind::kMetrics, 1),
                                          Line(3, EventKind::kMetrics, 2)};
  EXPECT_EQ(*Report("w", key_, 2, lines), 3);
  EXPECT_EQ(*Report("w", key_, 2, lines), 3);
  EXPECT_EQ(*Report("w", key_, 2, {lines[0], lines[1], Line(4, EventKind::kMetrics, 3)}), 4);
  EXPECT_EQ(StepsInLog(), (Steps{1, 2, 3}));
}

TEST_F(ReportTest, GapsAreRefused) {
  const absl::Status status = Report("w", key_, 3, {Line(3, EventKind::kMetrics, 1)}).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("the acknowledged seq is 1"));
  EXPECT_EQ(StepsInLog(), Steps{});
}

TEST_F(ReportTest, PointsWaitForCompanyAndAreAcknowledgedAfterTheCommit) {
  std::vector<std::int64_t> answers;
  const auto report = [&](std::int64_t seq) {
    core_->Report({SenderOf("w"), key_, seq, {Line(seq, EventKind::kMetrics, seq)}},
                  [&](const absl::StatusOr<std::int64_t>& a) { answers.push_back(a.value()); });
  };
  report(2);
  report(2);  // sent again while the first waits
  report(3);
  core_->Tick();
  EXPECT_TRUE(answers.empty());
  EXPECT_EQ(StepsInLog(), Steps{});
  EXPECT_EQ(core_->NextDeadline(), clock_.SinceBoot() + options_.group_commit);
  clock_.Advance(options_.group_commit);
  core_->Tick();
  EXPECT_EQ(answers, (Steps{2, 2, 3}));
  EXPECT_EQ(StepsInLog(), (Steps{2, 3}));
}

TEST_F(ReportTest, LifecycleLinesDoNotWait) {
  std::int64_t answer = 0;
  core_->Report({SenderOf("w"),
                 key_,
                 2,
                 {Line(2, EventKind::kMetrics, 4), Line(3, EventKind::kCheckpoint, 4)}},
                [&](const absl::StatusOr<std::int64_t>& a) { answer = a.value(); });
  EXPECT_EQ(answer, 3);
  EXPECT_EQ(Trial(0).checkpoints.back().name, "step-4");
}

TEST_F(ReportTest, AFailedCommitLosesNothingAndAcknowledgesNothing) {
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  const std::vector<std::string> lines = {Line(2, EventKind::kMetrics, 1)};
  EXPECT_TRUE(absl::IsResourceExhausted(Report("w", key_, 2, lines).status()));
  EXPECT_EQ(core_->acknowledged(key_), 1);
  EXPECT_EQ(*Report("w", key_, 2, lines), 2);
  EXPECT_EQ(StepsInLog(), Steps{1});
}

TEST_F(ReportTest, AfterARestartTheWorkerGoesOnFromTheAcknowledgedSeq) {
  ASSERT_EQ(*Report("w", key_, 2, {Line(2, EventKind::kMetrics, 1)}), 2);
  // Accepted, not committed: gone with the process, and never acknowledged.
  bool answered = false;
  core_->Report({SenderOf("w"), key_, 3, {Line(3, EventKind::kMetrics, 2)}},
                [&](const absl::StatusOr<std::int64_t>&) { answered = true; });
  Restart();
  EXPECT_FALSE(answered);
  RegisterRequest again = Registration("w", 1);
  again.attempts.push_back({key_, true});
  EXPECT_EQ(Register(again).attempts.at(0).seq, 2);
  EXPECT_EQ(
      *Report("w", key_, 2, {Line(2, EventKind::kMetrics, 1), Line(3, EventKind::kMetrics, 2)}), 3);
  EXPECT_EQ(StepsInLog(), (Steps{1, 2}));
}

TEST_F(ReportTest, AReplyThatWasLostIsAnsweredAgainAfterTheEnd) {
  const std::vector<std::string> lines = {Line(2, EventKind::kFinished, 9)};
  ASSERT_EQ(*Report("w", key_, 2, lines), 2);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_EQ(*Report("w", key_, 2, lines), 2);
  EXPECT_TRUE(absl::IsAborted(Report("w", key_, 3, {Line(3, EventKind::kMetrics, 10)}).status()))
      << "new lines are not";
}

TEST_F(ReportTest, LinesMustSayTheirOwnSeq) {
  const absl::Status status = Report("w", key_, 2, {Line(5, EventKind::kMetrics, 1)}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(core_->acknowledged(key_), 1);
}

TEST_F(ReportTest, AnUnreadableLineBecomesANotice) {
  EXPECT_EQ(*Report("w", key_, 2, {"{not json", Line(3, EventKind::kMetrics, 1)}), 3);
  EXPECT_EQ(StepsInLog(), Steps{1});
  const auto events = core_->Read("s", 0, 100).value();
  const auto* notice = std::get_if<Notice>(&events[events.size() - 2].body);
  ASSERT_NE(notice, nullptr);
  EXPECT_THAT(notice->text, HasSubstr("line 2 of events.jsonl"));
}

TEST_F(ReportTest, SequencesHaveNoGapsAndNoDuplicates) {
  for (std::int64_t i = 2; i < 40; ++i) {
    const EventKind kind = i % 5 == 0 ? EventKind::kCheckpoint : EventKind::kMetrics;
    ASSERT_EQ(*Report("w", key_, i, {Line(i, kind, i)}), i);
  }
  const auto events = core_->Read("s", 0, 1000).value();
  for (std::size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
  EXPECT_EQ(core_->head("s"), static_cast<std::int64_t>(events.size()));
}

}  // namespace
}  // namespace sae::server::testing
