#include "server/app.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <prometheus/exposer.h>

#include "sae/base/env.h"
#include "sae/base/exit_code.h"
#include "sae/base/log.h"
#include "sae/base/signals.h"
#include "server/app_security.h"
#include "server/auth/bootstrap.h"
#include "server/metrics/live_trials.h"
#include "server/metrics/metrics.h"
#include "server/service/event_logger.h"
#include "server/service/server.h"
#include "server/store/sqlite_store.h"
#ifdef SAE_FAULTY_STORE
#include "server/testing/faulty_vfs.h"
#endif

namespace sae::server {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr char kExamples[] =
    R"(Examples:
  saeloom-coordinator --data runs/coordinator
  saeloom-coordinator --data DIR --listen 127.0.0.1:7411 --metrics-listen 127.0.0.1:7412
  saeloom-coordinator --data DIR --listen 127.0.0.1:0 --port-file DIR/ports.json   a free port, told in the file
  saeloom-coordinator --data DIR --listen 0.0.0.0:7411 --tls-dir certs/coordinator   people show tokens; the first
                                                                      is in DIR/admin.token

DIR/coordinator.db is the event log; the same --data goes on with the same sweeps. SIGTERM and SIGINT stop
it; workers and trials run on and come back to the next start.
Exit codes: 0 ok, 2 usage, 3 not found, 4 permission, 5 in use, taken over, or a database that is not ours or newer, 1 all else.)";

struct Flags {
  std::string listen = "127.0.0.1:0";
  std::string metrics_listen = "127.0.0.1:0";
  std::string data;
  std::string port_file;
  std::string lease = "15s";
  std::string heartbeat = "3s";
  std::string retry_delay = "1s";
  std::string keep_telemetry;
  std::string log_level;
  int live_trial_metrics = 0;
  bool insecure_bind_anywhere = false;
  SecurityFlags security;
};

absl::StatusOr<absl::Duration> ParsePositive(const std::string& text, const std::string& flag) {
  absl::Duration value;
  if (!absl::ParseDuration(text, &value) || value <= absl::ZeroDuration() ||
      value > absl::Hours(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": \"", text, "\" is not a time up to an hour, as 15s or 500ms"));
  }
  return value;
}

absl::StatusOr<CoreOptions> ToCoreOptions(const Flags& flags) {
  CoreOptions options;
  options.version = kVersion;
  SAE_ASSIGN_OR_RETURN(options.lease, ParsePositive(flags.lease, "--lease"));
  SAE_ASSIGN_OR_RETURN(options.heartbeat, ParsePositive(flags.heartbeat, "--heartbeat"));
  SAE_ASSIGN_OR_RETURN(options.retry.first_delay,
                       ParsePositive(flags.retry_delay, "--retry-delay"));
  if (options.heartbeat * 3 > options.lease) {
    return absl::InvalidArgumentError(absl::StrCat("--heartbeat: ", flags.heartbeat,
                                                   " is more than a third of --lease ", flags.lease,
                                                   "; two lost heartbeats would end every trial"));
  }
  options.lease_margin = options.lease / 5;
  if (!flags.keep_telemetry.empty() &&
      (!absl::ParseDuration(flags.keep_telemetry, &options.keep_telemetry) ||
       options.keep_telemetry < absl::ZeroDuration())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--keep-telemetry: \"", flags.keep_telemetry, "\" is not a time, as 720h"));
  }
  return options;
}

absl::StatusOr<std::unique_ptr<prometheus::Exposer>> Expose(const std::string& address) {
  try {
    return std::make_unique<prometheus::Exposer>(address, 2);
  } catch (const std::exception& e) {
    return absl::FailedPreconditionError(
        absl::StrCat("--metrics-listen: cannot bind ", address, ": ", e.what(),
                     "; is the address in use? Give another port, or :0"));
  }
}

absl::Status TellPorts(const Flags& flags, const std::string& listen, const std::string& metrics) {
  std::cout << "SAELOOM_ADDR=" << listen << "\nmetrics http://" << metrics << "/metrics"
            << std::endl;
  if (flags.port_file.empty()) return absl::OkStatus();
  const nlohmann::json ports = {{"listen", listen}, {"metrics", metrics}, {"pid", ::getpid()}};
  return WriteFileAtomically(RealEnv(), flags.port_file, ports.dump() + "\n");
}

/// A connection a reader: as many as the machine lets us have.
void RaiseFileLimit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0)
    spdlog::warn("cannot raise the limit of open files: readers beyond it are refused");
}

