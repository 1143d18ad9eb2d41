// `saeloom trial metrics`: curves of a trial, as numbers.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>

#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using MetricsRequest = saeloom::v1::QueryMetricsRequest;
using MetricsResponse = saeloom::v1::QueryMetricsResponse;

struct MetricsOptions {
  std::string trial;
  std::vector<std::string> metrics;
  int points = 20;
  std::string sampling = "even";
  bool all_attempts = false;
  std::int64_t after_step = 0;
};

const std::map<std::string, MetricsRequest::Sampling>& Samplings() {
  static const std::map<std::string, MetricsRequest::Sampling> known = {
      {"even", MetricsRequest::SAMPLING_EVEN},
      {"mean", MetricsRequest::SAMPLING_MEAN},
      {"minmax", MetricsRequest::SAMPLING_MIN_MAX}};
  return known;
}

/// One row a step (and attempt), one column a metric.
std::string CurvesText(const MetricsResponse& response, bool attempts) {
  std::map<std::pair<std::int64_t, int>, std::map<int, double>> rows;
  std::map<std::pair<std::int64_t, int>, std::int64_t> tokens;
  std::vector<Table::Column> columns = {{"STEP", Table::Align::kRight},
                                        {"TOKENS", Table::Align::kRight}};
  if (attempts) columns.push_back({"ATTEMPT", Table::Align::kRight});
  for (int s = 0; s < response.series_size(); ++s) {
    const auto& series = response.series(s);
    columns.push_back({series.metric(), Table::Align::kRight});
    for (int i = 0; i < std::min(series.steps_size(), series.values_size()); ++i) {
      const int attempt = i < series.attempts_size() ? series.attempts(i) : 0;
      const std::pair<std::int64_t, int> key = {series.steps(i), attempts ? attempt : 0};
      rows[key][s] = series.values(i);
      if (i < series.tokens_size()) tokens[key] = series.tokens(i);
    }
  }
  if (rows.empty()) return "no points yet\n";
  Table table(std::move(columns));
  for (const auto& [key, values] : rows) {
    std::vector<std::string> cells = {absl::StrCat(key.first),
                                      Count(static_cast<double>(tokens[key]))};
    if (attempts) cells.push_back(absl::StrCat(key.second));
    for (int s = 0; s < response.series_size(); ++s) {
      const auto it = values.find(s);
      cells.push_back(it == values.end() ? "" : Number(it->second, 6));
    }
    table.Add(std::move(cells));
  }
  return table.Text();
}

absl::Status Metrics(const MetricsOptions& options, Session& session) {
  MetricsRequest request;
  SAE_ASSIGN_OR_RETURN(*request.mutable_trial(), TrialResource(options.trial));
  for (const std::string& m : options.metrics) request.add_metrics(m);
  request.set_max_points(options.points);
  request.set_sampling(Samplings().at(options.sampling));
  request.set_all_attempts(options.all_attempts);
  request.set_after_step(options.after_step);
  return Show(session, [&](Api& api) -> absl::StatusOr<std::string> {
    SAE_ASSIGN_OR_RETURN(
        const MetricsResponse response,
        api.Call(&saeloom::v1::TelemetryService::StubInterface::QueryMetrics, request));
    return session.json() ? MachineText(session, JsonArrayText(response.series()))
                          : CurvesText(response, options.all_attempts);
  });
}

}  // namespace

void AddTrialMetrics(CLI::App& noun, Session& session) {
  auto options = std::make_shared<MetricsOptions>();
  CLI::App* verb = AddVerb(
      noun, session, "metrics", "curves of a trial as numbers",
      {"% demo/0003", "% demo/0003 --metric train.loss --points 10 --sampling mean",
       "% demo/0003 --metric heldout.fvu --points 0 --all-attempts -o json", "% demo/0003 --watch"},
      {.watch = true});
  verb->add_option("trial", options->trial, "SWEEP/TRIAL")->required();
  AddRepeated(verb, "--metric", options->metrics, "this one; several times (default: all)");
  verb->add_option("--points", options->points, "of each metric at most; 0 = all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  std::vector<std::string> samplings;
  for (const auto& [name, value] : Samplings()) samplings.push_back(name);
  verb->add_option("--sampling", options->sampling,
                   "which points stand for many: even, mean, or minmax of equal ranges of tokens")
      ->check(CLI::IsMember(samplings))
      ->capture_default_str();
  verb->add_flag("--all-attempts", options->all_attempts,
                 "also what a later attempt went over again");
  verb->add_option("--after-step", options->after_step, "only later steps");
  OnRun(verb, session, [options, &session] { return Metrics(*options, session); });
}

}  // namespace sae::cli
