#include "server/service/list_handlers.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"

#include "sae/base/ids.h"
#include "server/service/convert.h"
#include "server/service/list_filter.h"
#include "server/service/list_page.h"
#include "server/service/lookup.h"
#include "server/service/pareto.h"

namespace sae::server {
namespace {

constexpr char kParameters[] = "parameters.";
constexpr char kLabels[] = "labels.";
constexpr char kMetrics[] = "metrics.";

std::string Unquoted(const std::string& json) {
  const bool quoted = json.size() >= 2 && json.front() == '"';
  return quoted ? json.substr(1, json.size() - 2) : json;
}

std::optional<std::string> SweepField(const SweepRecord& sweep, const std::string& field) {
  if (field == "state") return ToString(sweep.state);
  if (field == "owner") return sweep.owner;
  if (field == "queue") return sweep.spec.queue.empty() ? "default" : sweep.spec.queue;
  if (field == "name") return sweep.name;
  if (field == "priority") return absl::StrCat(sweep.spec.priority);
  const auto it = sweep.spec.labels.find(field.substr(sizeof(kLabels) - 1));
  if (it == sweep.spec.labels.end()) return std::nullopt;
  return it->second;
}

std::optional<std::string> TrialField(const TrialRecord& trial, const std::string& field) {
  if (field == "state") return ToString(trial.state);
  if (field == "failure_class") return ToString(trial.failure_class);
  if (field == "name") return TrialNameOf(trial.index);
  if (field == "reason") return trial.reason;
  const std::string path = field.substr(sizeof(kParameters) - 1);
  for (const auto& [assigned, value] : trial.assignments) {
    if (assigned == path) return Unquoted(value);
  }
  return std::nullopt;
}

/// A state or class that is none would match nothing, silently.
absl::Status CheckWords(const Filter& filter, bool trials) {
  for (const FilterTerm& term : filter) {
    if (term.op == FilterTerm::Op::kHas) continue;
    absl::Status status;
    if (term.field == "state" && trials) status = ParseTrialState(term.value).status();
    if (term.field == "state" && !trials) status = ParseSweepState(term.value).status();
    if (term.field == "failure_class") status = ParseFailureClass(term.value).status();
    if (!status.ok()) return Annotate(status, "filter");
  }
  return absl::OkStatus();
}

absl::StatusOr<Filter> TrialFilter(const std::string& text) {
  SAE_ASSIGN_OR_RETURN(
      Filter filter, ParseFilter(text, {"state", "failure_class", "name", "reason", kParameters}));
  SAE_RETURN_IF_ERROR(CheckWords(filter, true));
  return filter;
}

bool Picks(const Filter& filter, const TrialRecord& trial) {
  return Matches(filter, [&](const std::string& field) { return TrialField(trial, field); });
}

/// Place of a trial in an order by a metric: what is missing or not finite comes last.
absl::StatusOr<Place> MetricPlace(Core& core, const SweepRecord& sweep, const TrialRecord& trial,
                                  const std::string& metric) {
  Place place{false, "", trial.index, TrialNameOf(trial.index)};
  if (trial.attempts.empty()) return place;
  SAE_ASSIGN_OR_RETURN(const Progress progress, core.ProgressOf(sweep, trial));
  const auto it = progress.metrics.find(metric);
  if (it == progress.metrics.end() || !std::isfinite(it->second)) return place;
  place.has_key = true;
  place.key = SortKey(it->second);
  return place;
}

absl::Status CheckMetric(const std::string& metric, const std::string& where) {
  const std::vector<std::string>& known = config::Metrics();
  if (std::find(known.begin(), known.end(), metric) != known.end()) return absl::OkStatus();
  const std::string nearest = Nearest(metric, known);
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": unknown metric \"", metric, "\"",
                   nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?")));
}

/// By index: no list of all trials is made.
absl::Status ListByName(Core& core, const SweepRecord& sweep, const Filter& filter,
                        const PageRequest& page, saeloom::v1::ListTrialsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const Cursor cursor, CursorOf(page));
  const std::size_t total = sweep.trials.size();
  std::size_t at = std::min(cursor.begin, total);
  const auto next = [&] {
    while (at < total) {
      const std::size_t i = at++;
      const TrialRecord& trial = sweep.trials[page.descending ? total - 1 - i : i];
      if (Picks(filter, trial)) return &trial;
    }
    return static_cast<const TrialRecord*>(nullptr);
  };
  std::size_t taken = 0;
  while (taken < cursor.size) {
    const TrialRecord* trial = next();
    if (trial == nullptr) return absl::OkStatus();
    SAE_ASSIGN_OR_RETURN(*response.add_trials(), Describe(core, sweep, *trial));
    ++taken;
  }
  const std::size_t resume = at;
  if (next() != nullptr) response.set_next_page_token(TokenAt(resume, page));
  return absl::OkStatus();
}

absl::Status ListByMetric(Core& core, const SweepRecord& sweep, const Filter& filter,
                          const std::string& metric, const PageRequest& page,
                          saeloom::v1::ListTrialsResponse& response) {
  std::vector<Place> places;
  for (const TrialRecord& trial : sweep.trials) {
    if (!Picks(filter, trial)) continue;
    SAE_ASSIGN_OR_RETURN(Place place, MetricPlace(core, sweep, trial, metric));
    places.push_back(std::move(place));
  }
  SAE_ASSIGN_OR_RETURN(const PageResult result, PageOf(places, page));
  for (const std::size_t i : result.items) {
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(places[i].tie)];
    SAE_ASSIGN_OR_RETURN(*response.add_trials(), Describe(core, sweep, trial));
  }
  response.set_next_page_token(result.next_token);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> TrialsThatMatch(const SweepRecord& sweep,
                                                         const std::string& text) {
  SAE_ASSIGN_OR_RETURN(const Filter filter, TrialFilter(text));
  std::vector<std::string> names;
  for (const TrialRecord& trial : sweep.trials) {
    if (Picks(filter, trial)) names.push_back(TrialNameOf(trial.index));
  }
  return names;
}

absl::Status Handle(Core& core, const saeloom::v1::ListSweepsRequest& request,
                    saeloom::v1::ListSweepsResponse& response) {
  SAE_RETURN_IF_ERROR(CheckParent(request.parent()));
  SAE_ASSIGN_OR_RETURN(
      const Filter filter,
      ParseFilter(request.filter(), {"state", "owner", "queue", "name", "priority", kLabels}));
  SAE_RETURN_IF_ERROR(CheckWords(filter, false));
  SAE_ASSIGN_OR_RETURN(const Order order, ParseOrder(request.order_by(), {"create_time", true},
                                                     {"create_time", "name", "priority"}));
  std::vector<Place> places;
  std::vector<const SweepRecord*> sweeps;
  for (const std::string& name : core.state().sweep_order()) {
    const SweepRecord& sweep = *core.state().sweep(name);
    if (!Matches(filter, [&](const std::string& field) { return SweepField(sweep, field); }))
      continue;
    std::string key = name;
    if (order.field == "create_time") key = SortKey(absl::ToUnixNanos(sweep.created));
    if (order.field == "priority") key = SortKey(sweep.spec.priority);
    places.push_back({true, std::move(key), static_cast<std::int64_t>(places.size()), name});
    sweeps.push_back(&sweep);
  }
  SAE_ASSIGN_OR_RETURN(const PageResult page,
                       PageOf(places, {request.page_size(), request.page_token(),
                                       absl::StrCat("sweeps\n", request.filter(), "\n", order.field,
                                                    order.descending),
                                       order.descending}));
  for (const std::size_t i : page.items)
    *response.add_sweeps() = SweepToProto(*sweeps[i], core.head(sweeps[i]->name));
  response.set_next_page_token(page.next_token);
  return absl::OkStatus();
}

bool OrdersByMetric(const saeloom::v1::ListTrialsRequest& request) {
  return absl::StartsWith(request.order_by(), "objective") ||
         absl::StartsWith(request.order_by(), kMetrics);
}

absl::Status Handle(Core& core, const saeloom::v1::ListTrialsRequest& request,
                    saeloom::v1::ListTrialsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.parent(), "parent"));
  SAE_ASSIGN_OR_RETURN(const Filter filter, TrialFilter(request.filter()));
  SAE_ASSIGN_OR_RETURN(const Order order, ParseOrder(request.order_by(), {"name", false},
                                                     {"name", "objective", kMetrics}));
  PageRequest page{request.page_size(), request.page_token(),
                   absl::StrCat("trials of ", sweep->name, "\n", request.filter(), "\n",
                                order.field, order.descending),
                   order.descending};
  if (order.field == "name") return ListByName(core, *sweep, filter, page, response);
  std::string metric = sweep->spec.objective_metric;
  if (order.field == "objective") {
    page.descending = order.descending == sweep->spec.minimize;  // the best first, unless reversed
  } else {
    metric = order.field.substr(sizeof(kMetrics) - 1);
  }
  return ListByMetric(core, *sweep, filter, metric, page, response);
}

