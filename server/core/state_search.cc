#include "server/core/state_search.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "sae/config/search_rungs.h"
#include "server/core/state_lifecycle.h"

namespace sae::server {
namespace {
using search::Input;

search::Action ActionOf(const std::string& word) {
  for (const auto action :
       {search::Action::kStop, search::Action::kPause, search::Action::kPromote})
    if (word == search::ToString(action)) return action;
  return search::Action::kContinue;
}

std::optional<Input::Kind> EndKind(const AttemptEnded& ended) {
  switch (ended.next) {
    case TrialState::kSucceeded:
    case TrialState::kStoppedEarly:
      return Input::Kind::kDone;
    case TrialState::kCancelled:
      return Input::Kind::kCancelled;
    case TrialState::kFailed:
      return ended.failure_class == FailureClass::kInvalidConfig ? Input::Kind::kInvalid
                                                                 : Input::Kind::kFailed;
    default:
      return std::nullopt;  // it goes on later
  }
}

std::optional<Input::Kind> KindOf(const LogEvent& event) {
  if (std::holds_alternative<SearchReport>(event.body)) return Input::Kind::kReport;
  if (std::holds_alternative<TrialResumed>(event.body)) return Input::Kind::kResumed;
  if (std::holds_alternative<TrialRetried>(event.body)) return Input::Kind::kRetried;
  if (std::holds_alternative<TrialCancelled>(event.body)) return Input::Kind::kCancelled;
  if (const auto* ended = std::get_if<AttemptEnded>(&event.body)) return EndKind(*ended);
  const auto* stop = std::get_if<StopRequested>(&event.body);
  // One that held no slots was given up, by the search or by a person.
  if (stop != nullptr && stop->attempt == 0) return Input::Kind::kDone;
  return std::nullopt;
}

/// Smaller is better.
auto Rank(const config::SweepSpec& spec, const TrialRecord& trial) {
  const double loss = trial.objective
                          ? search::LossOf(spec, trial.objective->value, trial.objective->feasible)
                          : search::kWorst;
  return std::make_tuple(loss == search::kWorst, !trial.objective.has_value(), loss, trial.index);
}

}  // namespace

std::optional<std::pair<double, int>> PlaceOf(const config::SweepSpec& spec,
                                              const TrialRecord& trial) {
  if (!trial.objective) return std::nullopt;
  const double loss = search::LossOf(spec, trial.objective->value, trial.objective->feasible);
  if (loss == search::kWorst) return std::nullopt;
  return std::make_pair(loss, trial.index);
}

std::optional<absl::Status> ApplySearch(const LogEvent& event, SweepRecord& sweep,
                                        TrialRecord& trial) {
  if (const auto* report = std::get_if<SearchReport>(&event.body)) {
    if (const auto old = PlaceOf(sweep.spec, trial)) sweep.ranked.erase(*old);
    trial.objective = ObjectiveRecord{report->value, report->feasible, report->step};
    if (const auto place = PlaceOf(sweep.spec, trial)) sweep.ranked.insert(*place);
    return absl::OkStatus();
  }
  if (const auto* decided = std::get_if<SearchDecided>(&event.body)) {
    trial.search_said = ActionOf(decided->decision);
    // A promotion names the rung that is to come.
    if (trial.search_said != search::Action::kPromote)
      trial.rung = std::max(trial.rung, decided->rung);
    return absl::OkStatus();
  }
  return std::nullopt;
}

std::optional<Input> SearchInputOf(const SweepRecord& sweep, const LogEvent& event) {
  if (!config::IsSearching(sweep.spec)) return std::nullopt;
  const std::optional<Input::Kind> kind = KindOf(event);
  if (!kind) return std::nullopt;
  Input input{*kind, TrialIndexOf(event.trial)};
  if (const auto* report = std::get_if<SearchReport>(&event.body)) {
    input.tokens = static_cast<double>(report->tokens);
    input.loss = search::LossOf(sweep.spec, report->value, report->feasible);
  }
  return input;
}

void FollowSearch(const LogEvent& event, SweepRecord& sweep) {
  const std::optional<Input> input = SearchInputOf(sweep, event);
  if (!input) return;
  sweep.search_inputs.push_back(*input);
  if (input->kind == Input::Kind::kResumed || input->kind == Input::Kind::kRetried)
    sweep.trials[static_cast<std::size_t>(input->trial)].search_said = search::Action::kContinue;
}

bool HeldBySearch(const TrialRecord& trial) {
  return trial.state == TrialState::kPaused && trial.search_said == search::Action::kPause;
}

bool CarriesObjective(const config::SweepSpec& spec, const Point& point) {
  return point.evaluation == config::IsEvaluationMetric(spec.objective_metric);
}

bool IsFeasible(const config::SweepSpec& spec, const std::map<std::string, double>& values) {
  return std::all_of(spec.constraints.begin(), spec.constraints.end(), [&](const auto& c) {
    const auto at = values.find(c.metric);
    if (at == values.end() || !std::isfinite(at->second)) return false;
    if (c.op == "<") return at->second < c.bound;
    if (c.op == "<=") return at->second <= c.bound;
    if (c.op == ">") return at->second > c.bound;
    return at->second >= c.bound;
  });
}

bool IsBetter(const config::SweepSpec& spec, const TrialRecord& a, const TrialRecord& b) {
  return Rank(spec, a) < Rank(spec, b);
}

const TrialRecord* BestTrial(const SweepRecord& sweep) {
  if (sweep.ranked.empty()) return nullptr;
  return &sweep.trials[static_cast<std::size_t>(sweep.ranked.begin()->second)];
}

std::string SearchDebugString(const SweepRecord& sweep) {
  std::string out;
  for (const Input& i : sweep.search_inputs)
    absl::StrAppend(&out, " ", static_cast<int>(i.kind), ":", i.trial, ":", i.tokens, ":", i.loss);
  return out.empty() ? out : absl::StrCat(" search", out, "\n");
}

std::string SearchDebugString(const TrialRecord& trial) {
  std::string out;
  if (trial.rung != 0 || trial.search_said != search::Action::kContinue)
    absl::StrAppend(&out, " rung=", trial.rung, " ", search::ToString(trial.search_said));
  if (trial.objective)
    absl::StrAppend(&out, " objective=", trial.objective->value,
                    trial.objective->feasible ? "" : " infeasible", "@", trial.objective->step);
  return out;
}

}  // namespace sae::server
