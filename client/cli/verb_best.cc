#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <ostream>

#include "client/cli/figure.h"
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
  session.world.out << (session.json() ? ResultsJson(results) : ResultsText(results));
  if (!svg.empty() && !session.json()) session.world.out << "figure: " << svg << '\n';
  session.world.out.flush();
  return absl::OkStatus();
}

}  // namespace

void AddBest(CLI::App& app, Session& session) {
  struct Options {
    std::string sweep;
    std::string svg;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "best", "the result table: Pareto front, best trial, architectures at equal L0");
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--svg", options->svg, "also write the figure FVU against L0 to this file");
  verb->footer("Examples:\n  saeloom best demo\n  saeloom best demo --svg pareto.svg");
  verb->callback(
      [options, &session] { session.status = Best(options->sweep, options->svg, session); });
}

}  // namespace sae::cli
