// The simulator itself: a seed is a history, and the histories are not tame.
#include "server/sim/world.h"

#include <spdlog/spdlog.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::server::sim {
namespace {

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

TEST(WorldTest, HistoriesHoldWhatTheyShould) {
  spdlog::set_level(spdlog::level::off);
  int coordinators = 0, repeated = 0, acknowledged = 0, seen = 0, unknown = 0, packed = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    WorldOptions options;
    options.seed = seed;
    const Outcome outcome = Simulate(options);
    coordinators += outcome.coordinators - 1;
    acknowledged += static_cast<int>(outcome.history.acknowledged.size());
    for (const Watch& watch : outcome.history.watches) seen += static_cast<int>(watch.seen.size());
    for (const ProcessLife& p : outcome.history.processes) repeated += p.key.attempt > 1 ? 1 : 0;
    for (const ClientOp& op : outcome.history.operations)
      unknown += op.outcome == ClientOp::Outcome::kUnknown ? 1 : 0;
    for (const LogEvent& e : outcome.history.log) {
      const auto* allocated = std::get_if<AttemptAllocated>(&e.body);
      packed += allocated != nullptr && !allocated->gang.empty() ? 1 : 0;
    }
  }
  EXPECT_GT(coordinators, 30);
  EXPECT_GT(repeated, 30);
  EXPECT_GT(acknowledged, 1000);
  EXPECT_GT(seen, 1000);
  EXPECT_GT(unknown, 0);
  EXPECT_GT(packed, 10);
}

}  // namespace
}  // namespace sae::server::sim
