#include "server/search/asha.h"

#include <cmath>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::server::search {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Kind = Input::Kind;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

const AshaShape kShape{{1, 4, 16}, 4, 1};

Decision D(int trial, int rung, Action action) { return {trial, rung, action}; }
std::vector<Decision> Say(Searcher& s, int trial, double tokens, double loss) {
  return s.Tell({Kind::kReport, trial, tokens, loss});
}
bool Any(int) { return true; }

TEST(AshaStop, TheBestSoFarGoesOnAndOthersStop) {
  AshaStop s(kShape);
  EXPECT_EQ(s.NextLook(0), 1);
  EXPECT_THAT(Say(s, 0, 0.5, 9), IsEmpty()) << "before the first rung";
  EXPECT_THAT(Say(s, 0, 1, 5), ElementsAre(D(0, 1, Action::kContinue)));
  EXPECT_EQ(s.NextLook(0), 4);
  EXPECT_THAT(Say(s, 1, 1, 6), ElementsAre(D(1, 1, Action::kStop)));
  EXPECT_EQ(s.NextLook(1), kNever);
  EXPECT_THAT(Say(s, 2, 1, 4), ElementsAre(D(2, 1, Action::kContinue)));
  EXPECT_THAT(Say(s, 0, 1, 1), IsEmpty()) << "each rung once";
}

TEST(AshaStop, AReportMayPassSeveralRungs) {
  AshaStop s(kShape);
  EXPECT_THAT(Say(s, 0, 20, 5), ElementsAre(D(0, 1, Action::kContinue), D(0, 2, Action::kContinue),
                                            D(0, 3, Action::kStop)));
  EXPECT_THAT(Say(s, 1, 20, 4), ElementsAre(D(1, 1, Action::kContinue), D(1, 2, Action::kContinue),
                                            D(1, 3, Action::kStop)))
      << "the last rung ends a trial whatever its place";
  EXPECT_THAT(Say(s, 2, 20, 6), ElementsAre(D(2, 1, Action::kStop)))
      << "none after the rung that stops it";
}

TEST(AshaStop, WhatIsNotFiniteIsTheWorstAndPoisonsNothing) {
  for (const double bad : {kNaN, kInf, -kInf}) {
    AshaStop s(kShape);
    Say(s, 0, 1, bad);  // first of its rung
    EXPECT_THAT(Say(s, 1, 1, 0.1), ElementsAre(D(1, 1, Action::kContinue)));
    EXPECT_THAT(Say(s, 2, 1, 0.01), ElementsAre(D(2, 1, Action::kContinue)));
    EXPECT_THAT(Say(s, 3, 1, 0.5), ElementsAre(D(3, 1, Action::kStop)));
    EXPECT_THAT(Say(s, 4, 1, bad), ElementsAre(D(4, 1, Action::kStop)));
    EXPECT_THAT(Say(s, 5, 1, 1e300), ElementsAre(D(5, 1, Action::kStop)));
  }
}

TEST(AshaStop, TiesGoToTheLowerTrial) {
  AshaStop s(kShape);
  Say(s, 5, 1, 2);
  EXPECT_THAT(Say(s, 7, 1, 2), ElementsAre(D(7, 1, Action::kStop)));
  EXPECT_THAT(Say(s, 3, 1, 2), ElementsAre(D(3, 1, Action::kContinue)));
}

TEST(AshaStop, AnInvalidConfigurationLeavesNoTrace) {
  AshaStop s(kShape), without(kShape);
  Say(s, 0, 1, 1);
  s.Tell({Kind::kInvalid, 0});
  EXPECT_EQ(s.NextLook(0), kNever);
  for (int t = 1; t < 9; ++t) EXPECT_EQ(Say(s, t, 1, 10 - t), Say(without, t, 1, 10 - t));
}

TEST(AshaStop, AFailureCountsAsTheWorstOfItsNextRung) {
  AshaStop s(kShape);
  for (int t = 0; t < 6; ++t) s.Tell({Kind::kFailed, t});
  Say(s, 6, 1, 1);
  EXPECT_THAT(Say(s, 7, 1, 2), ElementsAre(D(7, 1, Action::kContinue)))
      << "second of eight: six failures make room for it";
  s.Tell({Kind::kRetried, 0});
  EXPECT_EQ(s.NextLook(0), 1) << "the failure is taken back";
  EXPECT_THAT(Say(s, 8, 1, 3), ElementsAre(D(8, 1, Action::kStop)));
  EXPECT_THAT(Say(s, 0, 1, 0.5), ElementsAre(D(0, 1, Action::kContinue)));
}

TEST(AshaStop, ACancelledTrialCountsNothing) {
  AshaStop s(kShape), without(kShape);
  for (int t = 0; t < 6; ++t) s.Tell({Kind::kCancelled, t});
  for (int t = 6; t < 12; ++t) EXPECT_EQ(Say(s, t, 1, t % 5), Say(without, t, 1, t % 5));
}

TEST(AshaStop, TimeThatGoesBackChangesNothing) {
  AshaStop s(kShape);
  Say(s, 0, 4, 5);
  const std::string before = s.DebugString();
  EXPECT_THAT(Say(s, 0, 1, 9), IsEmpty());
  EXPECT_THAT(Say(s, 0, 4, 9), IsEmpty());
  EXPECT_THAT(Say(s, 0, -1, 0), IsEmpty());
  EXPECT_THAT(Say(s, 0, kNaN, 0), IsEmpty());
  EXPECT_EQ(s.DebugString(), before);
}

