// saeloom-worker: runs trials for a coordinator.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_join.h"

#include "proto/transport/credentials.h"
#include "sae/base/exit_code.h"
#include "sae/base/ids.h"
#include "sae/base/log.h"
#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "sae/base/signals.h"
#include "worker/agent/agent.h"
#include "worker/agent/control_group.h"
#include "worker/agent/gpus.h"
#include "worker/agent/peer_service.h"
#include "worker/agent/tls_flags.h"

namespace saeloom::agent {
namespace {

constexpr int kExitUsage = 2;
constexpr absl::Duration kPoll = absl::Milliseconds(50);
/// For the last reports after the gangs are gone; a coordinator that is away must not hold the exit
/// up.
constexpr absl::Duration kFlush = absl::Seconds(3);

struct Flags {
  std::string coordinator, runs, name, metrics_listen = "127.0.0.1:0", port_file, trainer, mpirun;
  std::string device = "auto";
  int slots = 0;
  double memory_gib = 0;
  double grace_seconds = 20;
  double stop_grace_seconds = 20;
  std::string rack, peer_listen, mpi_host, mpi_interface, rsh;
  bool insecure_bind_anywhere = false;
  double rendezvous_seconds = 120;
  TlsFlags tls;
};

constexpr const char* kFooter = R"(Examples:
  saeloom-worker --coordinator 127.0.0.1:7070 --runs /data/runs
  saeloom-worker --coordinator head:7070 --runs /shared/runs --slots 4 --name gpu-box-1
  saeloom-worker --coordinator head:7070 --runs /shared/runs --tls-dir certs/gpu-box-1
  CUDA_VISIBLE_DEVICES=2,3 saeloom-worker --coordinator head:7070 --runs /shared/runs --device cuda

Gangs get GPUs of their own, of those in CUDA_VISIBLE_DEVICES where it is set. Workers do not know of each
other's: of several on one machine start each with its own.

Workers that share one runs folder may go on with each other's trials. SIGTERM or SIGINT asks the gangs to
save and yield, waits up to --grace seconds, then ends them; a second signal ends them at once.)";

int Parse(int argc, char** argv, Flags& flags, bool& done) {
  CLI::App app{"Runs trials of SAE training for a saeloom coordinator.", "saeloom-worker"};
  app.footer(kFooter);
  app.set_version_flag("--version", std::string(SAELOOM_VERSION));
  app.add_option("--coordinator", flags.coordinator, "HOST:PORT of the coordinator")->required();
  app.add_option("--runs", flags.runs,
                 "folder for trials: events, logs, checkpoints; made when missing")
      ->required();
  app.add_option("--slots", flags.slots, "ranks at once; 0 = the GPUs, else one a core, at most 8")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--device", flags.device,
                 "where gangs compute: cpu; cuda: each rank has a GPU; auto: cuda where this build "
                 "has it and no slot would be without a GPU")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--memory-gib", flags.memory_gib,
                 "memory for gangs, by which trials are packed; 0 = 80% of this machine's; with "
                 "GPUs: not known, so "
                 "that `auto` packs nothing")
      ->check(CLI::Range(0.0, 1048576.0))
      ->capture_default_str();
  app.add_option("--name", flags.name,
                 "of this worker in the runs folder; default: the host's name");
  app.add_option("--metrics-listen", flags.metrics_listen,
                 "HOST:PORT of the Prometheus page, port 0 = any free")
      ->capture_default_str();
  app.add_option("--port-file", flags.port_file, "gets {metrics, pid} as JSON once it runs");
  app.add_option("--trainer", flags.trainer, "saeloom-trainer; default: beside this program");
  app.add_option("--mpirun", flags.mpirun, "mpirun; default: from PATH");
  app.add_option("--grace", flags.grace_seconds,
                 "seconds for gangs to save when this worker is stopped")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--rack", flags.rack,
                 "where this machine stands; same-rack gangs need equal ones");
  app.add_option(
      "--peer-listen", flags.peer_listen,
      "HOST:PORT for other workers, by which gangs over several workers are started; port 0 = any "
      "free; \"\" = takes part in none");
  app.add_option("--mpi-host", flags.mpi_host,
                 "name or address by which other hosts reach this one; default: the host's name");
  app.add_option("--mpi-interface", flags.mpi_interface,
                 "interfaces for MPI between hosts, names or CIDR, with commas; default: all");
  app.add_option("--rendezvous-timeout", flags.rendezvous_seconds,
                 "seconds for ranks on several hosts to meet")
      ->check(CLI::Range(1.0, 3600.0))
      ->capture_default_str();
  app.add_flag("--insecure-bind-anywhere", flags.insecure_bind_anywhere,
               "allow --peer-listen beyond loopback without TLS: calls are neither encrypted nor "
               "authenticated, but for the gang's token");
  AddTlsFlags(app, flags.tls);
  app.add_option("--rsh", flags.rsh, "saeloom-rsh; default: beside this program");
  app.add_option("--stop-grace", flags.stop_grace_seconds,
                 "seconds to save when the coordinator stops an attempt")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    done = true;
    return app.exit(e) == 0 ? 0 : kExitUsage;
  }
  if (flags.coordinator.find(':') == std::string::npos) {
    std::cerr << "saeloom-worker: --coordinator " << flags.coordinator << " is not HOST:PORT\n";
    done = true;
    return kExitUsage;
  }
  return 0;
}

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "worker";
}

