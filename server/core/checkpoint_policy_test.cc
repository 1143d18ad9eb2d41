#include "server/core/checkpoint_policy.h"

#include <cmath>

#include "sae/base/random.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

CheckpointRecord At(std::int64_t step, std::optional<double> value = {}, bool feasible = true) {
  CheckpointRecord c;
  c.attempt = 1;
  c.name = absl::StrCat("step-", step);
  c.step = step;
  if (value) c.value = CheckpointValue{*value, feasible, step};
  return c;
}

class PolicyTest : public ::testing::Test {
 protected:
  PolicyTest() {
    sweep_.name = "s";
    sweep_.spec = MakeSpec("s", 4);
    for (int i = 0; i < 4; ++i) {
      TrialRecord trial;
      trial.index = i;
      trial.state = TrialState::kRunning;
      trial.attempts.resize(1);
      trial.attempts[0].number = 1;
      trial.attempts[0].from_step = 0;
      sweep_.trials.push_back(trial);
    }
  }
  config::CheckpointPolicy& policy() { return sweep_.spec.checkpoints; }
  std::vector<CheckpointFate> Fates(int trial = 0, const ForkSources& forks = {}) {
    return FatesOf(sweep_, sweep_.trials[static_cast<std::size_t>(trial)],
                   SweepBest(sweep_).contains(trial), forks);
  }
  /// Steps of those that stay.
  std::vector<std::int64_t> Stay(int trial = 0, const ForkSources& forks = {}) {
    std::vector<std::int64_t> steps;
    const auto fates = Fates(trial, forks);
    for (std::size_t i = 0; i < fates.size(); ++i) {
      if (fates[i].stays)
        steps.push_back(sweep_.trials[static_cast<std::size_t>(trial)].checkpoints[i].step);
    }
    return steps;
  }

  SweepRecord sweep_;
};

TEST_F(PolicyTest, TheNewestStay) {
  sweep_.trials[0].checkpoints = {At(1), At(2), At(3), At(4)};
  EXPECT_THAT(Stay(), ElementsAre(3, 4));
  policy().keep_latest = 3;
  EXPECT_THAT(Stay(), ElementsAre(2, 3, 4));
  policy().keep_latest = 1;
  EXPECT_THAT(Stay(), ElementsAre(4));
  EXPECT_EQ(Fates()[3].why, "its trial goes on from it");
  EXPECT_EQ(Fates()[0].why, "neither among the newest nor the best");
  sweep_.trials[0].state = TrialState::kSucceeded;
  EXPECT_THAT(Stay(), ElementsAre(4)) << "also of a trial that has ended";
  EXPECT_EQ(Fates()[3].why, "among the newest of its trial");
  sweep_.trials[0].state = TrialState::kFailed;
  EXPECT_EQ(Fates()[3].why, "its trial goes on from it") << "when it is retried";
  sweep_.trials[0].state = TrialState::kPaused;
  EXPECT_EQ(Fates()[3].why, "its trial goes on from it") << "when it is promoted";
}

TEST_F(PolicyTest, TheBestStayByTheObjectivesDirection) {
  policy().keep_latest = 1;
  policy().keep_best = 2;
  sweep_.trials[0].checkpoints = {At(1, .5), At(2, .1), At(3, .3), At(4, .4), At(5, .6)};
  EXPECT_THAT(Stay(), ElementsAre(2, 3, 5));
  sweep_.spec.minimize = false;
  EXPECT_THAT(Stay(), ElementsAre(1, 5));
  EXPECT_EQ(Fates()[4].why, "its trial goes on from it, among the best of its trial");
}

TEST_F(PolicyTest, OfEqualValuesTheLaterStepIsBetter) {
  policy().keep_latest = 1;
  policy().keep_best = 1;
  sweep_.trials[0].checkpoints = {At(1, .5), At(2, .5), At(3, .7)};
  EXPECT_THAT(Stay(), ElementsAre(2, 3));
}

TEST_F(PolicyTest, WhatIsNotFiniteFeasibleOrMeasuredIsTheWorst) {
  policy().keep_latest = 1;
  policy().keep_best = 1;
  sweep_.trials[0].checkpoints = {At(1, kNaN), At(2, .9), At(3, .1, false), At(4), At(5)};
  EXPECT_THAT(Stay(), ElementsAre(2, 5));
  policy().keep_best = 3;
  EXPECT_THAT(Stay(), ElementsAre(1, 2, 3, 5)) << "measured before unmeasured";
  sweep_.spec.minimize = false;
  policy().keep_best = 1;
  sweep_.trials[0].checkpoints[0].value->value = std::numeric_limits<double>::infinity();
  EXPECT_THAT(Stay(), ElementsAre(2, 5));
}

