// The harness itself: with each of these mistakes in the core, some history of the first few must
// break the invariant that it is about.
#include <spdlog/spdlog.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/sim/world.h"

namespace sae::server::sim {
namespace {

struct Case {
  const char* name;
  PlantedBug bug;
  const char* found;  ///< what some breach says
  std::uint64_t seeds;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class PlantedTest : public ::testing::TestWithParam<Case> {};

TEST_P(PlantedTest, IsFound) {
  spdlog::set_level(spdlog::level::off);
  std::string others;
  for (std::uint64_t seed = 1; seed <= GetParam().seeds; ++seed) {
    WorldOptions options;
    options.seed = seed;
    options.planted.bug = GetParam().bug;
    for (const std::string& breach : Simulate(options).breaches) {
      if (breach.find(GetParam().found) != std::string::npos) return;
      others += "\n  seed " + std::to_string(seed) + ": " + breach;
    }
  }
  ADD_FAILURE() << "no breach with \"" << GetParam().found << "\" in " << GetParam().seeds
                << " histories" << others;
}

INSTANTIATE_TEST_SUITE_P(
    Bugs, PlantedTest,
    ::testing::Values(
        Case{"StaleReport", PlantedBug::kStaleReport, "I4: ", 400},
        Case{"ShortLease", PlantedBug::kShortLease, "I1: ", 200},
        Case{"AckBeforeCommit", PlantedBug::kAckBeforeCommit, "was acknowledged and is lost", 400},
        Case{"StartsAgain", PlantedBug::kStartsAgain, "for the second time", 1000},
        Case{"AllocatedIsFree", PlantedBug::kAllocatedIsFree, "I2: ", 400},
        Case{"ForgetsRequests", PlantedBug::kForgetsRequests, "refused because of itself", 400},
        Case{"HalfPrepared", PlantedBug::kHalfPrepared, "had held nothing for it", 400},
        Case{"QuotaIgnored", PlantedBug::kQuotaIgnored, "I11: ", 200},
        Case{"SearchForgets", PlantedBug::kSearchForgets, "I9: ", 400}),
    [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace sae::server::sim
