// The scheduler against one that tries everything, trial by trial; and what must hold of any plan.
#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "server/testing/plan_fixture.h"

namespace sae::server::testing {
namespace {

/// One worker a gang, no memory, no preemption: looks at every trial and every worker, again for
/// each placement.
class SlowScheduler {
 public:
  explicit SlowScheduler(World world) : world_(std::move(world)), terms_(world_.Terms()) {}

  std::map<std::string, std::string> Placed() {
    std::set<std::size_t> waiting;
    while (const std::optional<std::size_t> next = First(waiting)) {
      const SchedulableTrial& trial = world_.trials[*next];
      SweepTerms& terms = TermsOf(trial);
      QueueTerms& queue = world_.queues[terms.queue];
      const bool barred = terms.paused || terms.room <= 0 ||
                          (queue.quota > 0 && queue.used + trial.slots > queue.quota);
      SchedulableWorker* worker = barred ? nullptr : Best(trial);
      if (worker == nullptr) {
        waiting.insert(*next);
        // As many as could start next keep room: those beyond the quota or the limit do not.
        if (!barred && Keeps(trial, terms, queue)) Reserve(trial);
        continue;
      }
      worker->free -= trial.slots;
      queue.used += trial.slots;
      queue.owners[terms.owner] += trial.slots;
      if (terms.room != kNoLimit) --terms.room;
      placed_[trial.sweep + "/" + std::to_string(trial.index)] = worker->id;
      done_.insert(*next);
    }
    return placed_;
  }

 private:
  SweepTerms& TermsOf(const SchedulableTrial& trial) {
    return *std::find_if(terms_.begin(), terms_.end(),
                         [&](const SweepTerms& t) { return t.name == trial.sweep; });
  }
  std::optional<std::size_t> First(const std::set<std::size_t>& waiting) {
    std::optional<std::size_t> best;
    const auto rank = [&](std::size_t i) {
      const SchedulableTrial& trial = world_.trials[i];
      const SweepTerms& terms = TermsOf(trial);
      QueueTerms& queue = world_.queues[terms.queue];
      return std::make_tuple(-terms.priority, static_cast<double>(queue.used) / queue.weight,
                             queue.owners[terms.owner], &terms - terms_.data(), trial.order,
                             trial.index);
    };
    for (std::size_t i = 0; i < world_.trials.size(); ++i) {
      if (done_.contains(i) || waiting.contains(i)) continue;
      if (!best || rank(i) < rank(*best)) best = i;
    }
    return best;
  }
  static bool MayHold(const SchedulableWorker& w, const SchedulableTrial& trial) {
    return w.cordon.empty() && (trial.runs_id.empty() || w.runs_id == trial.runs_id);
  }
  SchedulableWorker* Best(const SchedulableTrial& trial) {
    SchedulableWorker* best = nullptr;
    const auto rank = [&](const SchedulableWorker& w) {
      return std::make_tuple(std::count(trial.avoid.begin(), trial.avoid.end(), w.id) > 0,
                             w.id != trial.prefer, w.free, w.id);
    };
    for (SchedulableWorker& w : world_.workers) {
      if (!MayHold(w, trial) || w.free < trial.slots) continue;
      if (best == nullptr || rank(w) < rank(*best)) best = &w;
    }
    return best;
  }
  bool Keeps(const SchedulableTrial& trial, const SweepTerms& terms, const QueueTerms& queue) {
    std::int64_t& kept = kept_[{trial.sweep, trial.order, trial.slots, trial.runs_id}];
    if (kept >= terms.room) return false;
    if (queue.quota > 0 && (kept + 1) * trial.slots > queue.quota - queue.used) return false;
    ++kept;
    return true;
  }
  void Reserve(const SchedulableTrial& trial) {
    SchedulableWorker* best = nullptr;
    for (SchedulableWorker& w : world_.workers) {
      if (MayHold(w, trial) && w.slots >= trial.slots && w.free > (best ? best->free : 0))
        best = &w;
    }
    if (best != nullptr) best->free = 0;
  }

