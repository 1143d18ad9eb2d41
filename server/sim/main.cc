// saeloom-simulate: seeded histories of the coordinator under faults; prints the seeds that break
// an invariant.

#include <CLI/CLI.hpp>
#include <iostream>
#include <spdlog/spdlog.h>

#include "server/sim/world.h"

namespace {

constexpr char kExamples[] = R"(Examples:
  saeloom-simulate --first 1 --count 10000        seeds 1 to 10000
  saeloom-simulate --seed 4711 --trace            one of them, told step by step

Exit codes: 0 every history kept every invariant, 1 some did not, 2 usage.)";

int Run(std::uint64_t first, std::uint64_t count, bool trace, bool quiet) {
  std::int64_t events = 0, attempts = 0, coordinators = 0;
  std::uint64_t failed = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    sae::server::sim::WorldOptions options;
    options.seed = seed;
    if (trace) options.trace = [](const std::string& line) { std::cout << line << "\n"; };
    const sae::server::sim::Outcome outcome = Simulate(options);
    events += outcome.events;
    attempts += outcome.attempts;
    coordinators += outcome.coordinators;
    if (outcome.breaches.empty()) continue;
    ++failed;
    std::cout << "seed " << seed << " breaks an invariant; replay: saeloom-simulate --seed " << seed
              << " --trace\n";
    for (const std::string& breach : outcome.breaches) std::cout << "  " << breach << "\n";
  }
  if (!quiet) {
    std::cout << count << " histories, " << failed << " with a breach; " << events << " events, "
              << attempts << " attempts, " << coordinators << " coordinators\n";
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t first = 1, count = 1, seed = 0;
  bool trace = false, quiet = false;
  CLI::App app{"Runs the coordinator's core through seeded histories of faults.",
               "saeloom-simulate"};
  app.footer(kExamples);
  app.add_option("--first", first, "the first seed")->capture_default_str();
  app.add_option("--count", count, "how many seeds")->capture_default_str();
  const auto* one = app.add_option("--seed", seed, "this seed alone");
  app.add_flag("--trace", trace, "tell what happens");
  app.add_flag("--quiet", quiet, "print failing seeds alone");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  spdlog::set_level(trace ? spdlog::level::err : spdlog::level::off);
  if (one->count() > 0) {
    first = seed;
    count = 1;
  }
  return Run(first, count, trace, quiet);
}
