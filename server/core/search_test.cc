// Searches in the core: what stops, pauses and goes on, and that the log alone decides it.
#include <limits>
#include <set>

#include "sae/base/random.h"
#include "server/core/state_search.h"
#include "server/testing/search_rig.h"

namespace sae::server::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class SearchTest : public SearchRig {
 protected:
  void Begin(const config::SweepSpec& spec, int slots = 4) {
    slots_ = slots;
    Create(spec);
    StartWorker(slots);
  }
  std::int64_t TotalSteps() const {
    std::int64_t total = 0;
    for (const auto& [trial, steps] : furthest_) total += steps;
    return total;
  }
  int Decisions(const std::string& decision) {
    int n = 0;
    for (const LogEvent& e : Log()) {
      const auto* d = std::get_if<SearchDecided>(&e.body);
      n += d != nullptr && d->decision == decision ? 1 : 0;
    }
    return n;
  }
};

TEST_F(SearchTest, AshaStopEndsWhatIsNotAmongTheBest) {
  Begin(AshaSpec("stop", 32));
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded);
  EXPECT_EQ(Sweep().count(TrialState::kSucceeded) + Sweep().count(TrialState::kStoppedEarly), 32);
  EXPECT_GE(Sweep().count(TrialState::kSucceeded), 1);
  EXPECT_LT(TotalSteps(), 32 * 64 / 2) << "less than half of what all would take";
  ASSERT_NE(BestTrial(Sweep()), nullptr);
  EXPECT_EQ(BestTrial(Sweep())->state, TrialState::kSucceeded);
  for (const TrialRecord& trial : Sweep().trials) {
    EXPECT_GE(trial.rung, 1) << trial.index;
    EXPECT_LE(trial.attempts.size(), 1U) << "nothing is started twice";
    if (trial.state == TrialState::kSucceeded) {
      EXPECT_EQ(trial.rung, 3);
    } else {
      EXPECT_LT(StepsOf(trial.index), 64);
      EXPECT_NE(trial.reason.find("not among the best at rung"), std::string::npos) << trial.reason;
    }
  }
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(SearchTest, AshaPromotePausesAndPromotesTheBest) {
  Begin(AshaSpec("promote", 20));
  ASSERT_NO_FATAL_FAILURE(RunToEnd(4000));
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded);
  EXPECT_EQ(Sweep().count(TrialState::kSucceeded) + Sweep().count(TrialState::kStoppedEarly), 20);
  EXPECT_EQ(Decisions("promote"), 5 + 1) << "5 of 20 to rung 2, 1 of 5 to rung 3";
  EXPECT_EQ(Sweep().count(TrialState::kSucceeded), 1);
  for (const TrialRecord& trial : Sweep().trials) {
    if (trial.state != TrialState::kStoppedEarly) continue;
    EXPECT_NE(trial.reason.find("never promoted from rung"), std::string::npos) << trial.reason;
  }
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(SearchTest, PromotionsGoBeforeFreshTrials) {
  Begin(AshaSpec("promote", 32), 1);
  for (int i = 0; i < 400 && Decisions("promote") == 0; ++i) ASSERT_NO_FATAL_FAILURE(Step());
  ASSERT_EQ(Decisions("promote"), 1);
  int fresh = 0, promoted = -1;
  for (const TrialRecord& trial : Sweep().trials) {
    fresh += trial.attempts.empty() ? 1 : 0;
    if (trial.rung == 1 && trial.search_said == search::Action::kContinue) promoted = trial.index;
  }
  EXPECT_EQ(fresh, 28) << "four have reached the first rung, the best of them goes on at once";
  ASSERT_GE(promoted, 0);
  EXPECT_TRUE(IsLive(StateOf(promoted)));
}

TEST_F(SearchTest, APausedSweepPromotesNothing) {
  Begin(AshaSpec("promote", 8), 1);
  for (int i = 0; i < 200 && Sweep().count(TrialState::kPaused) < 3; ++i) Step();
  ASSERT_TRUE(core_->PauseSweep("s", {}).ok());
  for (int i = 0; i < 50; ++i) Step();
  EXPECT_EQ(Decisions("promote"), 0);
  EXPECT_TRUE(Sweep().live.empty());
  ASSERT_TRUE(core_->ResumeSweep("s", {}).ok());
  core_->Tick();
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  EXPECT_EQ(Decisions("promote"), 2);
}