  World world_;
  std::vector<SweepTerms> terms_;
  std::map<std::string, std::string> placed_;
  std::set<std::size_t> done_;
  std::map<std::tuple<std::string, std::int64_t, int, std::string>, std::int64_t> kept_;
};

World RandomWorld(Random& random, bool alike) {
  const auto below = [&](int n) {
    return static_cast<int>(random.Below(static_cast<std::uint64_t>(n)));
  };
  World world;
  const int workers = 1 + below(5);
  for (int w = 0; w < workers; ++w) {
    const int slots = 1 + below(8);
    const int free = !alike && below(2) == 0 ? slots : below(slots + 1);
    world.workers.push_back(MakePeer("w" + std::to_string(w), slots, free,
                                     "rack" + std::to_string(below(2)),
                                     "r" + std::to_string(alike ? below(2) : below(4) / 3)));
    world.workers.back().peers = below(8) > 0;
    if (below(6) == 0) world.workers.back().cordon = "by a person";
    if (below(3) == 0) world.workers.back().coming = below(slots - world.workers.back().free + 1);
  }
  for (const char* queue : {"q0", "q1", "q2"})
    world.queues[queue] = {below(2) * (4 + below(8)), 1.0 + below(3), below(4), {{"o1", below(3)}}};
  const int sweeps = 1 + below(5);
  for (int s = 0; s < sweeps; ++s) {
    SweepTerms terms;
    terms.name = "s" + std::to_string(s);
    terms.priority = below(3) * 10;
    terms.queue = "q" + std::to_string(below(3));
    terms.owner = "o" + std::to_string(below(2));
    if (below(3) == 0) terms.room = below(4);
    terms.paused = below(10) == 0;
    terms.topology = static_cast<Topology>(below(3));
    const int trials = below(7);
    const int slots = 1 + below(4);
    const std::string home = below(4) == 0 ? "r" + std::to_string(below(3)) : "";
    for (int t = 0; t < trials; ++t) {
      SchedulableTrial trial = MakeTrial(t, alike ? slots : 1 + below(16));
      trial.sweep = terms.name;
      trial.order = alike ? 0 : -below(2);
      // Alike, a sweep is one batch: it keeps room for all its trials at once, as trial by trial.
      trial.runs_id = alike ? home : below(4) == 0 ? "r" + std::to_string(below(3)) : "";
      if (below(4) == 0) trial.prefer = "w" + std::to_string(below(workers));
      if (below(4) == 0) trial.avoid = {"w" + std::to_string(below(workers))};
      world.trials.push_back(std::move(trial));
    }
    world.sweeps.push_back(std::move(terms));
  }
  return world;
}

TEST(SchedulerProperty, PlansAsTheSlowOneDoes) {
  int placed = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    World world = RandomWorld(random, true);
    for (SchedulableWorker& w : world.workers) {
      w.peers = false;
      w.coming = 0;
    }
    const auto fast = PlacedIn(world);
    EXPECT_EQ(fast, SlowScheduler(world).Placed()) << "seed " << seed;
    placed += static_cast<int>(fast.size());
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(placed, 3000);
}

void CheckPlan(const World& world, const Schedule& schedule) {
  const std::vector<SweepTerms> terms = world.Terms();
  std::vector<int> used(world.workers.size());
  std::map<std::string, std::int64_t> queue_used;
  std::map<std::string, std::int64_t> started;
  std::set<std::pair<std::size_t, int>> once;
  std::map<std::pair<std::string, int>, const SchedulableTrial*> trials;
  for (const SchedulableTrial& t : world.trials) trials[{t.sweep, t.index}] = &t;
  for (const Placement& p : schedule.placements) {
    ASSERT_TRUE(once.insert({p.sweep, p.trial}).second);
    const SchedulableTrial& trial = *trials.at({terms[p.sweep].name, p.trial});
    int slots = 0;
    std::set<std::string> folders, racks;
    for (const Places::Take& take : p.takes) {
      const SchedulableWorker& worker = world.workers[take.worker];
      ASSERT_GT(take.slots, 0);
      ASSERT_EQ(worker.cordon, "");
      ASSERT_TRUE(trial.runs_id.empty() || trial.runs_id == worker.runs_id);
      ASSERT_TRUE(p.takes.size() == 1 || worker.peers);
      slots += take.slots;
      used[take.worker] += take.slots;
      folders.insert(worker.runs_id);
      racks.insert(worker.rack);
    }
    ASSERT_EQ(slots, trial.slots) << "a gang is all or nothing";
    ASSERT_EQ(folders.size(), 1U);
    if (terms[p.sweep].topology == Topology::kSameRack) {
      ASSERT_EQ(racks.size(), 1U);
    }
    if (terms[p.sweep].topology == Topology::kSameNode) {
      ASSERT_EQ(p.takes.size(), 1U);
    }
    ASSERT_FALSE(terms[p.sweep].paused);
    queue_used[terms[p.sweep].queue] += slots;
    ++started[terms[p.sweep].name];
  }
  for (std::size_t w = 0; w < used.size(); ++w) ASSERT_LE(used[w], world.workers[w].free);
  for (const auto& [queue, slots] : queue_used) {
    const QueueTerms& q = world.queues.at(queue);
    if (q.quota > 0) {
      ASSERT_LE(q.used + slots, q.quota) << queue;
    }
  }
  for (const SweepTerms& t : terms) ASSERT_LE(started[t.name], t.room) << t.name;
  std::int64_t waiting = 0;
  for (const BatchWait& wait : schedule.waits) {
    waiting += wait.trials;
    ASSERT_NE(wait.wait.text, "");
  }
  ASSERT_EQ(waiting + static_cast<std::int64_t>(schedule.placements.size()),
            static_cast<std::int64_t>(world.trials.size()))
      << "each is placed or has a reason";
}

TEST(SchedulerProperty, EveryPlanKeepsTheRules) {
  int several = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed + 100000);
    const World world = RandomWorld(random, false);
    const Schedule schedule = PlanOf(world);
    ASSERT_NO_FATAL_FAILURE(CheckPlan(world, schedule)) << "seed " << seed;
    for (const Placement& p : schedule.placements) several += p.takes.size() > 1 ? 1 : 0;
  }
  EXPECT_GT(several, 100) << "gangs over several workers were hardly tried";
}

