#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "client/cli/supervisor.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {

struct UpFlags {
  std::string dir = ".saeloom";
  int slots = 0;
  int workers = 1;
  int port = 0;
  std::string coordinator;
  std::string worker;
};

absl::Status Run(const UpFlags& options, Session& session) {
  World& world = session.world;
  UpOptions up;
  up.dir = (std::filesystem::path(world.directory) / options.dir).lexically_normal().string();
  if (up.dir.size() > 1 && up.dir.back() == '/') up.dir.pop_back();
  up.slots = options.slots;
  up.workers = options.workers;
  up.port = options.port;
  up.json = session.json();
  SAE_ASSIGN_OR_RETURN(up.coordinator, FindSibling(options.coordinator, "--coordinator-binary",
                                                   "saeloom-coordinator", world.own_directory));
  SAE_ASSIGN_OR_RETURN(up.worker, FindSibling(options.worker, "--worker-binary", "saeloom-worker",
                                              world.own_directory));
  SAE_ASSIGN_OR_RETURN(up.self, FindSibling("", "", "saeloom", world.own_directory));
  session.CatchSignals();
  if (session.signals == nullptr) return absl::InternalError("signals cannot be watched");
  return Supervisor(std::move(up), world, *session.signals).Run();
}

}  // namespace

void AddUp(CLI::App& app, Session& session) {
  auto options = std::make_shared<UpFlags>();
  CLI::App* verb = AddVerb(
      app, session, "up", "a coordinator and workers on this machine, until Ctrl-C",
      {"%", "% --dir runs/service --workers 2 --slots 2"}, {},
      "Prints SAELOOM_ADDR=HOST:PORT first and writes HOST:PORT to DIR/address. The first Ctrl-C "
      "lets running trials save a\n"
      "checkpoint, the second ends all at once; sweeps stay and go on at the next `saeloom up`.");
  verb->add_option("--dir", options->dir, "folder of its state: sweeps, runs, ports, logs")
      ->capture_default_str();
  verb->add_option(
          "--slots", options->slots,
          "slots of each worker; a trial takes one a rank (default: the GPUs, else min(cores, 8))")
      ->check(CLI::PositiveNumber);
  verb->add_option("--workers", options->workers, "how many workers")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  verb->add_option("--port", options->port,
                   "of the coordinator (default: the one it had, else a free one)")
      ->check(CLI::Range(1, 65535));
  verb->add_option("--coordinator-binary", options->coordinator,
                   "path of saeloom-coordinator; else it is looked up beside this program");
  verb->add_option("--worker-binary", options->worker, "path of saeloom-worker; likewise");
  OnRun(verb, session, [options, &session] { return Run(*options, session); });
}

}  // namespace sae::cli
