// Who gives way to a sweep of higher priority.
#include "server/core/preemption.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "server/testing/plan_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

RunningGang Gang(std::int64_t priority, int minute, std::vector<Places::Take> takes) {
  RunningGang gang;
  gang.sweep = "low";
  gang.trials = {0};
  gang.priority = priority;
  gang.start = absl::UnixEpoch() + absl::Minutes(minute);
  gang.takes = std::move(takes);
  return gang;
}
/// A trial of `slots` of priority 50 that waits.
World Wanting(int slots, std::vector<SchedulableWorker> workers, std::vector<RunningGang> running) {
  World world{MakeTrials("high", 1, slots), std::move(workers), {MakeTerms("high", 50)}};
  world.running = std::move(running);
  return world;
}
std::vector<std::size_t> Evicted(const World& world) {
  std::vector<std::size_t> out;
  for (const Eviction& e : PlanOf(world).evictions) out.push_back(e.gang);
  return out;
}

TEST(Preemption, LowestPriorityThenLatestStarted) {
  EXPECT_THAT(
      Evicted(Wanting(1, {MakeWorker("a", 3, 0)},
                      {Gang(20, 9, {{0, 1}}), Gang(10, 1, {{0, 1}}), Gang(10, 2, {{0, 1}})})),
      ElementsAre(2));
  EXPECT_THAT(
      Evicted(Wanting(2, {MakeWorker("a", 3, 0)},
                      {Gang(20, 9, {{0, 1}}), Gang(10, 1, {{0, 1}}), Gang(10, 2, {{0, 1}})})),
      UnorderedElementsAre(1, 2));
}

TEST(Preemption, FewestThatMakeItFit) {
  // One of four slots, rather than four that started later.
  EXPECT_THAT(Evicted(Wanting(4, {MakeWorker("a", 8, 0)},
                              {Gang(10, 5, {{0, 1}}), Gang(10, 6, {{0, 1}}), Gang(10, 7, {{0, 1}}),
                               Gang(10, 8, {{0, 1}}), Gang(10, 1, {{0, 4}})})),
              ElementsAre(4));
  // What is free already counts.
  EXPECT_THAT(
      Evicted(Wanting(4, {MakeWorker("a", 8, 3)}, {Gang(10, 1, {{0, 4}}), Gang(10, 2, {{0, 1}})})),
      ElementsAre(1));
}

TEST(Preemption, NobodyWhenItWouldNotFitAnyway) {
  EXPECT_THAT(
      Evicted(Wanting(4, {MakeWorker("a", 4, 0)}, {Gang(10, 1, {{0, 2}}), Gang(50, 1, {{0, 2}})})),
      IsEmpty())
      << "one of equal priority stays";
  EXPECT_THAT(Evicted(Wanting(8, {MakeWorker("a", 4, 0)}, {Gang(10, 1, {{0, 4}})})), IsEmpty());
  World cordoned = Wanting(4, {MakeWorker("a", 4, 0), MakeWorker("b", 4, 0)},
                           {Gang(10, 1, {{0, 4}}), Gang(60, 1, {{1, 4}})});
  cordoned.workers[0].cordon = "by a person";
  EXPECT_THAT(Evicted(cordoned), IsEmpty());
}

TEST(Preemption, NotTwiceWhileTheVictimsAreSaving) {
  World world = Wanting(4, {MakeWorker("a", 8, 0)}, {Gang(10, 1, {{0, 4}})});
  world.workers[0].coming = 4;
  EXPECT_THAT(Evicted(world), IsEmpty());
  const Schedule schedule = PlanOf(world);
  ASSERT_EQ(schedule.waits.size(), 1U);
  EXPECT_EQ(schedule.waits[0].wait.reason, WaitReason::kVacating);
  EXPECT_EQ(schedule.waits[0].wait.text, "waiting for 4 slots that others are giving up");
  // A second trial does: the slots that come are for the first.
  world.trials = MakeTrials("high", 2, 4);
  EXPECT_THAT(Evicted(world), ElementsAre(0));
}

TEST(Preemption, SlotsThatComeAreKeptFromTheRest) {
  World world = Wanting(4, {MakeWorker("a", 8, 2)}, {});
  world.workers[0].coming = 2;
  world.trials.push_back(MakeTrials("low", 1, 1)[0]);
  EXPECT_TRUE(PlacedIn(world).empty());
  world.workers[0].free = 3;  // one more than it needs
  EXPECT_EQ(PlacedIn(world).size(), 1U);
}

