// The effective curve: each step once, whatever attempts there were.
#include "server/core/core.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using Steps = std::vector<std::int64_t>;

class CurveTest : public CoreTest {
 protected:
  /// Attempt 1 trains 10..50 with a checkpoint at 20, is lost; attempt 2 goes on from 20 to 70.
  void SetUp() override {
    Create(MakeSpec("s", 1));
    Register(Registration("w", 1));
    Attempt(1, 0, {10, 20, 30, 40, 50}, 20);
    ASSERT_TRUE(Beat("w", {Ended("0000", 1, 1, "")}).ok());
    clock_.Advance(absl::Seconds(10));
    ASSERT_TRUE(Beat("w").ok());
    Attempt(2, 20, {30, 40, 60, 70}, 60);
  }
  void Attempt(int number, std::int64_t from, const Steps& steps, std::int64_t checkpoint) {
    std::int64_t seq = 0;
    std::vector<std::string> lines = {Line(++seq, EventKind::kStarted, from, from)};
    for (const std::int64_t step : steps) {
      lines.push_back(Line(++seq, EventKind::kMetrics, step));
      if (step == checkpoint) lines.push_back(Line(++seq, EventKind::kCheckpoint, step));
    }
    lines.push_back(Line(++seq, EventKind::kEvaluation, steps.back()));
    ASSERT_EQ(*Report("w", {"s", "0000", number}, 1, lines), seq);
  }
  MetricSeries Curve(const std::string& metric, int max_points = 0, bool all = false) {
    const auto series = core_->QueryMetrics(Sweep(), Trial(0), {metric}, max_points, all).value();
    return series.empty() ? MetricSeries{} : series.at(0);
  }
};

TEST_F(CurveTest, EachStepOnce) {
  const MetricSeries curve = Curve("train.loss");
  EXPECT_EQ(curve.steps, (Steps{10, 20, 30, 40, 60, 70}));
  EXPECT_EQ(curve.attempts, (std::vector<int>{1, 1, 2, 2, 2, 2}));
  EXPECT_EQ(curve.tokens, (Steps{10000, 20000, 30000, 40000, 60000, 70000}));
  // The evaluation at 50 of attempt 1 is superseded.
  EXPECT_EQ(Curve("heldout.fvu").steps, Steps{70});
}

TEST_F(CurveTest, AllAttemptsShowTheRest) {
  EXPECT_EQ(Curve("train.loss", 0, true).steps, (Steps{10, 20, 30, 40, 50, 30, 40, 60, 70}));
}

// The first worker died with lines that it had not reported, and a checkpoint among them.
TEST_F(CurveTest, LinesOfADeadWorkerAreToldByTheOneThatGoesOn) {
  ASSERT_TRUE(Beat("w", {Ended("0000", 2, 0, "finished")}).ok());
  Create(MakeSpec("t", 1));
  ASSERT_EQ(Trial(0, "t").attempts.back().worker, "w");
  const AttemptKey first{"t", "0000", 1}, second{"t", "0000", 2};
  ASSERT_EQ(
      *Report("w", first, 1, {Line(1, EventKind::kStarted), Line(2, EventKind::kMetrics, 10)}), 2);
  const std::vector<std::string> rest = {
      Line(3, EventKind::kMetrics, 20), Line(4, EventKind::kCheckpoint, 20),
      Line(5, EventKind::kMetrics, 30), Line(6, EventKind::kYielded, 30)};
  clock_.Advance(options_.lease + options_.lease_margin);
  core_->Tick();
  clock_.Advance(absl::Seconds(5));
  Register(Registration("y", 1));  // shares the runs folder
  Register(Registration("z", 1, "runs-b"));
  ASSERT_EQ(Trial(0, "t").attempts.back().worker, "y");
  EXPECT_TRUE(absl::IsAborted(Report("z", first, 3, rest).status())) << "another runs folder";
  ASSERT_EQ(*Report("y", second, 1,
                    {Line(1, EventKind::kStarted, 20, 20), Line(2, EventKind::kMetrics, 25)}),
            2);
  ASSERT_EQ(core_->ProgressOf(Sweep("t"), Trial(0, "t"))->step, 25);
  std::vector<std::string> all = {Line(1, EventKind::kStarted), Line(2, EventKind::kMetrics, 10)};
  all.insert(all.end(), rest.begin(), rest.end());
  EXPECT_EQ(*Report("y", first, 1, all), 6);
  EXPECT_EQ(*Report("y", first, 1, all), 6);
  const auto series =
      core_->QueryMetrics(Sweep("t"), Trial(0, "t"), {"train.loss"}, 0, true).value();
  EXPECT_EQ(series.at(0).steps, (Steps{10, 25, 20}))
      << "the point at 30 was superseded before it was told";
  EXPECT_EQ(core_->QueryMetrics(Sweep("t"), Trial(0, "t"), {"train.loss"}, 0, false)->at(0).steps,
            (Steps{10, 20, 25}));
  EXPECT_EQ(core_->ProgressOf(Sweep("t"), Trial(0, "t"))->step, 25)
      << "a late point is not the newest";
  ASSERT_EQ(Trial(0, "t").checkpoints.size(), 1u);
  EXPECT_EQ(Trial(0, "t").checkpoints[0].name, "step-20");
  EXPECT_EQ(Trial(0, "t").state, TrialState::kRunning);
  Restart();
  EXPECT_EQ(core_->ProgressOf(Sweep("t"), Trial(0, "t"))->step, 25);
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(CurveTest, ThinningKeepsTheEnds) {
  EXPECT_EQ(Curve("train.loss", 3).steps, (Steps{10, 30, 70}));
  EXPECT_EQ(Curve("train.loss", 1).steps, Steps{70});
  EXPECT_EQ(Curve("train.loss", 100).steps.size(), 6u);
}

TEST_F(CurveTest, NewestValuesAreOfTheEffectiveCurve) {
  const auto progress = core_->ProgressOf(Sweep(), Trial(0)).value();
  EXPECT_EQ(progress.step, 70);
  EXPECT_DOUBLE_EQ(progress.metrics.at("train.loss"), 1.0 / 71);
  Restart();
  const auto replayed = core_->ProgressOf(Sweep(), Trial(0)).value();
  EXPECT_EQ(replayed.step, 70);
  EXPECT_EQ(replayed.metrics, progress.metrics);
}

TEST_F(CurveTest, WatchersHearOfTheRewindAndCheckpointsBeyondItAreForgotten) {
  std::vector<std::int64_t> rewinds;
  const std::vector<LogEvent> events = core_->Read("s", 0, 1000).value();
  for (const LogEvent& event : events) {
    if (const auto* e = std::get_if<Rewound>(&event.body)) rewinds.push_back(e->step);
  }
  EXPECT_EQ(rewinds, Steps{20});
  ASSERT_EQ(Trial(0).checkpoints.size(), 2u);
  ASSERT_TRUE(Beat("w", {Ended("0000", 2, 1, "")}).ok());
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(Beat("w").ok());
  // Its newest checkpoint was torn: it goes on from the one before.
  Attempt(3, 20, {30}, 0);
  ASSERT_EQ(Trial(0).checkpoints.size(), 1u);
  EXPECT_EQ(Trial(0).checkpoints[0].step, 20);
  EXPECT_EQ(Curve("train.loss").steps, (Steps{10, 20, 30}));
  EXPECT_EQ(Curve("train.loss").attempts, (std::vector<int>{1, 1, 3}));
}

}  // namespace
}  // namespace sae::server::testing
