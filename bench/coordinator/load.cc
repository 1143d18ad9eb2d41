#include "bench/coordinator/load.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_format.h"

#include "bench/coordinator/fill.h"
#include "bench/coordinator/metrics_page.h"
#include "bench/coordinator/sweep_client.h"
#include "sae/base/clock.h"
#include "server/core/state.h"

namespace sae::bench {
namespace {
namespace v1 = saeloom::v1;

/// Since `begin`.
absl::Duration Since(absl::Duration begin) { return RealClock().SinceBoot() - begin; }

void PrintServerSide(const MetricsPage& before, const MetricsPage& after, double seconds,
                     Report& report) {
  const auto between = [&](const std::string& name, const std::string& label) {
    return after.HistogramOf(name, label).Since(before.HistogramOf(name, label));
  };
  report.Say("submit, in the coordinator",
             between("grpc_server_handling_seconds", "\"CreateSweep\"").Text());
  report.Say("report of a batch, in the coordinator",
             between("grpc_server_handling_seconds", "\"ReportBatch\"").Text());
  const Histogram commits = between("saeloom_store_commit_seconds", "");
  report.Say("commits",
             absl::StrFormat("%s, %.0f a second", commits.Text(), commits.count() / seconds));
  const Histogram syncs = between("saeloom_store_sync_seconds", "");
  report.Say("syncs", absl::StrFormat("%s, %.0f a second", syncs.Text(), syncs.count() / seconds));
  const Histogram cycles = between("saeloom_scheduler_cycle_seconds", "");
  report.Say("scheduling cycles",
             absl::StrFormat("%s, %.0f a second", cycles.Text(), cycles.count() / seconds));
}

}  // namespace

absl::Status Load::Run() {
  SAE_RETURN_IF_ERROR(SubmitLarge());
  StartAgents();
  SAE_RETURN_IF_ERROR(StartWatchers());
  watchdog_.Begin("settle", options_.settle + absl::Seconds(10));
  RealClock().SleepFor(options_.settle);
  SAE_RETURN_IF_ERROR(Measure());
  return Restart();
}

absl::Status Load::SubmitLarge() {
  watchdog_.Begin(absl::StrCat("submit a sweep of ", options_.trials, " trials"),
                  absl::Seconds(60));
  SweepClient client(server_.address());
  const auto before = static_cast<double>(server_.ResidentBytes());
  const absl::Duration begin = RealClock().SinceBoot();
  const grpc::Status status = client.Submit("large", options_.trials);
  if (!status.ok()) return absl::InternalError("submit: " + status.error_message());
  report_.Say("submit of the large sweep", Milliseconds(Since(begin)));
  RealClock().SleepFor(absl::Seconds(1));
  const auto after = static_cast<double>(server_.ResidentBytes());
  report_.Say("coordinator's memory, empty", Mebibytes(before));
  report_.Say("coordinator's memory, all trials held", Mebibytes(after));
  const double each = (after - before) / options_.trials;
  report_.Say("memory a trial", absl::StrFormat("%.0f bytes", each));
  if (options_.trials >= 10'000) report_.Check(each < 4096, "a trial takes more than 4 KB");
  return absl::OkStatus();
}

void Load::StartAgents() {
  watchdog_.Begin(absl::StrCat("start ", options_.agents, " workers"), absl::Seconds(60));
  AgentOptions agent;
  agent.address = server_.address();
  agent.points_per_second = options_.events_per_second / options_.agents;
  agent.points_per_trial = options_.points_per_trial;
  for (int i = 0; i < options_.agents; ++i) {
    agents_.push_back(std::make_unique<SimAgent>("agent-" + std::to_string(i), agent, totals_));
  }
  RealClock().SleepFor(options_.settle);
}

absl::Status Load::StartWatchers() {
  watchdog_.Begin(absl::StrCat("open ", options_.watchers + options_.readers, " streams at once"),
                  absl::Seconds(60));
  const auto before = static_cast<double>(server_.ResidentBytes());
  const absl::Duration begin = RealClock().SinceBoot();
  v1::WatchSweepRequest all;
  all.set_name("large");
  v1::Sweep sweep;
  const grpc::Status got = SweepClient(server_.address()).Get("large", sweep);
  if (!got.ok()) return absl::InternalError("get: " + got.error_message());
  all.set_after_seq(sweep.head_seq());
  v1::WatchSweepRequest request = all;
  request.add_kinds(v1::WatchSweepRequest::KIND_LIFECYCLE);
  request.add_kinds(v1::WatchSweepRequest::KIND_POINT);
  request.add_kinds(v1::WatchSweepRequest::KIND_COUNTS);
  request.set_conflate_ms(500);
  const int live = std::min(4 * options_.agents, options_.trials);
  for (int i = 0; i < options_.watchers; ++i) {
    request.clear_trials();
    for (int n = 0; n < 3; ++n) request.add_trials(server::TrialNameOf((3 * i + n) % live));
    const bool reads = i % 2 == 0;
    watchers_.push_back(std::make_unique<WatchClient>(server_.address(), request, reads,
                                                      reads ? reading_ : stuck_));
  }
  for (int i = 0; i < options_.readers; ++i)
    watchers_.push_back(std::make_unique<WatchClient>(server_.address(), all, true, all_));
  const auto wanted = static_cast<double>(watchers_.size());
  for (double open = -1; open < wanted;) {  // the watchdog ends it
    RealClock().SleepFor(absl::Milliseconds(100));
    const auto page = MetricsPage::Fetch(server_.metrics());
    if (page.ok()) open = page->Value("saeloom_watch_streams");
  }
  report_.Say("streams opened at once",
              absl::StrFormat("%.0f in %s", wanted, Milliseconds(Since(begin))));
  RealClock().SleepFor(options_.settle);  // those that do not read fill what they hold
  const auto after = static_cast<double>(server_.ResidentBytes());
  const double each = (after - before) / std::max(1.0, wanted);
  report_.Say("process memory a watcher", absl::StrFormat("%.0f KiB", each / 1024));
  if (wanted > 0)
    report_.Check(each < 256 * 1024, "a watcher takes more than 256 KiB of the process");
  return absl::OkStatus();
}

absl::Status Load::Measure() {
  watchdog_.Begin(absl::StrFormat("measure for %d s", options_.seconds),
                  absl::Seconds(options_.seconds + 60));
  SAE_ASSIGN_OR_RETURN(const MetricsPage before, MetricsPage::Fetch(server_.metrics()));
  Latencies submit;
  SweepClient client(server_.address());
  reading_.lag.Clear();
  all_.lag.Clear();
  totals_.report.Clear();
  const std::int64_t lines = totals_.lines, trials = totals_.trials, points = all_.points;
  const absl::Duration cpu = server_.CpuTime(), begin = RealClock().SinceBoot();
  const absl::Duration own = OwnCpuTime();
  for (int i = 0; Since(begin) < absl::Seconds(options_.seconds); ++i) {
    const absl::Duration at = RealClock().SinceBoot();
    const grpc::Status status = client.Submit("small-" + std::to_string(i), 2);
    report_.Check(status.ok(), "a submit failed: " + status.error_message());
    submit.Add(Since(at));
    RealClock().SleepFor(options_.submit_every);
  }
  const double seconds = absl::ToDoubleSeconds(Since(begin));
  const auto cores = [&](absl::Duration used) { return absl::ToDoubleSeconds(used) / seconds; };
  report_.Say("events in", absl::StrFormat("%.0f a second",
                                           static_cast<double>(totals_.lines - lines) / seconds));
  report_.Say(
      "trials ended",
      absl::StrFormat("%.1f a second", static_cast<double>(totals_.trials - trials) / seconds));
  report_.Say("processor time",
              absl::StrFormat("coordinator %.2f cores, load %.2f cores",
                              cores(server_.CpuTime() - cpu), cores(OwnCpuTime() - own)));
  SAE_ASSIGN_OR_RETURN(const MetricsPage after, MetricsPage::Fetch(server_.metrics()));
  report_.Say("submit", submit.Text());
  report_.Say("report of a batch", totals_.report.Text());
  PrintServerSide(before, after, seconds, report_);
  if (options_.readers > 0) {
    report_.Say("points to each unfiltered reader",
                absl::StrFormat("%.0f a second", static_cast<double>(all_.points - points) /
                                                     seconds / options_.readers));
  }
  const double streams = after.Value("saeloom_watch_streams");
  const double each = after.Value("saeloom_watch_bytes") / std::max(1.0, streams);
  report_.Say("own memory a watcher", absl::StrFormat("%.0f bytes", each));
  report_.Say("coordinator's memory, under load",
              Mebibytes(static_cast<double>(server_.ResidentBytes())));
  report_.Check(totals_.lines > lines, "no events came in");
  report_.Check(totals_.errors == 0, absl::StrCat(totals_.errors.load(), " errors of agents"));
  report_.Check(streams == static_cast<double>(watchers_.size()),
                absl::StrCat(streams, " streams are open, not ", watchers_.size()));
  report_.Check(watchers_.empty() || (each > 0 && each < 8192),
                "a watcher takes more than 8 KB of our own");
  PrintWatching();
  return absl::OkStatus();
}

void Load::PrintWatching() {
  report_.Say("lag of unfiltered readers", all_.lag.Text());
  report_.Say("lag of filtered readers (conflated, 500 ms)", reading_.lag.Text());
  report_.Say("resyncs", std::to_string(all_.resyncs + reading_.resyncs));
  report_.Check(all_.points > 0 || options_.readers == 0, "unfiltered readers got no points");
  report_.Check(reading_.counts > 0 || options_.watchers == 0, "filtered readers got no counts");
  report_.Check(stuck_.events == 0, "those that do not read have read");
  report_.Check(all_.disorder + reading_.disorder == 0, "events came out of order");
  report_.Check(all_.broken + reading_.broken + stuck_.broken == 0, "streams ended by themselves");
}

absl::Status Load::Restart() {
  watchdog_.Begin("close the streams", absl::Seconds(60));
  watchers_.clear();
  watchdog_.Begin("kill -9, and start again", absl::Seconds(90));
  const std::int64_t acknowledged = totals_.lines;
  server_.Kill();
  const absl::Duration begin = RealClock().SinceBoot();
  // At the same address: the workers come back by themselves.
  SAE_ASSIGN_OR_RETURN(const absl::Duration took, server_.Start({"--listen", server_.address()}));
  v1::Sweep sweep;
  const grpc::Status status = SweepClient(server_.address()).Get("large", sweep);
  report_.Check(status.ok(), "after kill -9: " + status.error_message());
  report_.Say("from kill -9 to serving",
              Milliseconds(Since(begin)) + ", process up in " + Milliseconds(took));
  if (options_.trials >= 10'000)  // of the small load no time counts
    report_.Check(Since(begin) < absl::Seconds(10), "more than 10 s from kill -9 to serving");
  std::int64_t trials = 0;
  for (const auto& [state, n] : sweep.trials()) trials += n;
  report_.Check(trials >= options_.trials, "trials are missing after kill -9");
  const std::int64_t lines = totals_.lines;
  while (totals_.lines < lines + options_.agents) RealClock().SleepFor(absl::Milliseconds(50));
  report_.Say("from kill -9 to events from workers", Milliseconds(Since(begin)));
  watchdog_.Begin("stop the workers", absl::Seconds(90));
  for (auto& agent : agents_) agent->AskToStop();
  agents_.clear();
  RealClock().SleepFor(absl::Seconds(1));  // the page is made anew twice a second
  SAE_ASSIGN_OR_RETURN(const MetricsPage page, MetricsPage::Fetch(server_.metrics()));
  // Each acknowledged line of a point, a start or an end is an event or more.
  const auto head = static_cast<std::int64_t>(page.Value("saeloom_event_log_head_seq"));
  report_.Check(head >= acknowledged, "acknowledged events are missing after kill -9");
  if (head > 0) {
    report_.Say(
        "database a million events",
        Mebibytes(static_cast<double>(server_.DatabaseBytes()) * 1e6 / static_cast<double>(head)));
  }
  return absl::OkStatus();
}

absl::Status RunHistory(const std::string& folder, int trials, std::int64_t events, Report& report,
                        Watchdog& watchdog) {
  watchdog.Begin(absl::StrCat("write a history of ", events, " events"), absl::Seconds(120));
  std::filesystem::create_directories(folder + "/data");
  ServerProcess server(folder);
  const absl::Duration begin = RealClock().SinceBoot();
  SAE_RETURN_IF_ERROR(FillDatabase(server.data() + "/coordinator.db", trials, events));
  report.Say("history", absl::StrFormat("%d events of %d trials, written in %s", events, trials,
                                        Milliseconds(Since(begin))));
  report.Say(
      "database a million events, history",
      Mebibytes(static_cast<double>(server.DatabaseBytes()) * 1e6 / static_cast<double>(events)));
  for (const char* name :
       {"start without a snapshot", "start with a snapshot", "start after kill -9"}) {
    watchdog.Begin(name, absl::Seconds(120));
    SAE_ASSIGN_OR_RETURN(const absl::Duration took, server.Start());
    v1::Sweep sweep;
    const grpc::Status status = SweepClient(server.address()).Get("history", sweep);
    report.Check(status.ok(), status.error_message());
    const auto done = sweep.trials().find("SUCCEEDED");
    report.Check(done != sweep.trials().end() && done->second >= trials, "trials are missing");
    report.Say(name, Milliseconds(took) + ", memory " +
                         Mebibytes(static_cast<double>(server.ResidentBytes())));
    if (std::string(name) == "start without a snapshot") {
      SAE_RETURN_IF_ERROR(server.Stop());
    } else {
      server.Kill();
    }
  }
  return absl::OkStatus();
}

}  // namespace sae::bench