TEST(AshaPromote, EveryTrialPausesAndTheBestOfFourGoesOn) {
  AshaPromote s(kShape);
  for (int t = 0; t < 3; ++t) {
    EXPECT_THAT(Say(s, t, 1, t), ElementsAre(D(t, 1, Action::kPause)));
    EXPECT_EQ(s.NextLook(t), kNever);
    EXPECT_FALSE(s.NextPromotion(Any).has_value());
  }
  Say(s, 3, 1, -1);
  EXPECT_EQ(s.NextPromotion(Any), D(3, 2, Action::kPromote));
  EXPECT_FALSE(s.NextPromotion([](int) { return false; }).has_value()) << "it is not paused yet";
  s.Tell({Kind::kResumed, 3});
  EXPECT_EQ(s.NextLook(3), 4);
  EXPECT_FALSE(s.NextPromotion(Any).has_value());
  Say(s, 4, 1, -2);
  EXPECT_EQ(s.NextPromotion(Any), D(4, 2, Action::kPromote)) << "the best of five";
  s.Tell({Kind::kResumed, 4});
  EXPECT_FALSE(s.NextPromotion(Any).has_value()) << "one place, and 4 has it";
}

TEST(AshaPromote, TopRungsFirst) {
  AshaPromote s(kShape);
  for (int t = 0; t < 16; ++t) Say(s, t, 1, t);
  for (int t = 0; t < 4; ++t) {
    EXPECT_EQ(s.NextPromotion(Any), D(t, 2, Action::kPromote));
    s.Tell({Kind::kResumed, t});
    Say(s, t, 4, 10 - t);
  }
  EXPECT_EQ(s.NextPromotion(Any), D(3, 3, Action::kPromote));
  for (int t = 16; t < 20; ++t) Say(s, t, 1, -1);
  EXPECT_EQ(s.NextPromotion(Any), D(3, 3, Action::kPromote)) << "before 16, of the lower rung";
  s.Tell({Kind::kResumed, 3});
  EXPECT_THAT(Say(s, 3, 16, 1), ElementsAre(D(3, 3, Action::kStop))) << "done";
  EXPECT_EQ(s.NextPromotion(Any), D(16, 2, Action::kPromote));
}

TEST(AshaPromote, APersonMayPromoteAndATrialThatIsGoneIsPassedOver) {
  AshaPromote s(kShape);
  for (int t = 0; t < 8; ++t) Say(s, t, 1, t);
  s.Tell({Kind::kResumed, 7});  // by a person: outside its quota
  EXPECT_EQ(s.NextLook(7), 4);
  s.Tell({Kind::kCancelled, 0});
  EXPECT_EQ(s.NextPromotion(Any), D(1, 2, Action::kPromote));
  s.Tell({Kind::kResumed, 1});
  EXPECT_FALSE(s.NextPromotion(Any).has_value()) << "two places of eight, one lost with trial 0";
}

TEST(AshaPromote, NaNIsNeverBeforeANumber) {
  AshaPromote s(kShape);
  for (int t = 0; t < 7; ++t) Say(s, t, 1, kNaN);
  EXPECT_EQ(s.NextPromotion(Any), D(0, 2, Action::kPromote)) << "one of seven; ties by number";
  Say(s, 7, 1, 1e308);
  EXPECT_EQ(s.NextPromotion(Any), D(7, 2, Action::kPromote));
}

TEST(Brackets, TrialsAreDealtInProportion) {
  const double eta = 4;
  AshaShape shape{{1, 4, 16, 64}, eta, 4};
  BracketDealer dealer({std::pow(eta, 3) / 4, std::pow(eta, 2) / 3, eta / 2, 1});
  const double sum = 16 + 16.0 / 3 + 2 + 1;
  std::map<int, int> counts;
  for (int t = 0; t < 1000; ++t) ++counts[dealer.BracketOf(t)];
  EXPECT_NEAR(counts[0], 1000 * 16 / sum, 1.5);
  EXPECT_NEAR(counts[1], 1000 * 16 / 3.0 / sum, 1.5);
  EXPECT_NEAR(counts[2], 2000 / sum, 1.5);
  EXPECT_NEAR(counts[3], 1000 / sum, 1.5);

  AshaStop s(shape);
  std::map<double, int> first;
  for (int t = 0; t < 100; ++t) ++first[s.NextLook(t)];
  EXPECT_EQ(first.size(), 4U) << "each bracket begins at another rung";
  EXPECT_GT(first[1], first[4]);
  EXPECT_GT(first[4], first[16]);
  AshaStop again(shape);
  EXPECT_EQ(again.NextLook(57), s.NextLook(57)) << "asked alone, or after others";
}

TEST(Brackets, RungsOfDifferentBracketsDoNotMeet) {
  AshaShape shape{{1, 4}, 2, 2};
  AshaStop s(shape);
  int in_second = -1;
  for (int t = 0; t < 20 && in_second < 0; ++t) in_second = s.NextLook(t) == 4 ? t : -1;
  ASSERT_GE(in_second, 0);
  EXPECT_THAT(Say(s, in_second, 4, 100), ElementsAre(D(in_second, 2, Action::kStop)))
      << "numbered by the whole ladder";
}

}  // namespace
}  // namespace sae::server::search
