// What a sweep's record keeps beside its trials, event by event, equals what a walk over all trials
// finds, over random events (most of which the state refuses) and after a snapshot.
#include <limits>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "server/core/retention_index.h"
#include "server/core/snapshot.h"
#include "server/core/state_search.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {

constexpr int kTrials = 12;

class DerivedState : public ::testing::TestWithParam<int> {
 protected:
  std::uint64_t Below(std::uint64_t n) { return random_.Below(n); }

  double AnyValue() {
    if (Below(8) == 0) return std::numeric_limits<double>::quiet_NaN();
    if (Below(8) == 0) return -std::numeric_limits<double>::infinity();
    return static_cast<double>(Below(6)) - 2;  // ties, and zero
  }
  std::string AnyCheckpoint() { return absl::StrCat("step-", Below(3)); }
  Body AnyBody(const TrialRecord& trial) {
    const int attempt = static_cast<int>(trial.attempts.size());
    const double value = AnyValue();
    switch (Below(15)) {
      case 0: {
        AttemptAllocated allocated;
        allocated.attempt = attempt + 1;
        allocated.worker = "w";
        allocated.slots = 1;
        return allocated;
      }
      case 1:
        return AttemptRunning{attempt, 0};
      case 2: {
        AttemptEnded ended;
        ended.attempt = attempt;
        const TrialState next[] = {TrialState::kPending, TrialState::kPaused, TrialState::kFailed,
                                   TrialState::kSucceeded};
        ended.next = next[Below(4)];
        return ended;
      }
      case 3:
        return TrialPaused{"asked"};
      case 4:
        return TrialResumed{"asked"};
      case 5:
        return StopRequested{trial.live_attempt() == nullptr ? 0 : attempt, StopWanted::kStopEarly,
                             "asked"};
      case 6:
        return TrialRetried{};
      case 7:
        return SearchDecided{1, value, Below(2) == 0 ? "pause" : "continue"};
      case 8:
        return CheckpointSaved{attempt,
                               AnyCheckpoint(),
                               static_cast<std::int64_t>(Below(5)),
                               1000,
                               static_cast<double>(Below(100)),
                               10};
      case 9:
      case 10: {
        CheckpointMarked mark;
        mark.name = AnyCheckpoint();
        if (Below(2) == 0) mark.value = CheckpointValue{value, Below(4) != 0, 4};
        if (Below(3) == 0) mark.deleting = true;
        return mark;
      }
      case 11:
        return CheckpointsDeleted{{AnyCheckpoint()}, 10, ""};
      default:
        return SearchReport{attempt, 4, 4000, value, Below(4) != 0};
    }
  }
  void Create(bool minimize) {
    config::SweepSpec spec = MakeSpec("s", kTrials);
    spec.minimize = minimize;
    spec.checkpoints.keep_sweep_best = 3;
    const auto prepared = PrepareSweep(spec, 100);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    ASSERT_TRUE(state_.Apply({"s", ++seq_, absl::UnixEpoch(), "", prepared->event}).ok());
  }
  /// Whether the state took it.
  bool Any() {
    const SweepRecord& sweep = *state_.sweep("s");
    const int index = static_cast<int>(Below(sweep.trials.size()));
    Body body = AnyBody(sweep.trials[static_cast<std::size_t>(index)]);
    std::string trial = TrialNameOf(index);
    if (Below(60) == 0) {
      body = PointsAdded{{{{"sae.k", "3"}}}};
      trial.clear();
    }
    const auto* saved = std::get_if<CheckpointSaved>(&body);
    const double seconds = saved == nullptr ? 0 : saved->seconds;
    const LogEvent event{"s", ++seq_, absl::UnixEpoch(), trial, std::move(body)};
    const bool taken = state_.Apply(event).ok();
    if (taken) slowest_ = std::max(slowest_, seconds);
    if (taken) retention_.Follow(state_, event);
    return taken;
  }
  void CheckSweep(const SweepRecord& sweep) const {
    SweepRecord fresh;
    for (const TrialRecord& trial : sweep.trials) {
      ++fresh.counts[static_cast<std::size_t>(trial.state)];
      if (trial.state == TrialState::kPending) fresh.pending.insert(trial.index);
      if (trial.state == TrialState::kPaused) fresh.paused.insert(trial.index);
      if (IsLive(trial.state)) fresh.live.insert(trial.index);
    }
    EXPECT_EQ(sweep.counts, fresh.counts);
    EXPECT_EQ(sweep.pending, fresh.pending);
    EXPECT_EQ(sweep.paused, fresh.paused);
    EXPECT_EQ(sweep.live, fresh.live);
    EXPECT_EQ(sweep.slowest_save_seconds, slowest_);

    const TrialRecord* best = nullptr;
    std::size_t usable = 0;
    for (const TrialRecord& trial : sweep.trials) {
      if (!trial.objective || !trial.objective->feasible || !std::isfinite(trial.objective->value))
        continue;
      ++usable;
      if (best == nullptr || IsBetter(sweep.spec, trial, *best)) best = &trial;
    }
    EXPECT_EQ(BestTrial(sweep), best);
    EXPECT_EQ(sweep.ranked.size(), usable);
    EXPECT_EQ(retention_.SweepBest(sweep), SweepBest(sweep));
  }
  State Restored() const {
    StateSnapshot::Index index, read;
    index["s"] = {seq_, static_cast<std::int64_t>(state_.sweep("s")->trials.size())};
    State out;
    EXPECT_TRUE(
        StateSnapshot::DecodeState(StateSnapshot::EncodeState(state_, index), out, read).ok());
    for (int part = 0; part < StateSnapshot::PartsOf(read["s"].trials); ++part) {
      const std::string bytes = StateSnapshot::EncodePart(*state_.sweep("s"), part);
      EXPECT_TRUE(StateSnapshot::DecodePart(bytes, "s", read["s"], part, out).ok());
    }
    return out;
  }

  Random random_{static_cast<std::uint64_t>(GetParam())};
  State state_;
  RetentionIndex retention_;
  std::int64_t seq_ = 0;
  double slowest_ = 0;
};

TEST_P(DerivedState, IsWhatAWalkOverAllTrialsFinds) {
  Create(GetParam() % 2 == 0);
  int taken = 0, had_best = 0, had_three = 0;
  for (int i = 0; i < 1500; ++i) {
    taken += Any() ? 1 : 0;
    ASSERT_NO_FATAL_FAILURE(CheckSweep(*state_.sweep("s"))) << "after event " << i;
    if (::testing::Test::HasFailure()) return;
    had_best += BestTrial(*state_.sweep("s")) != nullptr ? 1 : 0;
    had_three += SweepBest(*state_.sweep("s")).size() == 3 ? 1 : 0;
    if (i % 100 == 0) {
      const State restored = Restored();
      CheckSweep(*restored.sweep("s"));
      EXPECT_EQ(restored.DebugString(), state_.DebugString());
      RetentionIndex rebuilt;
      rebuilt.Rebuild(restored);
      EXPECT_EQ(rebuilt.SweepBest(*restored.sweep("s")), SweepBest(*state_.sweep("s")));
    }
  }
  EXPECT_GT(taken, 200);
  EXPECT_GT(had_best, 500);
  EXPECT_GT(had_three, 500);
}

INSTANTIATE_TEST_SUITE_P(Seeds, DerivedState, ::testing::Range(0, 10));

}  // namespace
}  // namespace sae::server::testing