TEST_F(PolicyTest, OneBestOfEachOfTheSweepsBestTrials) {
  policy().keep_latest = 1;
  policy().keep_sweep_best = 2;
  sweep_.trials[0].checkpoints = {At(1, .5), At(2, .6), At(9, .9)};
  sweep_.trials[1].checkpoints = {At(1, .2), At(2, .1), At(9, .9)};
  sweep_.trials[2].checkpoints = {At(1, .5), At(2, .9), At(9, .9)};
  sweep_.trials[3].checkpoints = {At(1, kNaN), At(9)};
  EXPECT_THAT(SweepBest(sweep_), ElementsAre(0, 1)) << "equal ones: the lower index";
  EXPECT_THAT(Stay(0), ElementsAre(1, 9));
  EXPECT_THAT(Stay(1), ElementsAre(2, 9)) << "one alone";
  EXPECT_THAT(Stay(2), ElementsAre(9));
  for (TrialRecord& trial : sweep_.trials) trial.state = TrialState::kSucceeded;
  EXPECT_THAT(Stay(1), ElementsAre(2, 9)) << "also when all have ended";
  policy().keep_sweep_best = 9;
  EXPECT_THAT(SweepBest(sweep_), ElementsAre(0, 1, 2, 3));
  policy().keep_sweep_best = 0;
  EXPECT_THAT(SweepBest(sweep_), IsEmpty());
}

TEST_F(PolicyTest, ProtectedOnesAndSourcesOfForksStay) {
  policy().keep_latest = 1;
  sweep_.trials[0].checkpoints = {At(1), At(2), At(3), At(4)};
  sweep_.trials[0].checkpoints[0].is_protected = true;
  EXPECT_THAT(Stay(0, {"s/0000/step-2", "s/0001/step-3", "t/0000/step-3"}), ElementsAre(1, 2, 4));
}

TEST_F(PolicyTest, WhatIsBeingDeletedGoesAndTakesNoPlace) {
  policy().keep_latest = 2;
  policy().keep_best = 1;
  sweep_.trials[0].checkpoints = {At(1, .3), At(2, .1), At(3, .2), At(4, .9), At(5, .9)};
  sweep_.trials[0].checkpoints[1].deleting = true;
  sweep_.trials[0].checkpoints[4].deleting = true;
  EXPECT_THAT(Stay(), ElementsAre(3, 4));
  EXPECT_EQ(Fates()[1].why, "being deleted");
}

TEST_F(PolicyTest, WhatWasSupersededIsNoneOfTheNewest) {
  policy().keep_latest = 1;
  policy().keep_best = 1;
  AttemptRecord again;
  again.number = 2;
  again.from_step = 2;
  sweep_.trials[0].attempts.push_back(again);
  sweep_.trials[0].checkpoints = {At(2, .9), At(3, .8), At(8, .1)};
  sweep_.trials[0].checkpoints[1].attempt = 2;
  EXPECT_THAT(Stay(), ElementsAre(3, 8)) << "the second attempt goes on from 3; 8 is the best";
}

TEST_F(PolicyTest, WhoRemovesWhat) {
  EXPECT_EQ(TrainerKeeps({5, 0, 0}), 5);
  EXPECT_EQ(TrainerKeeps({5, 1, 0}), -1);
  EXPECT_EQ(TrainerKeeps({5, 0, 1}), -1);
}

TEST_F(PolicyTest, RandomTrialsKeepWhatTheRulesSay) {
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    policy() = {static_cast<std::int64_t>(1 + random.Below(3)),
                static_cast<std::int64_t>(random.Below(3)),
                static_cast<std::int64_t>(random.Below(3))};
    sweep_.spec.minimize = random.Below(2) == 0;
    for (TrialRecord& trial : sweep_.trials) {
      trial.checkpoints.clear();
      const auto n = static_cast<std::int64_t>(random.Below(7));
      for (std::int64_t step = 1; step <= n; ++step) {
        std::optional<double> value;
        if (random.Below(4) != 0) value = static_cast<double>(random.Below(4));
        if (random.Below(8) == 0) value = kNaN;
        trial.checkpoints.push_back(At(step, value, random.Below(5) != 0));
        trial.checkpoints.back().is_protected = random.Below(6) == 0;
        trial.checkpoints.back().deleting =
            !trial.checkpoints.back().is_protected && random.Below(6) == 0;
      }
    }
    for (int t = 0; t < 4; ++t) {
      const TrialRecord& trial = sweep_.trials[static_cast<std::size_t>(t)];
      const auto fates = Fates(t);
      std::int64_t alive = 0, best = 0, newest = -1;
      for (std::size_t i = 0; i < fates.size(); ++i) {
        const CheckpointRecord& c = trial.checkpoints[i];
        ASSERT_FALSE(fates[i].why.empty());
        ASSERT_FALSE(c.deleting && fates[i].stays);
        if (c.is_protected) {
          ASSERT_TRUE(fates[i].stays);
        }
        alive += c.deleting ? 0 : 1;
        best += fates[i].best ? 1 : 0;
        if (!c.deleting) newest = static_cast<std::int64_t>(i);
        // None that is strictly better by its value is passed over for one of the best.
        for (std::size_t j = 0; j < fates.size() && fates[i].best; ++j) {
          const CheckpointRecord& other = trial.checkpoints[j];
          const auto loss = [&](const CheckpointRecord& r) {
            return r.value ? search::LossOf(sweep_.spec, r.value->value, r.value->feasible)
                           : search::kWorst;
          };
          if (!other.deleting && !fates[j].best) {
            ASSERT_GE(loss(other), loss(c));
          }
        }
      }
      const bool swept = SweepBest(sweep_).contains(t);
      ASSERT_EQ(best, std::min(alive, std::max(policy().keep_best,
                                               static_cast<std::int64_t>(swept ? 1 : 0))));
      if (newest >= 0) {
        ASSERT_TRUE(fates[static_cast<std::size_t>(newest)].stays);
      }
    }
  }
}

}  // namespace
}  // namespace sae::server::testing