absl::StatusOr<std::string> FindBootId() {
#ifdef SAE_FAILPOINTS
  // A test says that the machine was rebooted.
  if (const char* told = std::getenv("SAELOOM_BOOT_ID"); told != nullptr) return std::string(told);
#endif
  return sae::BootId();
}

std::string SearchPath() {
  const char* path = std::getenv("PATH");
  return path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
}

/// The GPUs that gangs get; says why when there are some and gangs do without.
absl::StatusOr<std::vector<std::string>> FindGpus(const Flags& flags) {
  constexpr bool kBuilt = SAELOOM_WITH_CUDA != 0;
  std::vector<std::string> visible;
  if (flags.device != "cpu") {
    std::optional<std::string> variable;
    if (const char* value = std::getenv("CUDA_VISIBLE_DEVICES"); value != nullptr) variable = value;
    visible = VisibleGpus(DetectGpus(SearchPath()), variable);
  }
  SAE_ASSIGN_OR_RETURN(auto gpus, GpusForGangs(flags.device, flags.slots, visible, kBuilt));
  if (gpus.empty() && !visible.empty()) {
    spdlog::warn("{} GPUs here, but gangs compute on CPUs: {}", visible.size(),
                 kBuilt ? "there are more slots than GPUs"
                        : "built without SAE_WITH_CUDA; use --device cuda if the trainer has it");
  }
  return gpus;
}

/// What other workers may start here, and how they reach it; null without --peer-listen.
absl::StatusOr<std::unique_ptr<PeerService>> ListenToPeers(const Flags& flags,
                                                           const RunsFolder& runs,
                                                           Agent::Options& options) {
  if (flags.peer_listen.empty()) return nullptr;
  const sae::TlsFiles tls{
      .cert = options.gang.cert, .key = options.gang.key, .ca = options.gang.ca};
  if (tls.empty() && !flags.insecure_bind_anywhere && !sae::IsLoopbackTarget(flags.peer_listen)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--peer-listen ", flags.peer_listen,
                     " is not loopback and there is no TLS: anyone there could read a gang's token "
                     "and start programs here; give "
                     "certificates, or allow it with --insecure-bind-anywhere"));
  }
  SAE_ASSIGN_OR_RETURN(options.gang.rsh, sae::FindSibling(flags.rsh, "--rsh", "saeloom-rsh",
                                                          sae::ExecutableDirectory()));
  auto service = std::make_unique<PeerService>(
      PeerService::Options{.clock = options.clock,
                           .reservations = options.reservations,
                           .gang = options.gang,
                           .runs_id = runs.runs_id(),
                           .worker_id = runs.worker_id(),
                           .threads = options.slots.threads,
                           .trust_domain = tls.empty() ? "" : flags.tls.trust_domain});
  SAE_ASSIGN_OR_RETURN(const auto credentials,
                       sae::MakeServerCredentials(tls, sae::ClientCertificates::kRequired));
  SAE_ASSIGN_OR_RETURN(const int port, service->Start(flags.peer_listen, credentials));
  options.mpi_host = flags.mpi_host.empty() ? HostName() : flags.mpi_host;
  const std::string host = flags.peer_listen.substr(0, flags.peer_listen.rfind(':'));
  const bool anywhere = host.empty() || host == "0.0.0.0" || host == "[::]";
  options.peer_address = absl::StrCat(anywhere ? options.mpi_host : host, ":", port);
  spdlog::info("for gangs over several workers: {} ({} to MPI)", options.peer_address,
               options.mpi_host);
  return service;
}

/// Until a signal, then until all gangs have ended or a second signal.
void Serve(Agent& agent, sae::SignalWatcher& signals, sae::Clock& clock, absl::Duration grace) {
  const std::optional<int> first = signals.Wait(absl::InfiniteDuration());
  spdlog::info("{}: asking gangs to save and yield; once more ends them at once",
               first ? ::strsignal(*first) : "stopped");
  agent.BeginShutdown(grace);
  while (!agent.Quiet()) {
    if (signals.Wait(kPoll)) {
      spdlog::info("second signal: ending the gangs at once");
      agent.Stop();
      return;
    }
  }
  const absl::Duration end = clock.SinceBoot() + kFlush;
  while (!agent.Idle() && clock.SinceBoot() < end) {
    if (signals.Wait(kPoll)) break;
  }
  agent.Stop();
}

std::string Variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

