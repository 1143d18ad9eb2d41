// The simulator itself: a seed is a history, and the histories are not tame.
#include "server/sim/world.h"

#include <spdlog/spdlog.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/sim/statistics.h"

namespace sae::server::sim {
namespace {

constexpr std::uint64_t kHistories = 80;

std::string Told(std::uint64_t seed) {
  std::string all;
  WorldOptions options;
  options.seed = seed;
  options.trace = [&](const std::string& line) { all += line + "\n"; };
  const Outcome outcome = Simulate(options);
  EXPECT_THAT(outcome.breaches, ::testing::IsEmpty());
  return all;
}

TEST(WorldTest, TheSameSeedGivesTheSameHistory) {
  spdlog::set_level(spdlog::level::off);
  for (std::uint64_t seed = 1; seed <= 5; ++seed) EXPECT_EQ(Told(seed), Told(seed));
  EXPECT_NE(Told(1), Told(2));
}

/// Each of these happened, in some of the first histories.
constexpr const char* kKinds[] = {
    // Faults of the coordinator and its disk, of workers and of links.
    "commit fails", "commit unknown", "commit dies before", "commit dies after",
    "fault kill coordinator", "fault two coordinators", "fault crash daemon",
    "fault reboot machine", "fault pause daemon", "fault machine dies", "fault cut link",
    "fault lossy link", "fault jump clock", "gang part refused", "peer falls silent",
    "gang peer not reached",
    // Gangs.
    "gang packed", "gang over several workers", "gang over several workers trains",
    "event attempt_prepared", "ended refused RENDEZVOUS_TIMEOUT", "ended lost NODE_LOST",
    // Queues and workers.
    "event queue_updated", "quota filled", "max_concurrent filled", "stop to preempt",
    "ended preempted", "cordon", "drain", "event worker_uncordoned",
    // Searches.
    "sweep asha stop", "sweep asha promote", "sweep hyperband stop", "sweep hyperband promote",
    "sweep median stop", "sweep condition", "search continue", "search stop", "search pause",
    "search promote",
    // People.
    "fork", "event points_added", "event trial_retried", "event trial_paused",
    "event trial_resumed", "event sweep_updated", "event sweep_deleted", "stop to pause",
    "stop to stop", "stop to cancel", "call submit unanswered"};

TEST(WorldTest, HistoriesHoldWhatTheyShould) {
  spdlog::set_level(spdlog::level::off);
  Statistics statistics;
  int coordinators = 0, repeated = 0, acknowledged = 0;
  for (std::uint64_t seed = 1; seed <= kHistories; ++seed) {
    WorldOptions options;
    options.seed = seed;
    const Outcome outcome = Simulate(options);
    EXPECT_THAT(outcome.breaches, ::testing::IsEmpty()) << "seed " << seed;
    Count(outcome.history, statistics);
    coordinators += outcome.coordinators - 1;
    acknowledged += static_cast<int>(outcome.history.acknowledged.size());
    for (const ProcessLife& p : outcome.history.processes) repeated += p.key.attempt > 1 ? 1 : 0;
  }
  EXPECT_GT(coordinators, 30);
  EXPECT_GT(repeated, 30);
  EXPECT_GT(acknowledged, 1000);
  EXPECT_GT(statistics["event seen by a watcher"], 1000);
  for (const char* kind : kKinds) EXPECT_GT(statistics[kind], 0) << kind;
}

}  // namespace
}  // namespace sae::server::sim
