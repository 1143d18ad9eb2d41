#include "server/core/retry_policy.h"

#include <gtest/gtest.h>

namespace sae::server {
namespace {
using How = Ending::How;
using F = FailureClass;
using S = TrialState;

struct Case {
  std::string name;
  How how;
  int exit_code;
  std::string verdict;
  F reported;
  S next;
  F failure;
  Charge charge;
};

TrialRecord LiveTrial() {
  TrialRecord trial;
  trial.state = S::kRunning;
  trial.attempts.resize(1);
  trial.attempts[0].number = 1;
  return trial;
}

TEST(RetryPolicy, EveryEndingHasItsState) {
  const std::vector<Case> cases = {
      {"finished", How::kExited, 0, "finished", F::kUnspecified, S::kSucceeded, F::kUnspecified,
       Charge::kNone},
      {"finished, then mpirun complained", How::kExited, 1, "finished", F::kUnspecified,
       S::kSucceeded, F::kUnspecified, Charge::kNone},
      {"finished, then its worker died", How::kLost, 0, "finished", F::kUnspecified, S::kSucceeded,
       F::kUnspecified, Charge::kNone},
      {"stopped", How::kExited, 0, "stopped", F::kUnspecified, S::kStoppedEarly, F::kUnspecified,
       Charge::kNone},
      {"yielded", How::kExited, 75, "yielded", F::kUnspecified, S::kPending, F::kUnspecified,
       Charge::kNone},
      {"yielded without progress", How::kExited, 75, "yielded", F::kNoProgress, S::kPending,
       F::kNoProgress, Charge::kTrial},
      {"75 without a verdict", How::kExited, 75, "", F::kUnspecified, S::kPending, F::kUnspecified,
       Charge::kNone},
      {"bad config", How::kExited, 78, "failed", F::kUnspecified, S::kFailed, F::kInvalidConfig,
       Charge::kTrial},
      {"bad config without a verdict", How::kExited, 78, "", F::kUserError, S::kFailed,
       F::kInvalidConfig, Charge::kTrial},
      {"do not restart", How::kExited, 93, "failed", F::kGpuFault, S::kFailed, F::kGpuFault,
       Charge::kTrial},
      {"failed", How::kExited, 1, "failed", F::kUnspecified, S::kPending, F::kUserError,
       Charge::kTrial},
      {"out of memory", How::kExited, 137, "", F::kOomHost, S::kFailed, F::kOomHost,
       Charge::kTrial},
      {"0 without a verdict", How::kExited, 0, "", F::kUnspecified, S::kPending, F::kInternal,
       Charge::kTrial},
      {"gpu fault", How::kExited, 1, "", F::kGpuFault, S::kPending, F::kGpuFault, Charge::kWorker},
      {"lost", How::kLost, 0, "", F::kUnspecified, S::kPending, F::kNodeLost, Charge::kWorker},
      {"refused", How::kRefused, 0, "", F::kUnspecified, S::kPending, F::kInternal, Charge::kTrial},
      {"refused for its config", How::kRefused, 0, "", F::kInvalidConfig, S::kFailed,
       F::kInvalidConfig, Charge::kTrial},
  };
  for (const Case& c : cases) {
    Ending ending;
    ending.how = c.how;
    ending.exit_code = c.exit_code;
    ending.verdict = c.verdict;
    ending.failure_class = c.reported;
    const AttemptEnded out = Judge({}, LiveTrial(), false, ending);
    EXPECT_EQ(out.next, c.next) << c.name;
    EXPECT_EQ(out.failure_class, c.failure) << c.name;
    EXPECT_EQ(out.charge, c.charge) << c.name;
    if (c.next == S::kFailed || c.failure != F::kUnspecified) {
      EXPECT_FALSE(out.reason.empty()) << c.name;
    }
  }
}

TEST(RetryPolicy, TheLogsVerdictStandsOverTheWorkers) {
  TrialRecord trial = LiveTrial();
  trial.attempts[0].verdict = "finished";
  Ending ending;
  ending.verdict = "failed";
  ending.exit_code = 1;
  EXPECT_EQ(Judge({}, trial, false, ending).next, S::kSucceeded);
}

TEST(RetryPolicy, ThreeAttemptsForTheTrialTenForWorkers) {
  Ending failed;
  failed.exit_code = 1;
  Ending lost;
  lost.how = How::kLost;
  for (int before = 0; before < 12; ++before) {
    TrialRecord trial = LiveTrial();
    trial.trial_faults = before;
    EXPECT_EQ(Judge({}, trial, false, failed).next, before + 1 < 3 ? S::kPending : S::kFailed)
        << before;
    EXPECT_EQ(Judge({}, trial, false, lost).next, S::kPending) << "another budget, " << before;
    trial.trial_faults = 0;
    trial.lost_workers = before;
    EXPECT_EQ(Judge({}, trial, false, lost).next, before + 1 < 10 ? S::kPending : S::kFailed)
        << before;
  }
}

/// Ends attempts of `classes` one after the other; the last one's judgement.
AttemptEnded JudgeLast(const std::vector<F>& classes, const std::vector<config::RetryRule>& rules,
                       const std::vector<int>& saved_in = {}, int fresh_from = 0) {
  TrialRecord trial;
  trial.state = S::kRunning;
  trial.fresh_from = fresh_from;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    trial.attempts.emplace_back();
    trial.attempts.back().number = static_cast<int>(i) + 1;
    if (i + 1 < classes.size()) trial.attempts.back().failure_class = classes[i];
  }
  for (const int attempt : saved_in)
    trial.checkpoints.push_back({attempt, "step-" + std::to_string(attempt), attempt, 0, {}});
  Ending ending;
  ending.how = How::kExited;
  ending.exit_code = 1;
  ending.failure_class = classes.back();
  return Judge({}, trial, false, ending, rules);
}

TEST(RetryPolicy, ARuleLimitsItsClassesAndCountsOnlyThem) {
  const std::vector<config::RetryRule> rules = {{{"OOM_GPU", "HANG"}, 1, false},
                                                {{"NODE_LOST"}, -1, true}};
  EXPECT_EQ(JudgeLast({F::kOomGpu}, rules).next, S::kPending);
  EXPECT_EQ(JudgeLast({F::kUserError, F::kOomGpu}, rules).next, S::kPending);
  EXPECT_EQ(JudgeLast({F::kHang, F::kUserError, F::kOomGpu}, rules).next, S::kFailed);
  EXPECT_EQ(JudgeLast({F::kHang, F::kUserError, F::kOomGpu}, rules, {}, 1).next, S::kPending)
      << "a person asked for it again";
  std::vector<F> lost(40, F::kNodeLost);
  const AttemptEnded out = JudgeLast(lost, rules);
  EXPECT_EQ(out.next, S::kPending) << "without limit";
  EXPECT_EQ(out.delay, absl::Minutes(1)) << "with back-off";
}

TEST(RetryPolicy, OutOfMemoryIsRetriedOnlyWhereOthersTookTheirShare) {
  for (const F failure : {F::kOomGpu, F::kOomHost})
    EXPECT_EQ(JudgeLast({failure}, {}).next, S::kFailed);
  TrialRecord trial = LiveTrial();
  trial.attempts[0].gang = "0000/1";
  Ending ending;
  ending.exit_code = 1;
  ending.failure_class = F::kOomGpu;
  EXPECT_EQ(Judge({}, trial, false, ending).next, S::kPending);
}

TEST(RetryPolicy, NoProgressStopsAfterThreeAttemptsWithoutANewCheckpoint) {
  const F stalled = F::kNoProgress;
  EXPECT_EQ(JudgeLast({stalled, stalled}, {}).next, S::kPending);
  const AttemptEnded third = JudgeLast({stalled, stalled, stalled}, {});
  EXPECT_EQ(third.next, S::kFailed);
  EXPECT_NE(third.reason.find("(3 of 3 attempts without a new checkpoint)"), std::string::npos);
  EXPECT_EQ(JudgeLast({stalled, stalled, stalled}, {}, {2}).next, S::kPending);
  EXPECT_EQ(JudgeLast({stalled, stalled, stalled, stalled, stalled}, {}, {2}).next, S::kFailed);
  EXPECT_EQ(JudgeLast({stalled, stalled, stalled}, {}, {3}).next, S::kPending);
}

TEST(RetryPolicy, DelayDoublesUpToItsLimit) {
  RetryPolicy policy;
  policy.first_delay = absl::Seconds(1);
  policy.longest_delay = absl::Seconds(20);
  Ending lost;
  lost.how = How::kLost;
  std::vector<absl::Duration> delays;
  for (int before = 0; before < 8; ++before) {
    TrialRecord trial = LiveTrial();
    trial.lost_workers = before;
    delays.push_back(Judge(policy, trial, false, lost).delay);
  }
  const std::vector<absl::Duration> expected = {
      absl::Seconds(1),  absl::Seconds(2),  absl::Seconds(4),  absl::Seconds(8),
      absl::Seconds(16), absl::Seconds(20), absl::Seconds(20), absl::Seconds(20)};
  EXPECT_EQ(delays, expected);
}

TEST(RetryPolicy, CancelledUnlessItHadFinished) {
  Ending ending;
  ending.exit_code = 75;
  ending.verdict = "yielded";
  EXPECT_EQ(Judge({}, LiveTrial(), true, ending).next, S::kCancelled);
  ending.verdict = "stopped";
  EXPECT_EQ(Judge({}, LiveTrial(), true, ending).next, S::kCancelled);
  ending.verdict = "finished";
  EXPECT_EQ(Judge({}, LiveTrial(), true, ending).next, S::kSucceeded);
}

TEST(RetryPolicy, AYieldWithoutProgressWaits) {
  Ending ending;
  ending.verdict = "yielded";
  TrialRecord trial = LiveTrial();
  EXPECT_EQ(Judge({}, trial, false, ending).delay, absl::Seconds(1));
  trial.checkpoints.push_back({1, "step-10", 10, 10, {}});
  EXPECT_EQ(Judge({}, trial, false, ending).delay, absl::ZeroDuration());
}

TEST(RetryPolicy, KeepsTheLastHundredLines) {
  Ending ending;
  ending.exit_code = 1;
  for (int i = 0; i < 250; ++i) ending.log_tail.push_back(std::to_string(i));
  const AttemptEnded out = Judge({}, LiveTrial(), false, ending);
  ASSERT_EQ(out.log_tail.size(), 100u);
  EXPECT_EQ(out.log_tail.front(), "150");
}

}  // namespace
}  // namespace sae::server
