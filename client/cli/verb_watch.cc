#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "client/cli/exit_code.h"
#include "client/cli/verb.h"
#include "client/cli/watcher.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct WatchFlags {
  std::string sweep;
  double interval = 5;
};

absl::Status Run(const WatchFlags& options, Session& session) {
  if (!(options.interval >= 0))
    return absl::InvalidArgumentError("--interval: needs 0 or more seconds");
  session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  WatchOptions watch;
  watch.show = session.json() ? WatchOptions::Show::kJson : WatchOptions::Show::kTrials;
  watch.yaml = session.output == "yaml";
  watch.line_every = absl::Seconds(options.interval);
  SAE_ASSIGN_OR_RETURN(const WatchResult result,
                       Watch(*api, session.world, options.sweep, watch, session.signals.get()));
  if (result.interrupted) {
    session.exit_code = kExitInterrupted;
  } else if (session.wait) {
    session.exit_code = SweepExitCode(result.sweep);
  }
  return absl::OkStatus();
}

}  // namespace

void AddWatch(CLI::App& app, Session& session) {
  auto options = std::make_shared<WatchFlags>();
  CLI::App* verb = AddVerb(
      app, session, "watch", "live loss, FVU, L0, dead fraction and tokens/s of every trial",
      {"% demo", "% demo --wait -o jsonl"}, {},
      "Shows training values; ends when the sweep has ended. Ctrl-C stops the watching, never the "
      "sweep.\nWith a machine form: one event a line.");
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--interval", options->interval,
                   "without a terminal: seconds between two lines of one trial")
      ->capture_default_str();
  verb->add_flag("--wait", session.wait, "let the exit code tell how the sweep ended: 0, 10 or 11");
  OnRun(verb, session, [options, &session] { return Run(*options, session); });
}

}  // namespace sae::cli