TEST(Preemption, AcrossTheWorkersOfAGang) {
  EXPECT_THAT(Evicted(Wanting(6, {MakePeer("a", 4, 2), MakePeer("b", 4, 0), MakePeer("c", 4, 0)},
                              {Gang(10, 1, {{0, 2}}), Gang(20, 1, {{1, 4}}), Gang(10, 2, {{2, 2}}),
                               Gang(60, 1, {{2, 2}})})),
              UnorderedElementsAre(0, 2));
}

TEST(Preemption, AQuotaThatBarsItEvictsNobody) {
  World world = Wanting(4, {MakeWorker("a", 4, 0)}, {Gang(10, 1, {{0, 4}})});
  world.sweeps[0].queue = "q";
  world.queues["q"] = {8, 1, 6, {}};
  EXPECT_THAT(Evicted(world), IsEmpty());
}

/// Tries every set of gangs.
class Exhaustive {
 public:
  Exhaustive(const World& world, int slots, std::int64_t priority)
      : world_(world), slots_(slots), priority_(priority) {}
  /// {highest priority that goes, how many} of the best set; {0, 0} when none makes it fit.
  std::pair<std::int64_t, int> Best() const {
    std::pair<std::int64_t, int> best{0, 0};
    for (std::uint64_t set = 1; set < (std::uint64_t{1} << world_.running.size()); ++set) {
      std::pair<std::int64_t, int> cost{0, 0};
      bool allowed = true;
      for (std::size_t g = 0; g < world_.running.size(); ++g) {
        if ((set >> g & 1) == 0) continue;
        allowed = allowed && world_.running[g].priority < priority_;
        cost = {std::max(cost.first, world_.running[g].priority), cost.second + 1};
      }
      if (allowed && Fits(set) && (best.second == 0 || cost < best)) best = cost;
    }
    return best;
  }
  bool Fits(std::uint64_t set) const {
    for (std::size_t w = 0; w < world_.workers.size(); ++w) {
      int room = world_.workers[w].free;
      for (std::size_t g = 0; g < world_.running.size(); ++g) {
        for (const Places::Take& take : world_.running[g].takes)
          room += (set >> g & 1) != 0 && take.worker == w ? take.slots : 0;
      }
      if (room >= slots_) return true;
    }
    return false;
  }

 private:
  const World& world_;
  const int slots_;
  const std::int64_t priority_;
};

TEST(Preemption, IsMinimal) {
  int preempted = 0;
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    Random random(seed);
    World world = Wanting(1 + static_cast<int>(random.Below(6)), {}, {});
    const std::size_t workers = 1 + random.Below(3);
    for (std::size_t w = 0; w < workers; ++w) {
      int used = 0;
      while (used < 6 && world.running.size() < 10) {
        const int slots = std::min(6 - used, 1 + static_cast<int>(random.Below(3)));
        world.running.push_back(Gang(static_cast<std::int64_t>(random.Below(7)) * 10,
                                     static_cast<int>(random.Below(9)), {{w, slots}}));
        used += slots;
        if (random.Uniform() < 0.2) break;
      }
      world.workers.push_back(MakeWorker(std::to_string(w), 6, 6 - used));
    }
    const Exhaustive exhaustive(world, world.trials[0].slots, 50);
    const std::vector<std::size_t> evicted = Evicted(world);
    if (exhaustive.Fits(0)) {
      EXPECT_THAT(evicted, IsEmpty()) << "seed " << seed;
      continue;
    }
    std::pair<std::int64_t, int> cost{0, static_cast<int>(evicted.size())};
    std::uint64_t set = 0;
    for (const std::size_t g : evicted) {
      cost.first = std::max(cost.first, world.running[g].priority);
      set |= std::uint64_t{1} << g;
      EXPECT_LT(world.running[g].priority, 50);
    }
    EXPECT_EQ(cost, exhaustive.Best()) << "seed " << seed;
    if (!evicted.empty()) {
      ++preempted;
      EXPECT_TRUE(exhaustive.Fits(set)) << "seed " << seed;
      for (const std::size_t g : evicted)
        EXPECT_FALSE(exhaustive.Fits(set & ~(std::uint64_t{1} << g))) << "seed " << seed;
    }
  }
  EXPECT_GT(preempted, 100);
}

}  // namespace
}  // namespace sae::server::testing
