// saeloom-simulate: seeded histories of the coordinator under faults; prints the seeds that break
// an invariant.

#include <CLI/CLI.hpp>
#include <iostream>
#include <spdlog/spdlog.h>

#include "server/sim/statistics.h"
#include "server/sim/world.h"

namespace {

constexpr char kExamples[] = R"(Examples:
  saeloom-simulate --first 1 --count 10000        seeds 1 to 10000
  saeloom-simulate --seed 4711 --trace            one of them, told step by step
  saeloom-simulate --count 500 --statistics       how often what happened in them

Exit codes: 0 every history kept every invariant, 1 some did not, 2 usage.)";

struct Wanted {
  std::uint64_t first = 1;
  std::uint64_t count = 1;
  bool trace = false;
  bool quiet = false;
  bool statistics = false;
};

int Run(const Wanted& wanted) {
  std::int64_t events = 0, attempts = 0, coordinators = 0;
  std::uint64_t failed = 0;
  sae::server::sim::Statistics statistics;
  for (std::uint64_t seed = wanted.first; seed < wanted.first + wanted.count; ++seed) {
    sae::server::sim::WorldOptions options;
    options.seed = seed;
    if (wanted.trace) options.trace = [](const std::string& line) { std::cout << line << "\n"; };
    const sae::server::sim::Outcome outcome = Simulate(options);
    events += outcome.events;
    attempts += outcome.attempts;
    coordinators += outcome.coordinators;
    Count(outcome.history, statistics);
    if (outcome.breaches.empty()) continue;
    ++failed;
    std::cout << "seed " << seed << " breaks an invariant; replay: saeloom-simulate --seed " << seed
              << " --trace\n";
    for (const std::string& breach : outcome.breaches) std::cout << "  " << breach << "\n";
  }
  if (!wanted.quiet) {
    std::cout << wanted.count << " histories, " << failed << " with a breach; " << events
              << " events, " << attempts << " attempts, " << coordinators << " coordinators\n";
  }
  if (wanted.statistics) {
    for (const auto& [name, n] : statistics) std::cout << "  " << name << ": " << n << "\n";
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Wanted wanted;
  std::uint64_t seed = 0;
  CLI::App app{"Runs the coordinator's core through seeded histories of faults.",
               "saeloom-simulate"};
  app.footer(kExamples);
  app.add_option("--first", wanted.first, "the first seed")->capture_default_str();
  app.add_option("--count", wanted.count, "how many seeds")->capture_default_str();
  const auto* one = app.add_option("--seed", seed, "this seed alone");
  app.add_flag("--trace", wanted.trace, "tell what happens");
  app.add_flag("--quiet", wanted.quiet, "print failing seeds alone");
  app.add_flag("--statistics", wanted.statistics, "print how often what happened");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  spdlog::set_level(wanted.trace ? spdlog::level::err : spdlog::level::off);
  if (one->count() > 0) {
    wanted.first = seed;
    wanted.count = 1;
  }
  return Run(wanted);
}