absl::Status Handle(Core& core, const saeloom::v1::ListAttemptsRequest& request,
                    saeloom::v1::ListAttemptsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.parent(), "parent"));
  saeloom::v1::Trial trial;
  AddDetails(*found.second, trial);
  response.mutable_attempts()->Swap(trial.mutable_attempts());
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::GetParetoRequest& request,
                    saeloom::v1::GetParetoResponse& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.parent(), "parent"));
  if (request.metrics().empty()) {
    return absl::InvalidArgumentError(
        "metrics: is empty; give at least one, as heldout.fvu, or -heldout.l0 where more is "
        "better");
  }
  std::vector<std::pair<std::string, double>> metrics;  // and the sign of its cost
  for (const std::string& text : request.metrics()) {
    const bool minus = absl::StartsWith(text, "-");
    metrics.emplace_back(text.substr(minus ? 1 : 0), minus ? -1.0 : 1.0);
    SAE_RETURN_IF_ERROR(CheckMetric(metrics.back().first, "metrics"));
  }
  std::vector<const TrialRecord*> trials;
  std::vector<std::vector<double>> costs;
  for (const TrialRecord& trial : sweep->trials) {
    const bool counts = trial.state != TrialState::kFailed && trial.state != TrialState::kCancelled;
    if (!counts || trial.attempts.empty()) continue;
    SAE_ASSIGN_OR_RETURN(const Progress progress, core.ProgressOf(*sweep, trial));
    if (!MeetsAll(sweep->spec.constraints, progress)) continue;
    std::vector<double> cost;
    for (const auto& [metric, sign] : metrics) {
      const auto it = progress.metrics.find(metric);
      cost.push_back(it == progress.metrics.end() ? std::nan("") : sign * it->second);
    }
    trials.push_back(&trial);
    costs.push_back(std::move(cost));
  }
  for (const std::size_t i : ParetoFront(costs)) {
    SAE_ASSIGN_OR_RETURN(*response.add_trials(), Describe(core, *sweep, *trials[i]));
  }
  return absl::OkStatus();
}

}  // namespace sae::server
