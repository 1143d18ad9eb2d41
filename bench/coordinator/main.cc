// coordinator_bench: the real coordinator, with its SQLite file on disk, under the load that it is
// meant for: one sweep of many trials, simulated workers over gRPC, readers of which half never
// read, submits while it works, kill -9, and a start over a long history. bench/README.md says how
// to read what it prints.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sys/resource.h>

#include "bench/coordinator/load.h"
#include "sae/base/clock.h"

namespace sae::bench {
namespace {

struct Options {
  LoadOptions load;
  std::int64_t history = 1'000'000;
  std::string folder;
  bool quick = false;
};

void Shrink(Options& options) {
  options.load.trials = 2000;
  options.load.agents = 10;
  options.load.events_per_second = 400;
  options.load.watchers = 40;
  options.load.readers = 2;
  options.load.seconds = 3;
  options.load.points_per_trial = 40;
  options.load.settle = absl::Seconds(1);
  options.history = 20'000;
}

absl::Status RunAll(const Options& options, Report& report) {
  std::filesystem::create_directories(options.folder + "/load");
  ServerProcess server(options.folder + "/load");
  Watchdog watchdog([&] {
    std::fprintf(stderr, "%s\n", server.Log().c_str());
    server.Kill();
  });
  watchdog.Begin("start the coordinator", absl::Seconds(60));
  SAE_RETURN_IF_ERROR(server.Start().status());
  const absl::Status status = Load(options.load, server, report, watchdog).Run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", server.Log().c_str());
  SAE_RETURN_IF_ERROR(status);
  server.Kill();
  if (options.history == 0) return absl::OkStatus();
  return RunHistory(options.folder + "/history", options.load.trials, options.history, report,
                    watchdog);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Loads a real coordinator and prints its latencies, memory and starts.",
               "coordinator_bench"};
  app.footer(
      "Examples:\n  coordinator_bench\n  coordinator_bench --quick\n"
      "  coordinator_bench --trials 20000 --seconds 10 --history 0");
  LoadOptions& load = options.load;
  app.add_option("--trials", load.trials, "In one sweep")->capture_default_str();
  app.add_option("--agents", load.agents, "Simulated workers, of 4 slots")->capture_default_str();
  app.add_option("--events", load.events_per_second, "Points a second, of all agents")
      ->capture_default_str();
  app.add_option("--points", load.points_per_trial, "Of a trial, half as many to half more")
      ->capture_default_str();
  app.add_option("--watchers", load.watchers, "Readers with a filter; half never read")
      ->capture_default_str();
  app.add_option("--readers", load.readers, "Readers of everything")->capture_default_str();
  app.add_option("--seconds", load.seconds, "Of measuring")->capture_default_str();
  app.add_option("--history", options.history, "Events to start over; 0 = leave that out")
      ->capture_default_str();
  app.add_option("--folder", options.folder, "For the databases; default a temporary one");
  app.add_flag("--quick", options.quick,
               "Small, under 20 s; fails when a count or a bound of memory is wrong");
  CLI11_PARSE(app, argc, argv);
  if (options.quick) Shrink(options);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  const bool own = options.folder.empty();
  if (own) {
    std::string folder = std::filesystem::temp_directory_path() / "coordinator_bench_XXXXXX";
    options.folder = ::mkdtemp(folder.data());
  }
  Report report;
  const absl::Status status = RunAll(options, report);
  if (own) std::filesystem::remove_all(options.folder);
  if (!status.ok()) report.Check(false, Message(status));
  for (const std::string& problem : report.problems())
    std::fprintf(stderr, "coordinator_bench: %s\n", problem.c_str());
  return report.problems().empty() ? 0 : 1;
}

}  // namespace
}  // namespace sae::bench

int main(int argc, char** argv) { return sae::bench::Main(argc, argv); }
