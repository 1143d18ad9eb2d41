#include "server/search/median_stop.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/search/asha.h"

namespace sae::server::search {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Kind = Input::Kind;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// Looks at trials, says nothing.
class SilentSearch final : public Searcher {
 public:
  double NextLook(int) override { return kNever; }
  std::vector<Decision> Tell(const Input&) override { return {}; }
  std::string DebugString() const override { return ""; }
};

MedianStop Median(std::int64_t min_trials, double grace = 0, double interval = 10) {
  return MedianStop({grace, min_trials, interval}, std::make_unique<SilentSearch>());
}
std::vector<Decision> Decide(Searcher& s, int trial, double tokens, double loss) {
  return s.Tell({Kind::kReport, trial, tokens, loss});
}

TEST(MedianStop, StopsWhatIsWorseThanTheMedianOfMeans) {
  MedianStop s = Median(3);
  for (int t = 0; t < 3; ++t) {
    EXPECT_THAT(Decide(s, t, 10, 1 + t), IsEmpty());  // means 1, 2, 3
  }
  EXPECT_THAT(Decide(s, 3, 10, 2), IsEmpty()) << "equal is not worse";
  EXPECT_THAT(Decide(s, 4, 10, 2.5), ElementsAre(Decision{4, 0, Action::kStop}))
      << "four means 1, 2, 2, 3";
  EXPECT_EQ(s.NextLook(4), kNever);
}

TEST(MedianStop, ComparesTheBestWithMeans) {
  MedianStop s = Median(1);
  Decide(s, 0, 10, 4);
  Decide(s, 0, 20, 2);  // mean 3
  EXPECT_THAT(Decide(s, 1, 10, 3.5), IsEmpty());
  EXPECT_THAT(Decide(s, 1, 20, 9), ElementsAre(Decision{1, 0, Action::kStop})) << "3.5 > 3";
  EXPECT_THAT(Decide(s, 2, 10, 2.9), IsEmpty());
  EXPECT_THAT(Decide(s, 2, 20, 9), IsEmpty()) << "its best is 2.9";
}

TEST(MedianStop, NeedsOthersThatHaveComeAsFar) {
  MedianStop s = Median(2);
  Decide(s, 0, 10, 1);
  Decide(s, 1, 10, 1);
  Decide(s, 0, 20, 1);
  EXPECT_THAT(Decide(s, 2, 20, 5), IsEmpty()) << "one has come to 20";
  Decide(s, 1, 20, 1);
  EXPECT_THAT(Decide(s, 3, 20, 5), ElementsAre(Decision{3, 0, Action::kStop}));
}

TEST(MedianStop, NothingBeforeTheGraceCounts) {
  MedianStop s = Median(1, 20);
  EXPECT_EQ(s.NextLook(0), 20);
  Decide(s, 0, 10, 100);  // the steep start: would make its mean large
  Decide(s, 0, 20, 1);
  EXPECT_THAT(Decide(s, 1, 10, 50), IsEmpty());
  EXPECT_THAT(Decide(s, 1, 20, 2), ElementsAre(Decision{1, 0, Action::kStop}));
}

TEST(MedianStop, LooksOnceAnInterval) {
  MedianStop s = Median(1);
  EXPECT_EQ(s.NextLook(0), 10);
  Decide(s, 0, 14, 1);
  EXPECT_EQ(s.NextLook(0), 20);
  const std::string before = s.DebugString();
  Decide(s, 0, 15, 100);
  Decide(s, 0, 9, 100);
  EXPECT_EQ(s.DebugString(), before);
  Decide(s, 0, 55, 3);
  EXPECT_EQ(s.NextLook(0), 60);
  EXPECT_THAT(Decide(s, 1, 30, 1.5), ElementsAre(Decision{1, 0, Action::kStop}))
      << "between two looks the mean is as it was";
}

TEST(MedianStop, ANaNStopsItsOwnTrialAlone) {
  MedianStop s = Median(3);
  Decide(s, 0, 10, kMissing);
  for (int t = 1; t < 6; ++t) EXPECT_THAT(Decide(s, t, 10, 1), IsEmpty()) << t;
  EXPECT_THAT(Decide(s, 6, 10, kMissing), ElementsAre(Decision{6, 0, Action::kStop}));
}

TEST(MedianStop, WhereAllAreNaNNoneIsWorse) {
  MedianStop s = Median(1);
  for (int t = 0; t < 6; ++t) EXPECT_THAT(Decide(s, t, 10, kMissing), IsEmpty());
}

TEST(MedianStop, HugeLossesDoNotOverflow) {
  MedianStop s = Median(2);
  Decide(s, 0, 10, 1.7e308);
  Decide(s, 1, 10, 1.7e308);
  EXPECT_THAT(Decide(s, 2, 10, 1.6e308), IsEmpty());
  EXPECT_THAT(Decide(s, 3, 10, 1.75e308), ElementsAre(Decision{3, 0, Action::kStop}));
}

TEST(MedianStop, WithRungsEitherMayEndATrial) {
  MedianStop s({0, 1, 10}, std::make_unique<AshaPromote>(AshaShape{{25, 100}, 4, 1}));
  Decide(s, 0, 10, 1);
  EXPECT_THAT(Decide(s, 1, 10, 2), ElementsAre(Decision{1, 0, Action::kStop}));
  EXPECT_THAT(Decide(s, 0, 30, 1), ElementsAre(Decision{0, 1, Action::kPause}));
  EXPECT_THAT(Decide(s, 1, 30, 0), IsEmpty()) << "it is over for the rungs, too";
  s.Tell({Kind::kResumed, 0});
  EXPECT_EQ(s.NextLook(0), 40);
}

TEST(MedianStop, AnInvalidConfigurationLeavesNoTrace) {
  MedianStop s = Median(1);
  Decide(s, 0, 10, 1);
  s.Tell({Kind::kInvalid, 0});
  EXPECT_THAT(Decide(s, 1, 10, 5), IsEmpty()) << "nobody to compare with";
}

}  // namespace
}  // namespace sae::server::search
