// Filters, orders, pages and fronts, without a server.
#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "server/core/state_search.h"
#include "server/service/convert.h"
#include "server/service/list_filter.h"
#include "server/service/list_page.h"
#include "server/service/pareto.h"

namespace sae::server {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kFields = {"state", "name", "labels."};

bool Picks(const std::string& text, const std::map<std::string, std::string>& item) {
  const auto filter = ParseFilter(text, kFields);
  EXPECT_TRUE(filter.ok()) << filter.status();
  return filter.ok() && Matches(*filter, [&](const std::string& field) {
           const auto it = item.find(field);
           return it == item.end() ? std::nullopt : std::optional(it->second);
         });
}

TEST(ListFilter, AllTermsMustHold) {
  const std::map<std::string, std::string> item = {
      {"state", "RUNNING"}, {"name", "gpt2-l12"}, {"labels.layer", "12"}, {"labels.who", "ann b"}};
  EXPECT_TRUE(Picks("", item));
  EXPECT_TRUE(Picks("state=RUNNING", item));
  EXPECT_TRUE(Picks("state = RUNNING AND name:l12", item));
  EXPECT_FALSE(Picks("state=RUNNING AND name:l13", item));
  EXPECT_TRUE(Picks("labels.layer=12.0", item)) << "numbers by value";
  EXPECT_TRUE(Picks("labels.who=\"ann b\" AND state!=FAILED", item));
  EXPECT_FALSE(Picks("labels.none=1", item));
  EXPECT_TRUE(Picks("labels.none!=1", item));
}

TEST(ListFilter, ErrorsSayWhere) {
  const auto message = [](const std::string& text) {
    const auto filter = ParseFilter(text, kFields);
    EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return Message(filter.status());
  };
  EXPECT_THAT(message("stat=RUNNING"), HasSubstr("did you mean state?"));
  EXPECT_THAT(message("state RUNNING"), HasSubstr("expected =, != or : at character 7"));
  EXPECT_THAT(message("state=A name=B"), HasSubstr("expected AND"));
  EXPECT_THAT(message("state="), HasSubstr("expected a value"));
  EXPECT_THAT(message("name=\"x"), HasSubstr("quote"));
  EXPECT_THAT(message("=x"), HasSubstr("expected a field"));
  EXPECT_THAT(message("labels.=x"), HasSubstr("unknown field"));
  EXPECT_FALSE(ParseOrder("name up", {}, kFields).ok());
  EXPECT_FALSE(ParseOrder("size", {}, kFields).ok());
  EXPECT_TRUE(ParseOrder("name desc", {}, kFields)->descending);
  EXPECT_EQ(ParseOrder("", {"state", true}, kFields)->field, "state");
}

TEST(ListPage, SortKeysHaveTheOrderOfTheNumbers) {
  const double numbers[] = {-1e300, -2, -1e-9, 0, 1e-9, 1, 2, 1e300};
  for (std::size_t i = 1; i < std::size(numbers); ++i)
    EXPECT_LT(SortKey(numbers[i - 1]), SortKey(numbers[i]));
  EXPECT_EQ(SortKey(-0.0), SortKey(0.0));
  EXPECT_LT(SortKey(std::int64_t{-5}), SortKey(std::int64_t{3}));
}

/// All names, page by page.
std::vector<std::string> AllPages(const std::vector<Place>& places, int size, bool descending) {
  std::vector<std::string> out;
  PageRequest request{size, "", "list", descending};
  do {
    const auto page = PageOf(places, request);
    EXPECT_TRUE(page.ok()) << page.status();
    for (const std::size_t i : page->items) out.push_back(places[i].name);
    request.token = page->next_token;
  } while (!request.token.empty());
  return out;
}

TEST(ListPage, PagesAreTheWholeListInOrder) {
  const std::vector<Place> places = {{true, SortKey(2.0), 0, "a"},
                                     {false, "", 1, "b"},
                                     {true, SortKey(1.0), 2, "c"},
                                     {true, SortKey(2.0), 3, "d"}};
  for (const int size : {1, 2, 3, 50}) {
    EXPECT_THAT(AllPages(places, size, false), ElementsAre("c", "a", "d", "b"));
    EXPECT_THAT(AllPages(places, size, true), ElementsAre("d", "a", "c", "b"));
  }
}

TEST(ListPage, EqualsSortingTheWholeListOnRandomPlaces) {
  Random random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<Place> places;
    for (int i = 0, n = static_cast<int>(random.Below(40)); i < n; ++i) {
      const bool has_key = random.Below(5) > 0;
      places.push_back({has_key, has_key ? SortKey(static_cast<double>(random.Below(6))) : "", i,
                        "n" + std::to_string(i)});
    }
    for (const bool descending : {false, true}) {
      std::vector<Place> sorted = places;
      std::sort(sorted.begin(), sorted.end(), [&](const Place& a, const Place& b) {
        if (a.has_key != b.has_key) return a.has_key;
        if (a.key != b.key) return descending ? a.key > b.key : a.key < b.key;
        return descending ? a.tie > b.tie : a.tie < b.tie;
      });
      std::vector<std::string> names;
      for (const Place& place : sorted) names.push_back(place.name);
      for (const int size : {1, 3, 40}) EXPECT_EQ(AllPages(places, size, descending), names);
    }
  }
}