/// Trials end one by one, in any order: everyone starts at last, and equal sweeps stay within one
/// trial of each other.
TEST(SchedulerProperty, NobodyStarvesAmongEquals) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Random random(seed);
    World world;
    world.workers = {MakeWorker("a", 4, 4), MakeWorker("b", 3, 3)};
    world.sweeps = {MakeTerms("s0", 0, "q", "o0"), MakeTerms("s1", 0, "q", "o1"),
                    MakeTerms("s2", 0, "q", "o2")};
    world.queues["q"] = {0, 1, 0, {}};
    for (const SweepTerms& t : world.sweeps) {
      for (SchedulableTrial& trial : MakeTrials(t.name, 12, t.name == "s2" ? 3 : 1))
        world.trials.push_back(trial);
    }
    struct Running {
      SchedulableTrial trial;
      std::string owner;
      std::size_t worker;
    };
    std::vector<Running> running;
    std::map<std::string, int> last;
    for (int cycle = 0; !world.trials.empty(); ++cycle) {
      ASSERT_LT(cycle, 500) << "seed " << seed << ": " << world.trials.size() << " never start";
      const Schedule schedule = PlanOf(world);
      for (const Placement& p : schedule.placements) {
        const SweepTerms& t = world.sweeps[p.sweep];
        const auto it = std::find_if(world.trials.begin(), world.trials.end(), [&](const auto& x) {
          return x.sweep == t.name && x.index == p.trial;
        });
        EXPECT_GE(it->index, last[t.name]) << "in the order of their indices";
        last[t.name] = it->index;
        running.push_back({*it, t.owner, p.takes[0].worker});
        world.workers[p.takes[0].worker].free -= it->slots;
        world.queues["q"].used += it->slots;
        world.queues["q"].owners[t.owner] += it->slots;
        world.trials.erase(it);
      }
      if (running.empty()) continue;
      const std::size_t i = random.Below(running.size());
      world.workers[running[i].worker].free += running[i].trial.slots;
      world.queues["q"].used -= running[i].trial.slots;
      world.queues["q"].owners[running[i].owner] -= running[i].trial.slots;
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

}  // namespace
}  // namespace sae::server::testing