/// To the coordinator, and the same certificate for peers.
absl::Status Connect(const Flags& flags, Agent::Options& options) {
  const sae::ClientCredentialOptions& tls = flags.tls.credentials;
  SAE_ASSIGN_OR_RETURN(const auto credentials, sae::MakeClientCredentials(tls, flags.coordinator));
  options.channel = MakeChannel(flags.coordinator, credentials);
  options.coordinator = flags.coordinator;
  options.advise = [tls](const std::string& message) {
    return sae::ConnectionAdvice(tls, message);
  };
  options.gang.cert = tls.tls.cert;
  options.gang.key = tls.tls.key;
  options.gang.ca = tls.tls.ca;
  return absl::OkStatus();
}

absl::Status Run(Flags& flags, sae::SignalWatcher& signals) {
  sae::Env& env = sae::RealEnv();
  sae::Clock& clock = sae::RealClock();
  SAE_RETURN_IF_ERROR(CompleteTlsFlags(Variable, clock.Now(), flags.tls));
  SAE_ASSIGN_OR_RETURN(flags.name, NameOfWorker(flags.name, flags.tls));
  sae::Random random(sae::SeedFromMachine());
  Agent::Options options;
  SAE_ASSIGN_OR_RETURN(
      options.gang.trainer,
      sae::FindSibling(flags.trainer, "--trainer", "saeloom-trainer", sae::ExecutableDirectory()));
  SAE_ASSIGN_OR_RETURN(options.gang.mpirun,
                       sae::FindInPath(flags.mpirun, "--mpirun", "mpirun", SearchPath()));
  SAE_ASSIGN_OR_RETURN(const auto runs, RunsFolder::Open({.env = &env,
                                                          .directory = flags.runs,
                                                          .name = flags.name,
                                                          .host = HostName(),
                                                          .now = clock.Now(),
                                                          .random = random}));
  random.Next();
  if (::access(options.gang.scratch_root.c_str(), W_OK) != 0)
    options.gang.scratch_root = runs->directory();
  SAE_ASSIGN_OR_RETURN(options.boot_id, FindBootId());
  Metrics metrics(SAELOOM_VERSION);
  SAE_ASSIGN_OR_RETURN(options.metrics_address, metrics.Expose(flags.metrics_listen));
  const int cores = DetectCores();
  SAE_ASSIGN_OR_RETURN(options.gpus, FindGpus(flags));
  options.slots = ChooseSlots(flags.slots, cores, static_cast<int>(options.gpus.size()));
  if (options.slots.oversubscribed) {
    spdlog::warn("{} slots on {} cores: ranks will share cores", options.slots.slots, cores);
  }
  options.memory_bytes = flags.memory_gib > 0
                             ? static_cast<std::int64_t>(flags.memory_gib * (1 << 30))
                         : options.gpus.empty() ? DetectMemory() / 5 * 4
                                                : 0;  // a GPU's is not known here
  options.env = &env;
  options.clock = &clock;
  options.runs = runs.get();
  options.metrics = &metrics;
  SAE_RETURN_IF_ERROR(Connect(flags, options));
  options.incarnation = sae::MakeUlid(clock.Now(), random);
  options.version = SAELOOM_VERSION;
  options.random_seed = random.Next();
  options.stop_grace = absl::Seconds(flags.stop_grace_seconds);
  spdlog::info("worker {}: {} slots of {} threads on {}, runs in {}, metrics on http://{}/metrics",
               runs->worker_id(), options.slots.slots, options.slots.threads,
               options.gpus.empty() ? "cpu" : "cuda " + absl::StrJoin(options.gpus, ","),
               runs->directory(), options.metrics_address);
  const std::string metrics_address = options.metrics_address;
  options.rack = flags.rack;
  Reservations reservations;
  if (!flags.peer_listen.empty()) options.reservations = &reservations;
  options.gang.cgroup_root = OwnControlGroup(env);
  options.gang.mpi_interface = flags.mpi_interface;
  options.gang.rendezvous_timeout = absl::Seconds(flags.rendezvous_seconds);
  SAE_ASSIGN_OR_RETURN(const auto peers, ListenToPeers(flags, *runs, options));
  Agent agent(std::move(options));
  SAE_RETURN_IF_ERROR(agent.Start());
  if (!flags.port_file.empty()) {
    const nlohmann::json ports = {{"metrics", metrics_address}, {"pid", ::getpid()}};
    SAE_RETURN_IF_ERROR(sae::WriteFileAtomically(env, flags.port_file, ports.dump() + "\n"));
  }
  Serve(agent, signals, clock, absl::Seconds(flags.grace_seconds));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  bool done = false;
  const int parsed = Parse(argc, argv, flags, done);
  if (done) return parsed;
  // gRPC's own log would print a second, unreadable error beside ours. Before any thread starts.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);  // NOLINT(concurrency-mt-unsafe)
  auto signals = sae::SignalWatcher::Create({SIGTERM, SIGINT, SIGHUP});
  sae::InitLogging("worker");
  absl::Status status = signals.ok() ? Run(flags, **signals) : signals.status();
  if (status.ok()) return 0;
  std::cerr << "saeloom-worker: " << status.message() << "\n";
  return sae::ExitCode(status);
}

}  // namespace
}  // namespace saeloom::agent

int main(int argc, char** argv) { return saeloom::agent::Main(argc, argv); }
