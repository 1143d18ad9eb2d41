#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "client/cli/results.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct ExportOptions {
  std::string sweep;
  std::string trial;
  bool best = false;
  std::string format = "saelens";
  std::string out;
  std::string golden;
};

absl::StatusOr<std::string> ChooseTrial(Api& api, const ExportOptions& options) {
  if (!options.trial.empty()) return BareName(options.trial);
  SAE_ASSIGN_OR_RETURN(const auto trials, api.ListTrials(options.sweep));
  if (options.best) {
    SAE_ASSIGN_OR_RETURN(const auto sweep, api.GetSweep(options.sweep));
    const Results results = CollectResults(sweep, trials);
    if (results.best >= 0) return results.rows[static_cast<std::size_t>(results.best)].trial;
    return absl::FailedPreconditionError(
        absl::StrCat("no trial of ", options.sweep, " that has ended well meets the objective (",
                     results.objective, "): name one with --trial"));
  }
  if (trials.size() == 1) return BareName(trials[0].name());
  return absl::InvalidArgumentError(
      absl::StrCat("which of the ", trials.size(), " trials? Give --best or --trial T"));
}

absl::StatusOr<std::string> NewestCheckpoint(Api& api, const std::string& sweep,
                                             const std::string& trial) {
  SAE_ASSIGN_OR_RETURN(const auto checkpoints, api.ListCheckpoints(sweep, trial));
  const auto newest =
      std::max_element(checkpoints.begin(), checkpoints.end(),
                       [](const auto& a, const auto& b) { return a.step() < b.step(); });
  if (newest != checkpoints.end()) return newest->path();
  return absl::FailedPreconditionError(
      absl::StrCat("trial ", sweep, "/", trial, " has no checkpoint yet"));
}

absl::Status Export(const ExportOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const std::string trial, ChooseTrial(*api, options));
  SAE_ASSIGN_OR_RETURN(const std::string checkpoint,
                       NewestCheckpoint(*api, BareName(options.sweep), trial));
  if (!session.world.env.Exists(checkpoint)) {
    return absl::NotFoundError(
        absl::StrCat("the checkpoint of ", options.sweep, "/", trial, " is at ", checkpoint,
                     " on its worker, which cannot be seen from here: run this there"));
  }
  session.Note(
      absl::StrCat("exporting ", BareName(options.sweep), "/", trial, " from ", checkpoint));
  std::vector<std::string> args = {"export",       "--checkpoint", checkpoint, "--format",
                                   options.format, "--out",        options.out};
  if (!options.golden.empty()) args.insert(args.end(), {"--golden", options.golden});
  if (session.json()) args.insert(args.end(), {"-o", "json"});
  return RunOffline(args, session.offline, session.world);
}

}  // namespace

void AddExport(CLI::App& app, Session& session) {
  auto options = std::make_shared<ExportOptions>();
  const bool alone = app.get_parent() == nullptr;
  std::vector<std::string> examples = {"% demo --best --format saelens --out sae",
                                       "% demo --trial 0003 --golden 256 --out sae"};
  if (alone) {
    examples.push_back(
        "% --checkpoint runs/demo/0003/checkpoints/step-000000000244 --format saelens --out sae");
  }
  CLI::App* verb = AddVerb(
      app, session, "export",
      alone ? "a trial's SAE (or, with --checkpoint DIR, any checkpoint) in another tool's format"
            : "a trial's SAE in another tool's format",
      examples);
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  CLI::Option* trial = verb->add_option("--trial", options->trial, "this trial");
  verb->add_flag("--best", options->best, "the best one by the sweep's objective")->excludes(trial);
  verb->add_option("--format", options->format, "format to write")->capture_default_str();
  verb->add_option("--out", options->out, "folder to write")->required();
  verb->add_option("--golden", options->golden,
                   "also write x, f and x_hat of so many held-out rows");
  OnRun(verb, session, [options, &session] { return Export(*options, session); });
}

}  // namespace sae::cli
