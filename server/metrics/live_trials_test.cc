#include "server/metrics/live_trials.h"

#include <gmock/gmock.h>
#include <prometheus/text_serializer.h>

#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;
using ::testing::Not;

class LiveTrialsTest : public CoreTest {
 protected:
  void Watch(int most) {
    metrics_ = std::make_unique<LiveTrialMetrics>(registry_, most);
    metrics_->Begin(core_->state());
    core_->AddObserver(metrics_.get());
  }
  void Say(const std::string& trial, int attempt, std::int64_t seq, std::int64_t step,
           const std::map<std::string, double>& values) {
    config::Event event;
    event.seq = seq;
    event.time = 1.7e9;
    event.kind = EventKind::kMetrics;
    event.step = step;
    event.tokens = step * 1000;
    event.values = values;
    ASSERT_TRUE(Report("w", {"s", trial, attempt}, seq, {config::ToJsonLine(event)}).ok());
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

  prometheus::Registry registry_;
  std::unique_ptr<LiveTrialMetrics> metrics_;
};

TEST_F(LiveTrialsTest, ATrialHasItsNewestValuesTillItsAttemptEnds) {
  Watch(10);
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  EXPECT_THAT(Text(), Not(HasSubstr("0000")));
  Say("0000", 1, 1, 5,
      {{"train.loss", 0.5}, {"train.l0", 31}, {"train.dead_fraction", 0.25}, {"lr", 1}});
  Say("0000", 1, 2, 7, {{"train.loss", 0.25}, {"straggler.score", 0.75}, {"tokens_per_second", 9}});
  for (const char* line : {"saeloom_live_trial_loss{sweep=\"s\",trial=\"0000\"} 0.25",
                           "saeloom_live_trial_l0{sweep=\"s\",trial=\"0000\"} 31",
                           "saeloom_live_trial_dead_feature_ratio{sweep=\"s\",trial=\"0000\"} 0.25",
                           "saeloom_live_trial_straggler_score{sweep=\"s\",trial=\"0000\"} 0.75",
                           "saeloom_live_trial_tokens_per_second{sweep=\"s\",trial=\"0000\"} 9",
                           "saeloom_live_trial_tokens_total{sweep=\"s\",trial=\"0000\"} 7000"}) {
    EXPECT_THAT(Text(), HasSubstr(line));
  }
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_THAT(Text(), Not(HasSubstr("0000")));
  metrics_->OnEvent({"s", 9, {}, "0000", Point{1, 9, 9000, false, {{"train.loss", 0.125}}}});
  EXPECT_THAT(Text(), Not(HasSubstr("0000"))) << "one that comes late";
}

TEST_F(LiveTrialsTest, BeyondTheBoundATrialWaitsForRoomAndIsCountedOnce) {
  Watch(1);
  Create(MakeSpec("s", 2));
  Register(Registration("w", 2));
  Say("0000", 1, 1, 1, {{"train.loss", 1}});
  Say("0001", 1, 1, 1, {{"train.loss", 2}});
  Say("0001", 1, 2, 2, {{"train.loss", 2}});
  EXPECT_THAT(Text(), Not(HasSubstr("0001")));
  EXPECT_THAT(Text(), HasSubstr("saeloom_dropped_series_total 1"));
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  Say("0001", 1, 3, 3, {{"train.loss", 2}});
  EXPECT_THAT(Text(), HasSubstr("saeloom_live_trial_loss{sweep=\"s\",trial=\"0001\"} 2"));
  EXPECT_THAT(Text(), HasSubstr("saeloom_dropped_series_total 1"));
}

TEST_F(LiveTrialsTest, AttemptsUnderWayAtTheStartAreKnown) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  Watch(1);
  Say("0000", 1, 1, 1, {{"train.loss", 1}});
  EXPECT_THAT(Text(), HasSubstr("saeloom_live_trial_loss{sweep=\"s\",trial=\"0000\"} 1"));
}

TEST_F(LiveTrialsTest, WithoutRoomForAnyNothingIsRegistered) {
  Watch(0);
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  Say("0000", 1, 1, 1, {{"train.loss", 1}});
  EXPECT_EQ(Text(), "");
}

}  // namespace
}  // namespace sae::server::testing