TEST(ListPage, ATokenIsBoundToItsList) {
  const std::vector<Place> places = {{true, "a", 0, "a"}, {true, "b", 1, "b"}};
  const auto page = PageOf(places, {1, "", "list", false});
  ASSERT_FALSE(page->next_token.empty());
  EXPECT_TRUE(PageOf(places, {1, page->next_token, "list", false}).ok());
  for (const PageRequest& bad :
       {PageRequest{1, page->next_token, "other", false}, PageRequest{1, "rubbish", "list", false},
        PageRequest{1, page->next_token + "x", "list", false},
        PageRequest{-1, "", "list", false}}) {
    EXPECT_EQ(PageOf(places, bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
  // The item of the token has gone: the next page begins behind where it was.
  const auto rest = PageOf({{true, "b", 0, "b"}}, {1, page->next_token, "list", false});
  EXPECT_THAT(rest->items, ElementsAre(0));
}

TEST(Pareto, KeepsWhatNothingBeats) {
  const double nan = std::nan(""), inf = HUGE_VAL;
  EXPECT_THAT(ParetoFront({{3, 1}, {1, 3}, {2, 2}, {2, 3}, {nan, 0}, {0, inf}, {2, 2}}),
              ElementsAre(1, 2, 6, 0))
      << "equal points beat each other not";
  EXPECT_THAT(ParetoFront({{2}, {1}, {1}}), ElementsAre(1, 2));
  EXPECT_TRUE(ParetoFront({}).empty());
}

TEST(Pareto, EqualsTheDefinitionOnRandomPoints) {
  Random random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<double>> points(20, std::vector<double>(3));
    for (auto& p : points) {
      for (double& x : p) x = static_cast<double>(random.Below(5));
    }
    const std::vector<std::size_t> front = ParetoFront(points);
    for (std::size_t i = 0; i < points.size(); ++i) {
      bool beaten = false;
      for (const auto& other : points) {
        bool all = true;
        for (int c = 0; c < 3; ++c) all = all && other[c] <= points[i][c];
        beaten = beaten || (all && other != points[i]);
      }
      EXPECT_EQ(std::find(front.begin(), front.end(), i) == front.end(), beaten);
    }
  }
}

TEST(Pareto, NonFiniteMeetsNoConstraint) {
  Progress progress;
  progress.metrics = {{"heldout.l0", 60}, {"heldout.fvu", std::nan("")}};
  EXPECT_TRUE(MeetsAll({{"heldout.l0", "<=", 60}}, progress));
  EXPECT_FALSE(MeetsAll({{"heldout.l0", "<", 60}}, progress));
  EXPECT_FALSE(MeetsAll({{"heldout.fvu", "<=", 1}}, progress));
  EXPECT_FALSE(MeetsAll({{"heldout.dead_fraction", ">=", 0}}, progress)) << "missing";
}

/// Of three trials with a measurement each, of which the first meets no constraint.
SweepRecord Measured(bool minimize) {
  SweepRecord sweep;
  sweep.name = "s";
  sweep.spec.minimize = minimize;
  sweep.trials.resize(3);
  const SearchReport reports[] = {
      {1, 10, 10, 0.1, false}, {1, 10, 10, 0.4, true}, {1, 10, 10, 0.3, true}};
  for (int i = 0; i < 3; ++i) {
    TrialRecord& trial = sweep.trials[static_cast<std::size_t>(i)];
    trial.index = i;
    EXPECT_EQ(SweepToProto(sweep, 0).best_trial(),
              i < 2 ? "" : "projects/default/sweeps/s/trials/0001");
    const LogEvent event{"s", i + 1, absl::UnixEpoch(), TrialNameOf(i), reports[i]};
    EXPECT_TRUE(ApplySearch(event, sweep, trial).has_value());
  }
  return sweep;
}

TEST(Convert, ASweepNamesItsBestTrialAndATrialItsRung) {
  SweepRecord sweep = Measured(true);
  EXPECT_EQ(SweepToProto(sweep, 0).best_trial(), "projects/default/sweeps/s/trials/0002");
  sweep.trials[2].rung = 2;
  EXPECT_EQ(TrialToProto(sweep, sweep.trials[2], "", Progress{}).rung(), 2);
  EXPECT_EQ(SweepToProto(Measured(false), 0).best_trial(), "projects/default/sweeps/s/trials/0001");
}

TEST(Convert, ASweepSaysThatItsGracePeriodIsShort) {
  SweepRecord sweep = Measured(true);
  sweep.spec.grace_seconds = 30;
  sweep.slowest_save_seconds = 20;
  EXPECT_EQ(SweepToProto(sweep, 0).warnings_size(), 0);
  sweep.slowest_save_seconds = 25;
  ASSERT_EQ(SweepToProto(sweep, 0).warnings_size(), 1);
  EXPECT_NE(SweepToProto(sweep, 0).warnings(0).find("gracePeriod 30s is short"), std::string::npos);
  sweep.state = SweepState::kSucceeded;
  EXPECT_EQ(SweepToProto(sweep, 0).warnings_size(), 0) << "it is over";
}

}  // namespace
}  // namespace sae::server