absl::Status Serve(const Flags& flags, SignalWatcher& signals) {
  SAE_ASSIGN_OR_RETURN(const CoreOptions core_options, ToCoreOptions(flags));
  ServerOptions server_options;
  server_options.listen = flags.listen;
  server_options.insecure_bind_anywhere = flags.insecure_bind_anywhere;
  SAE_RETURN_IF_ERROR(ApplySecurityFlags(flags.security, server_options));
  SAE_RETURN_IF_ERROR(CheckTlsFiles(RealEnv(), server_options.tls, RealClock().Now()));
  SAE_RETURN_IF_ERROR(CheckListenAddress(
      flags.listen, flags.insecure_bind_anywhere || !server_options.tls.empty(), "--listen"));
  SAE_RETURN_IF_ERROR(
      CheckListenAddress(flags.metrics_listen, flags.insecure_bind_anywhere, "--metrics-listen"));
  SAE_RETURN_IF_ERROR(RealEnv().MakeDirectories(flags.data));
  SAE_RETURN_IF_ERROR(MakePrivateFile(flags.data + "/coordinator.db"));  // it holds tokens' hashes
  std::string vfs;
#ifdef SAE_FAULTY_STORE
  // For tests of whole processes: the file says how the disk fails.
  std::unique_ptr<testing::FaultyVfs> faulty;
  if (const char* control = std::getenv("SAELOOM_STORE_FAULTS"); control != nullptr) {
    faulty = std::make_unique<testing::FaultyVfs>("faulty");
    faulty->FollowFile(control);
    vfs = faulty->name();
  }
#endif
  SAE_ASSIGN_OR_RETURN(auto store, SqliteStore::Open(flags.data + "/coordinator.db", vfs));
  if (!flags.security.create_admin_token.empty())
    return CreateAdminTokenOnly(*store, flags.security.create_admin_token, RealClock().Now());
  Coordinator::Options options{core_options};
  absl::Status taken_over;  // written before the signal that ends the wait below
  options.on_taken_over = [&taken_over](const absl::Status& status) {
    taken_over = status;
    ::kill(::getpid(), SIGTERM);
  };
  SAE_ASSIGN_OR_RETURN(const auto coordinator,
                       Coordinator::Start(options, RealClock(), std::move(store)));

  const auto registry = std::make_shared<prometheus::Registry>();  // the exposer holds it weakly
  Metrics metrics(*registry, kVersion);
  LiveTrialMetrics live_trials(*registry, flags.live_trial_metrics);
  EventLogger logger;
  coordinator->Post([&metrics, &live_trials, &logger](Core& core) {
    core.AddObserver(&metrics);
    live_trials.Begin(core.state());
    core.AddObserver(&live_trials);
    core.AddObserver(&logger);
  });
  if (!server_options.tls.empty()) {
    SAE_RETURN_IF_ERROR(EnsureAdminToken(*coordinator, flags.data));
  }
  SAE_ASSIGN_OR_RETURN(const auto server, Server::Start(server_options, *coordinator, &metrics));
  coordinator->AddHook([&](Core& core) {
    metrics.Update(core, coordinator->store(), server->hubs().watch.stats(),
                   RealClock().SinceBoot());
  });
  SAE_ASSIGN_OR_RETURN(const auto exposer, Expose(flags.metrics_listen));
  exposer->RegisterCollectable(registry);

  const std::string host = flags.metrics_listen.substr(0, flags.metrics_listen.rfind(':'));
  const std::string metrics_address = absl::StrCat(host, ":", exposer->GetListeningPorts().at(0));
  SAE_RETURN_IF_ERROR(TellPorts(flags, server->address(), metrics_address));
  coordinator->Post([&](Core& core) {
    spdlog::info("listening on {}, epoch {}, {} sweeps in {}", server->address(), core.epoch(),
                 core.state().sweep_order().size(), flags.data);
  });
  const std::optional<int> signal = signals.Wait(absl::InfiniteDuration());
  spdlog::info("stopping on signal {}", signal.value_or(0));
  server->Stop(absl::Seconds(5));
  return taken_over;  // its thread has ended
}

}  // namespace

int CoordinatorMain(int argc, char** argv) {
  Flags flags;
  CLI::App app{
      "Saeloom's coordinator: takes sweeps over gRPC and schedules their trials onto workers.",
      "saeloom-coordinator"};
  app.set_version_flag("--version", std::string("saeloom-coordinator ") + kVersion);
  app.footer(kExamples);
  app.add_option("--data", flags.data, "Folder of the event log; made when missing")->required();
  app.add_option("--listen", flags.listen, "HOST:PORT of the gRPC services; port 0 = any free one")
      ->capture_default_str();
  app.add_option("--metrics-listen", flags.metrics_listen, "HOST:PORT of /metrics")
      ->capture_default_str();
  app.add_option("--live-trial-metrics", flags.live_trial_metrics,
                 "So many running trials have their loss, L0, dead latents, speed and straggler "
                 "score in /metrics; 0 = none")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  app.add_option("--port-file", flags.port_file,
                 "Write the addresses there as JSON {listen, metrics, pid}");
  app.add_option("--lease", flags.lease, "A worker that is silent this long has lost its attempts")
      ->capture_default_str();
  app.add_option("--heartbeat", flags.heartbeat, "How often workers report")->capture_default_str();
  app.add_option("--retry-delay", flags.retry_delay, "Wait before the second attempt; doubles")
      ->capture_default_str();
  app.add_option("--keep-telemetry", flags.keep_telemetry,
                 "Delete points of sweeps that ended longer ago, as 720h, but each trial's newest; "
                 "default: keep all");
  app.add_option("--log-level", flags.log_level,
                 "debug, info, warn or error; default $SAELOOM_LOG or info");
  app.add_flag("--insecure-bind-anywhere", flags.insecure_bind_anywhere,
               "Allow --listen beyond loopback without TLS, where calls are neither encrypted nor "
               "authenticated, and --metrics-listen, whose pages never are");
  AddSecurityFlags(app, flags.security);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  // gRPC's own log would print a second, unreadable error beside ours. Before any thread starts.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);  // NOLINT(concurrency-mt-unsafe)
  InitLogging("coordinator", flags.log_level);
  // Before any thread starts, so that all inherit the mask.
  const auto signals = SignalWatcher::Create({SIGTERM, SIGINT});
  RaiseFileLimit();
  absl::Status status = signals.status();
  if (status.ok()) status = Serve(flags, **signals);
  if (!status.ok()) std::cerr << "saeloom-coordinator: " << Message(status) << "\n";
  return ExitCode(status);
}

}  // namespace sae::server