TEST_F(SearchTest, APersonMayPromote) {
  Begin(AshaSpec("promote", 6), 1);
  for (int i = 0; i < 100 && Sweep().count(TrialState::kPaused) < 2; ++i) Step();
  int worst = -1;
  for (const TrialRecord& trial : Sweep().trials) {
    if (trial.state == TrialState::kPaused &&
        (worst < 0 || IsBetter(Sweep().spec, Trial(worst), trial)))
      worst = trial.index;
  }
  ASSERT_GE(worst, 0);
  EXPECT_TRUE(HeldBySearch(Trial(worst)));
  ASSERT_TRUE(core_->ChangeTrial(TrialVerb::kPromote, "s", TrialNameOf(worst), {}).ok());
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  EXPECT_GE(Trial(worst).rung, 2);
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(SearchTest, WhatIsNotFiniteOrBreaksAConstraintIsWorst) {
  auto spec = AshaSpec("stop", 16);
  spec.constraints = {{"heldout.l0", "<=", 10}};
  curve_ = [](int trial, std::int64_t step) {
    auto values = Value(trial, step);
    if (trial % 4 == 0) values["heldout.fvu"] = kNaN;
    if (trial % 4 == 1) values["heldout.l0"] = 11;
    if (trial % 4 == 2) values.erase("heldout.fvu");
    return values;
  };
  Begin(spec);
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  ASSERT_NE(BestTrial(Sweep()), nullptr);
  EXPECT_EQ(BestTrial(Sweep())->index % 4, 3);
  EXPECT_EQ(BestTrial(Sweep())->state, TrialState::kSucceeded);
}

TEST_F(SearchTest, WhatItHasStoppedDoesNotStartWhenThatCannotBeStored) {
  Begin(AshaSpec("stop", 8), 1);
  for (int i = 0; i < 200 && StepsOf(1) < 15; ++i) ASSERT_NO_FATAL_FAILURE(Step());
  const Run& run = runs_.at({"0001", 1});
  config::Event worse;
  worse.seq = run.lines + 1;
  worse.kind = config::EventKind::kEvaluation;
  worse.step = 16;
  worse.tokens = 16000;
  worse.values["heldout.fvu"] = 2;
  // The measurement and the end of the attempt become durable together.
  core_->Report(
      {SenderOf("w"), run.key, run.lines + 1, {config::ToJsonLine(worse)}},
      [](const absl::StatusOr<std::int64_t>& seq) { EXPECT_TRUE(seq.ok()) << seq.status(); });
  const HeartbeatRequest beat{SenderOf("w"), ++heartbeats_, 1, {Ended("0001", 1, 75, "yielded")}};
  ASSERT_EQ(core_->Heartbeat(beat)->status_acks.size(), 1U);
  ASSERT_EQ(StateOf(1), TrialState::kPending);
  ASSERT_EQ(Trial(1).search_said, search::Action::kStop);
  clock_.Advance(absl::Seconds(2));
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  core_->Tick();
  EXPECT_EQ(StateOf(1), TrialState::kPending) << "its end could not be stored";
  clock_.Advance(absl::Seconds(2));
  core_->Tick();
  core_->Tick();
  EXPECT_EQ(StateOf(1), TrialState::kStoppedEarly);
  EXPECT_EQ(Trial(1).attempts.size(), 1U);
}

TEST_F(SearchTest, FailuresCountAsWorstAndInvalidOnesNotAtAll) {
  options_.retry.trial_attempts = 1;
  Restart();
  fail_ = [](int trial, std::int64_t step) {
    if (step != 3) return 0;
    return trial < 4 ? 1 : trial < 8 ? 78 : 0;
  };
  Begin(AshaSpec("stop", 16));
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  EXPECT_EQ(Sweep().state, SweepState::kFailed);
  EXPECT_EQ(Sweep().count(TrialState::kFailed), 8);
  int invalid = 0, failed = 0;
  for (const search::Input& input : Sweep().search_inputs) {
    invalid += input.kind == search::Input::Kind::kInvalid ? 1 : 0;
    failed += input.kind == search::Input::Kind::kFailed ? 1 : 0;
  }
  EXPECT_EQ(invalid, 4);
  EXPECT_EQ(failed, 4);
  EXPECT_GE(Sweep().count(TrialState::kSucceeded), 1);
}

TEST_F(SearchTest, MedianStopEndsTrialsOfAGrid) {
  config::SweepSpec spec = MakeSpec("s", 12);
  spec.trial.train.tokens = 64000;
  spec.trial.train.eval_every_tokens = 4000;
  spec.median_stop = {true, 8000, 3};
  Begin(spec, 12);
  ASSERT_NO_FATAL_FAILURE(RunToEnd(500));
  EXPECT_EQ(Sweep().state, SweepState::kSucceeded);
  EXPECT_GE(Sweep().count(TrialState::kStoppedEarly), 3);
  EXPECT_GE(Sweep().count(TrialState::kSucceeded), 3);
  EXPECT_EQ(BestTrial(Sweep())->state, TrialState::kSucceeded);
}

TEST_F(SearchTest, TheBestOfAGridIsKnownWithoutTelemetry) {
  config::SweepSpec spec = MakeSpec("s", 5);
  spec.trial.train.tokens = 64000;
  curve_ = [](int trial, std::int64_t) {
    return std::map<std::string, double>{
        {"heldout.fvu", trial == 1 ? kNaN : 1.0 + (trial - 3) * (trial - 3)}, {"heldout.l0", 8}};
  };
  Begin(spec, 5);
  EXPECT_EQ(BestTrial(Sweep()), nullptr);
  ASSERT_NO_FATAL_FAILURE(RunToEnd(500));
  ASSERT_NE(BestTrial(Sweep()), nullptr);
  EXPECT_EQ(BestTrial(Sweep())->index, 3);
  EXPECT_EQ(BestTrial(Sweep())->objective->step, 64);
  EXPECT_TRUE(IsBetter(Sweep().spec, Trial(4), Trial(1))) << "NaN is last";
  Restart();
  EXPECT_EQ(BestTrial(Sweep())->index, 3);
}

TEST_F(SearchTest, EvaluationsThatNoOneWaitsForStayTelemetry) {
  Begin(AshaSpec("stop", 8));
  ASSERT_NO_FATAL_FAILURE(RunToEnd(2000));
  std::map<std::string, int> reports;
  for (const LogEvent& e : Log())
    reports[e.trial] += std::holds_alternative<SearchReport>(e.body) ? 1 : 0;
  for (const auto& [trial, n] : reports) EXPECT_LE(n, 4) << trial << ": a rung each, and the last";
}

/// What was decided in the transaction in which the attempt ended by itself is done to the trial as
/// it waits for its next one.
class SearchSettleTest : public SearchTest {
 protected:
  /// Trial 1 says what makes the search decide, and dies before that is stored.
  void DieWhileDecided(const std::string& mode) {
    Begin(AshaSpec(mode, 8), 2);
    ASSERT_NO_FATAL_FAILURE(Step());
    for (const int trial : {0, 1}) {
      config::Event event;
      event.time = 1.7e9;
      event.seq = 2;
      event.kind = config::EventKind::kEvaluation;
      event.step = 16;
      event.tokens = 16000;
      event.values = {{"heldout.fvu", 0.1 + trial}, {"heldout.l0", 8}};
      core_->Report({SenderOf("w"), {"s", TrialNameOf(trial), 1}, 2, {config::ToJsonLine(event)}},
                    [](const absl::StatusOr<std::int64_t>&) {});
    }
    ASSERT_TRUE(Beat("w", {Ended("0001", 1, 137, "")}).ok());
  }
};

TEST_F(SearchSettleTest, AStoppedTrialIsNotRetried) {
  ASSERT_NO_FATAL_FAILURE(DieWhileDecided("stop"));
  EXPECT_EQ(StateOf(1), TrialState::kStoppedEarly) << Trial(1).reason;
  EXPECT_EQ(Trial(1).attempts.size(), 1U);
  EXPECT_NE(Trial(1).reason.find("the search said at heldout.fvu 1.1"), std::string::npos)
      << Trial(1).reason;
}

TEST_F(SearchSettleTest, AWaitingTrialIsNotRetriedBeforeItIsPromoted) {
  ASSERT_NO_FATAL_FAILURE(DieWhileDecided("promote"));
  EXPECT_EQ(StateOf(1), TrialState::kPaused) << Trial(1).reason;
  EXPECT_TRUE(HeldBySearch(Trial(1)));
}

TEST(RetryRules, KnowTheFailureClassesOfTheCoordinator) {
  std::vector<std::string> words;
  for (int i = 1; i <= static_cast<int>(FailureClass::kInternal); ++i)
    words.push_back(ToString(static_cast<FailureClass>(i)));
  EXPECT_EQ(config::FailureClassNames(), words);
}

/// Every decision of `log`, made again from the state after each prefix: the search is told what
/// the log says next, and says the same.
void CheckDecisionsFromEveryEvent(const std::vector<LogEvent>& log, std::size_t stride) {
  for (std::size_t cut = 1; cut <= log.size(); cut += stride) {
    State state;
    for (std::size_t i = 0; i < cut; ++i) ASSERT_TRUE(state.Apply(log[i]).ok());
    const SweepRecord& sweep = *state.sweep("s");
    auto searcher = search::MakeSearcher(sweep.spec);
    for (const search::Input& input : sweep.search_inputs) searcher->Tell(input);
    // A cut between a report and what was decided on it lies inside one transaction.
    std::vector<search::Decision> due;
    bool whole = !std::holds_alternative<SearchReport>(log[cut - 1].body) &&
                 !std::holds_alternative<SearchDecided>(log[cut - 1].body);
    const auto ready = [&](int i) {
      return HeldBySearch(sweep.trials[static_cast<std::size_t>(i)]);
    };
    for (std::size_t i = cut; i < log.size(); ++i) {
      const LogEvent& event = log[i];
      if (const auto* said = std::get_if<SearchDecided>(&event.body)) {
        search::Decision decision;
        if (said->decision == "promote") {
          const auto next = searcher->NextPromotion(ready);
          ASSERT_TRUE(next.has_value()) << "cut " << cut << " event " << i;
          decision = *next;
        } else if (whole) {
          ASSERT_FALSE(due.empty()) << "cut " << cut << " event " << i;
          decision = due.front();
          due.erase(due.begin());
        } else {
          ASSERT_TRUE(state.Apply(event).ok());
          continue;
        }
        ASSERT_EQ(TrialNameOf(decision.trial), event.trial) << "cut " << cut << " event " << i;
        ASSERT_EQ(decision.rung, said->rung);
        ASSERT_EQ(search::ToString(decision.action), said->decision);
      } else {
        whole = true;
        ASSERT_TRUE(due.empty()) << "a decision that the log does not have, before event " << i;
        if (const auto input = SearchInputOf(sweep, event)) due = searcher->Tell(*input);
      }
      ASSERT_TRUE(state.Apply(event).ok());
    }
    ASSERT_TRUE(due.empty());
  }
}

class SearchReplayTest : public SearchTest, public ::testing::WithParamInterface<int> {};

TEST_P(SearchReplayTest, ARestartAtAnyEventDecidesTheSame) {
  const int kind = GetParam();
  auto spec = AshaSpec(kind % 2 == 0 ? "stop" : "promote", 14);
  if (kind >= 2) {
    spec.search = "hyperband";
    spec.median_stop = {true, 8000, 2};
  }
  options_.retry.trial_attempts = 1;
  Restart();
  fail_ = [](int trial, std::int64_t step) { return trial == 5 && step == 6 ? 1 : 0; };
  curve_ = [](int trial, std::int64_t step) {
    auto values = Value(trial, step);
    if (trial % 5 == 4 && step > 6) values["heldout.fvu"] = kNaN;
    return values;
  };
  Begin(spec, 3);
  ASSERT_NO_FATAL_FAILURE(RunToEnd(3000));
  const auto log = Log();
  ASSERT_NO_FATAL_FAILURE(CheckDecisionsFromEveryEvent(log, 1));
  // The whole record gives the same state.
  const std::string before = core_->state().DebugString();
  Restart();
  EXPECT_EQ(core_->state().DebugString(), before);
}

TEST_P(SearchReplayTest, RestartsAndBadDisksChangeNoDecisionOfALog) {
  const int kind = GetParam();
  auto spec = AshaSpec(kind % 2 == 0 ? "stop" : "promote", 14);
  if (kind >= 2) spec.median_stop = {true, 8000, 2};
  Begin(spec, 3);
  Random random(static_cast<std::uint64_t>(kind));
  for (int i = 0; i < 6000 && !HasEnded(Sweep().state); ++i) {
    if (random.Below(12) == 0) {
      ASSERT_NO_FATAL_FAILURE(RestartCoordinator());
    }
    if (random.Below(10) == 0) disk_->failures.push_back(absl::ResourceExhaustedError("injected"));
    ASSERT_NO_FATAL_FAILURE(Step());
  }
  disk_->failures.clear();
  ASSERT_TRUE(HasEnded(Sweep().state)) << core_->state().DebugString();
  EXPECT_EQ(core_->refused_events(), 0);
  ASSERT_NO_FATAL_FAILURE(CheckDecisionsFromEveryEvent(Log(), 7));
  EXPECT_EQ(Sweep().count(TrialState::kSucceeded) + Sweep().count(TrialState::kStoppedEarly), 14);
}

INSTANTIATE_TEST_SUITE_P(Modes, SearchReplayTest, ::testing::Range(0, 4));

}  // namespace
}  // namespace sae::server::testing
