// coordinator_bench: the real coordinator, with its SQLite file on disk, under the load that it is
// meant for: one sweep of many trials, simulated workers over gRPC, readers of which half never
// read, submits while it works, kill -9, and a start over a long history. bench/README.md says how
// to read what it prints.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sys/resource.h>

#include "absl/strings/str_format.h"
#include <grpcpp/grpcpp.h>

#include "bench/coordinator/fill.h"
#include "bench/coordinator/server_process.h"
#include "bench/coordinator/sim_agent.h"
#include "bench/coordinator/watch_client.h"
#include "proto/convert/channel_options.h"
#include "proto/convert/sweep_convert.h"
#include "sae/base/clock.h"
#include "server/core/state.h"

namespace sae::bench {
namespace {
namespace v1 = saeloom::v1;

struct Options {
  int trials = 100'000;
  int agents = 200;
  double events_per_second = 5000;
  int watchers = 1000;
  int readers = 10;
  int seconds = 30;
  int points_per_trial = 200;
  std::int64_t history = 1'000'000;
  std::string folder;
  bool quick = false;
};

std::vector<std::string> problems;

void Check(bool good, const std::string& what) {
  if (!good) problems.push_back(what);
}

void Say(const std::string& name, const std::string& value) {
  std::printf("%-44s %s\n", name.c_str(), value.c_str());
  std::fflush(stdout);
}

std::string Mebibytes(double bytes) { return absl::StrFormat("%.1f MiB", bytes / (1 << 20)); }
std::string Milliseconds(absl::Duration d) {
  return absl::StrFormat("%.0f ms", absl::ToDoubleMilliseconds(d));
}

class Client {
 public:
  explicit Client(const std::string& address)
      : sweeps_(v1::SweepService::NewStub(
            grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                      ClientChannelArguments(ChannelUse::kControl)))) {}
  grpc::Status Submit(const std::string& name, int trials) {
    v1::CreateSweepRequest request;
    const auto spec = config::ParseSweepSpec(SweepJson(name, trials));
    if (!spec.ok()) return {grpc::StatusCode::INTERNAL, Message(spec.status())};
    *request.mutable_spec() = ToProto(*spec);
    request.set_request_id("bench-" + name);
    grpc::ClientContext context;
    Limit(context);
    v1::Sweep sweep;
    return sweeps_->CreateSweep(&context, request, &sweep);
  }
  grpc::Status Get(const std::string& name, v1::Sweep& sweep) {
    v1::GetSweepRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    Limit(context);
    return sweeps_->GetSweep(&context, request, &sweep);
  }

 private:
  static void Limit(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(120));
  }
  std::unique_ptr<v1::SweepService::Stub> sweeps_;
};

/// What is under way while the load runs.
class Load {
 public:
  Load(const Options& options, ServerProcess& server) : options_(options), server_(server) {}

  absl::Status Run() {
    SAE_RETURN_IF_ERROR(SubmitLarge());
    StartAgents();
    StartWatchers();
    RealClock().SleepFor(absl::Seconds(options_.quick ? 2 : 5));
    Measure();
    return Restart();
  }

