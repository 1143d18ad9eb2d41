#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>

#include "client/cli/figure.h"
#include "client/cli/print.h"
#include "client/cli/results.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {

constexpr char kSpeed[] = "tokens_per_second";

/// The speed of a trial: the median over its run, for the newest value alone says little.
void SetMedianSpeed(Api& api, saeloom::v1::Trial& trial) {
  auto values = api.QueryMetric(trial.name(), kSpeed);
  if (!values.ok() || values->empty()) return;
  const auto middle = values->begin() + static_cast<std::ptrdiff_t>(values->size() / 2);
  std::nth_element(values->begin(), middle, values->end());
  (*trial.mutable_metrics())[kSpeed] = *middle;
}

absl::Status Best(const std::string& sweep_name, const std::string& svg, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto sweep, api->GetSweep(sweep_name));
  SAE_ASSIGN_OR_RETURN(auto trials, api->ListTrials(sweep_name));
  for (saeloom::v1::Trial& t : trials) SetMedianSpeed(*api, t);
  const Results results = CollectResults(sweep, trials);
  if (!svg.empty()) {
    const std::string path = (std::filesystem::path(session.world.directory) / svg).string();
    SAE_RETURN_IF_ERROR(WriteFileAtomically(session.world.env, path, ParetoSvg(results)));
  }
  if (session.json()) {
    Print(session, MachineText(session, ResultsJson(results)));
  } else if (session.names()) {
    if (results.best >= 0) {
      Print(session,
            absl::StrCat(results.sweep, "/",
                         results.rows[static_cast<std::size_t>(results.best)].trial, "\n"));
    }
  } else {
    Print(session, ResultsText(results));
    if (!svg.empty()) Print(session, absl::StrCat("figure: ", svg, "\n"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddBest(CLI::App& app, Session& session) {
  struct Options {
    std::string sweep;
    std::string svg;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, session, "best", "the result table: Pareto front, best trial, architectures at equal L0",
      {"% demo", "% demo --svg pareto.svg", "% demo -o name"}, {.names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--svg", options->svg, "also write the figure FVU against L0 to this file");
  OnRun(verb, session, [options, &session] { return Best(options->sweep, options->svg, session); });
}

}  // namespace sae::cli