 private:
  absl::Status SubmitLarge() {
    Client client(server_.address());
    const double before = static_cast<double>(server_.ResidentBytes());
    const absl::Duration begin = RealClock().SinceBoot();
    const grpc::Status status = client.Submit("large", options_.trials);
    if (!status.ok()) return absl::InternalError("submit: " + status.error_message());
    Say("submit of the large sweep", Milliseconds(RealClock().SinceBoot() - begin));
    RealClock().SleepFor(absl::Seconds(1));
    const double after = static_cast<double>(server_.ResidentBytes());
    Say("coordinator's memory, empty", Mebibytes(before));
    Say("coordinator's memory, all trials held", Mebibytes(after));
    const double each = (after - before) / options_.trials;
    Say("memory a trial", absl::StrFormat("%.0f bytes", each));
    if (options_.trials >= 10'000) Check(each < 4096, "a trial takes more than 4 KB");
    return absl::OkStatus();
  }

  void StartAgents() {
    AgentOptions agent;
    agent.address = server_.address();
    agent.points_per_second = options_.events_per_second / options_.agents;
    agent.points_per_trial = options_.points_per_trial;
    for (int i = 0; i < options_.agents; ++i)
      agents_.push_back(std::make_unique<SimAgent>("agent-" + std::to_string(i), agent, totals_));
    RealClock().SleepFor(absl::Seconds(options_.quick ? 2 : 5));
  }

  void StartWatchers() {
    const double before = static_cast<double>(server_.ResidentBytes());
    v1::WatchSweepRequest request;
    request.set_name("large");
    request.add_kinds(v1::WatchSweepRequest::KIND_LIFECYCLE);
    request.add_kinds(v1::WatchSweepRequest::KIND_POINT);
    request.add_kinds(v1::WatchSweepRequest::KIND_COUNTS);
    request.set_conflate_ms(500);
    const int live = 4 * options_.agents;
    for (int i = 0; i < options_.watchers; ++i) {
      request.clear_trials();
      for (int n = 0; n < 3; ++n)
        request.add_trials(server::TrialNameOf((3 * i + n) % std::min(live, options_.trials)));
      const bool reads = i % 2 == 0;
      watchers_.push_back(std::make_unique<WatchClient>(server_.address(), request, reads,
                                                        reads ? reading_ : stuck_));
    }
    RealClock().SleepFor(absl::Seconds(options_.quick ? 1 : 5));
    const double after = static_cast<double>(server_.ResidentBytes());
    const double each = (after - before) / std::max(1, options_.watchers);
    Say("process memory a watcher", absl::StrFormat("%.0f KiB", each / 1024));
    Check(each < 256 * 1024, "a watcher takes more than 256 KiB of the process");
    v1::WatchSweepRequest all;
    all.set_name("large");
    v1::Sweep sweep;
    if (Client(server_.address()).Get("large", sweep).ok()) all.set_after_seq(sweep.head_seq());
    for (int i = 0; i < options_.readers; ++i)
      watchers_.push_back(std::make_unique<WatchClient>(server_.address(), all, true, all_));
  }

  void Measure() {
    Latencies submit;
    Client client(server_.address());
    reading_.lag.Clear();
    all_.lag.Clear();
    totals_.report.Clear();
    const std::int64_t lines = totals_.lines, trials = totals_.trials, points = all_.points;
    const absl::Duration cpu = server_.CpuTime(), begin = RealClock().SinceBoot();
    const auto end = begin + absl::Seconds(options_.seconds);
    for (int i = 0; RealClock().SinceBoot() < end; ++i) {
      const absl::Duration at = RealClock().SinceBoot();
      const grpc::Status status = client.Submit("small-" + std::to_string(i), 2);
      Check(status.ok(), "a submit failed: " + status.error_message());
      submit.Add(RealClock().SinceBoot() - at);
      RealClock().SleepFor(absl::Milliseconds(200));
    }
    const double seconds = absl::ToDoubleSeconds(RealClock().SinceBoot() - begin);
    const auto rate = [&](std::int64_t n) { return static_cast<double>(n) / seconds; };
    Say("events in", absl::StrFormat("%.0f a second", rate(totals_.lines - lines)));
    Say("trials ended", absl::StrFormat("%.1f a second", rate(totals_.trials - trials)));
    Say("coordinator's processor time",
        absl::StrFormat("%.2f cores", absl::ToDoubleSeconds(server_.CpuTime() - cpu) / seconds));
    Say("submit", submit.Text());
    Say("report of a batch", totals_.report.Text());
    Say("lag of unfiltered readers", all_.lag.Text());
    Say("lag of filtered readers (conflated, 500 ms)", reading_.lag.Text());
    Say("points to each unfiltered reader",
        absl::StrFormat("%.0f a second",
                        rate(all_.points - points) / std::max(1, options_.readers)));
    Say("resyncs", std::to_string(all_.resyncs + reading_.resyncs));
    const double streams = server_.MetricValue("saeloom_watch_streams");
    const double own = server_.MetricValue("saeloom_watch_bytes") / std::max(1.0, streams);
    Say("own memory a watcher", absl::StrFormat("%.0f bytes", own));
    Say("coordinator's memory, under load",
        Mebibytes(static_cast<double>(server_.ResidentBytes())));
    Check(totals_.lines > lines, "no events came in");
    Check(all_.points > 0 || options_.readers == 0, "unfiltered readers got no points");
    Check(reading_.counts > 0 || options_.watchers == 0, "filtered readers got no counts");
    Check(stuck_.events == 0, "those that do not read have read");
    Check(all_.disorder + reading_.disorder == 0, "events came out of order");
    Check(all_.broken + reading_.broken + stuck_.broken == 0, "streams ended by themselves");
    Check(totals_.errors == 0, absl::StrCat(totals_.errors.load(), " errors of agents"));
    Check(streams == options_.watchers + options_.readers,
          absl::StrCat(streams, " streams are open"));
    Check(own > 0 && own < 8192, "a watcher takes more than 8 KB of our own");
  }

  absl::Status Restart() {
    watchers_.clear();
    const std::int64_t acknowledged = totals_.lines;
    server_.Kill();
    agents_.clear();
    const absl::Duration begin = RealClock().SinceBoot();
    SAE_ASSIGN_OR_RETURN(const absl::Duration took, server_.Start());
    v1::Sweep sweep;
    const grpc::Status status = Client(server_.address()).Get("large", sweep);
    Check(status.ok(), "after kill -9: " + status.error_message());
    Say("from kill -9 to serving",
        Milliseconds(RealClock().SinceBoot() - begin) + ", process up in " + Milliseconds(took));
    std::int64_t trials = 0;
    for (const auto& [state, n] : sweep.trials()) trials += n;
    Check(trials >= options_.trials, "trials are missing after kill -9");
    RealClock().SleepFor(absl::Seconds(1));  // the page is made anew twice a second
    // Each acknowledged line of a point, a start or an end is an event or more.
    const auto head = static_cast<std::int64_t>(server_.MetricValue("saeloom_event_log_head_seq"));
    Check(head >= acknowledged, "acknowledged events are missing after kill -9");
    if (head > 0) {
      Say("database a million events", Mebibytes(static_cast<double>(server_.DatabaseBytes()) *
                                                 1e6 / static_cast<double>(head)));
    }
    return absl::OkStatus();
  }

  const Options& options_;
  ServerProcess& server_;
  AgentTotals totals_;
  WatchTotals reading_, stuck_, all_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<std::unique_ptr<WatchClient>> watchers_;
};

/// Starts over a long history: without a snapshot, with one, and after kill -9.
absl::Status RunHistory(const Options& options) {
  const std::string folder = options.folder + "/history";
  std::filesystem::create_directories(folder + "/data");
  ServerProcess server(folder);
  const absl::Duration begin = RealClock().SinceBoot();
  SAE_RETURN_IF_ERROR(
      FillDatabase(server.data() + "/coordinator.db", options.trials, options.history));
  Say("history", absl::StrFormat("%d events of %d trials, written in %s", options.history,
                                 options.trials, Milliseconds(RealClock().SinceBoot() - begin)));
  Say("database a million events, history", Mebibytes(static_cast<double>(server.DatabaseBytes()) *
                                                      1e6 / static_cast<double>(options.history)));
  for (const char* name :
       {"start without a snapshot", "start with a snapshot", "start after kill -9"}) {
    SAE_ASSIGN_OR_RETURN(const absl::Duration took, server.Start());
    v1::Sweep sweep;
    const grpc::Status status = Client(server.address()).Get("history", sweep);
    Check(status.ok(), status.error_message());
    const auto done = sweep.trials().find("SUCCEEDED");
    Check(done != sweep.trials().end() && done->second >= options.trials, "trials are missing");
    Say(name,
        Milliseconds(took) + ", memory " + Mebibytes(static_cast<double>(server.ResidentBytes())));
    if (std::string(name) == "start without a snapshot") {
      SAE_RETURN_IF_ERROR(server.Stop());
    } else {
      server.Kill();
    }
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"Loads a real coordinator and prints its latencies, memory and starts.",
               "coordinator_bench"};
  app.footer(
      "Examples:\n  coordinator_bench\n  coordinator_bench --quick\n"
      "  coordinator_bench --trials 20000 --seconds 10 --history 0");
  app.add_option("--trials", options.trials, "In one sweep")->capture_default_str();
  app.add_option("--agents", options.agents, "Simulated workers, of 4 slots")
      ->capture_default_str();
  app.add_option("--events", options.events_per_second, "Points a second, of all agents")
      ->capture_default_str();
  app.add_option("--watchers", options.watchers, "Readers with a filter; half never read")
      ->capture_default_str();
  app.add_option("--readers", options.readers, "Readers of everything")->capture_default_str();
  app.add_option("--seconds", options.seconds, "Of measuring")->capture_default_str();
  app.add_option("--history", options.history, "Events to start over; 0 = leave that out")
      ->capture_default_str();
  app.add_option("--folder", options.folder, "For the databases; default a temporary one");
  app.add_flag("--quick", options.quick,
               "Small, under 20 s; fails when a count or a bound of memory is wrong");
  CLI11_PARSE(app, argc, argv);
  if (options.quick) {
    options.trials = 2000;
    options.agents = 10;
    options.events_per_second = 400;
    options.watchers = 40;
    options.readers = 2;
    options.seconds = 3;
    options.points_per_trial = 40;
    options.history = 20'000;
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  const bool own = options.folder.empty();
  if (own) {
    std::string folder = std::filesystem::temp_directory_path() / "coordinator_bench_XXXXXX";
    options.folder = ::mkdtemp(folder.data());
  }
  absl::Status status;
  {
    std::filesystem::create_directories(options.folder + "/load");
    ServerProcess server(options.folder + "/load");
    status = server.Start().status();
    if (status.ok()) status = Load(options, server).Run();
    if (!status.ok()) std::fprintf(stderr, "%s\n", server.Log().c_str());
  }
  if (status.ok() && options.history > 0) status = RunHistory(options);
  if (own) std::filesystem::remove_all(options.folder);
  if (!status.ok()) problems.push_back(Message(status));
  for (const std::string& problem : problems)
    std::fprintf(stderr, "coordinator_bench: %s\n", problem.c_str());
  return problems.empty() ? 0 : 1;
}

}  // namespace
}  // namespace sae::bench

int main(int argc, char** argv) { return sae::bench::Main(argc, argv); }
