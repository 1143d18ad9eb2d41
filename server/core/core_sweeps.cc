// What people ask of the core.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/error_reason.h"
#include "sae/base/ids.h"
#include "server/core/core.h"
#include "server/core/no_such.h"

namespace sae::server {
namespace {

constexpr char kCreate[] = "CreateSweep";
constexpr char kFork[] = "ForkSweep";
constexpr char kRetry[] = "RetryTrials";

}  // namespace

absl::StatusOr<std::optional<std::string>> Core::SweepOfRequest(const RequestKey& request,
                                                                bool fork) {
  if (options_.planted.Is(PlantedBug::kForgetsRequests)) return std::nullopt;
  SAE_ASSIGN_OR_RETURN(const std::optional<UsedRequest> used,
                       FirstUse(store_, request, fork ? kFork : kCreate, ""));
  if (!used) return std::nullopt;
  return used->sweep;
}

absl::StatusOr<std::optional<std::string>> Core::FirstAnswer(const RequestKey& request,
                                                             const std::string& method,
                                                             const std::string& sweep) {
  return server::FirstAnswer(store_, request, method, sweep);
}

absl::Status Core::CreateSweep(const PreparedSweep& prepared, const RequestKey& request,
                               const std::string& owner) {
  const std::string& name = prepared.spec.name;
  const bool fork = !prepared.event.forked_from.empty();
  SAE_ASSIGN_OR_RETURN(const std::optional<std::string> made, SweepOfRequest(request, fork));
  if (made) return absl::OkStatus();
  const bool deleted = state_.deleted().contains(name);
  if (deleted || state_.sweep(name) != nullptr) {
    return WithReason(
        absl::AlreadyExistsError(absl::StrCat(
            "name: a sweep \"", name, deleted ? "\" was deleted, its files stay" : "\" exists",
            "; choose another name (names are never used twice)")),
        "NAME_WAS_USED");
  }
  SAE_RETURN_IF_ERROR(CheckQueue(prepared.spec.queue));
  SAE_RETURN_IF_ERROR(CheckForkSource(prepared.event.forked_from));
  Transaction transaction;
  SweepCreated created = prepared.event;
  if (!owner.empty()) created.owner = owner;
  Add(transaction, name, "", std::move(created));
  if (fork) KeepForFork(transaction, prepared.event.forked_from);
  Remember(request, fork ? kFork : kCreate, name, "", transaction);
  const absl::Status committed = Commit(std::move(transaction));
  return options_.planted.Is(PlantedBug::kAckBeforeCommit) ? absl::OkStatus() : committed;
}

absl::StatusOr<std::vector<std::string>> Core::RetryTrials(const std::string& name,
                                                           const std::vector<std::string>& wanted,
                                                           const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const std::optional<std::string> answer, FirstAnswer(request, kRetry, name));
  if (answer) return std::vector<std::string>(absl::StrSplit(*answer, ',', absl::SkipEmpty()));
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (sweep->cancel_requested && !HasEnded(sweep->state)) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep \"", name,
                     "\" is being cancelled; wait until it is CANCELLED, then retry its trials"));
  }
  std::vector<std::string> problems;
  std::set<std::string> names;
  for (const std::string& trial_name : wanted) {
    const TrialRecord* trial = sweep->trial(trial_name);
    if (trial == nullptr)
      return absl::NotFoundError(
          absl::StrCat("no trial \"", trial_name, "\" in sweep \"", name, "\""));
    if (trial->state != TrialState::kFailed && trial->state != TrialState::kCancelled) {
      problems.push_back(absl::StrCat("trial ", trial_name, " is ", ToString(trial->state)));
    }
    names.insert(trial_name);
  }
  if (!problems.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        absl::StrJoin(problems, ", "), "; only FAILED and CANCELLED trials can be retried"));
  }
  if (wanted.empty()) {
    for (const TrialRecord& trial : sweep->trials) {
      if (trial.state == TrialState::kFailed) names.insert(TrialNameOf(trial.index));
    }
  }
  Transaction transaction;
  if (!names.empty() && HasEnded(sweep->state))
    Add(transaction, name, "", SweepChanged{SweepState::kRunning});
  for (const std::string& trial : names) Add(transaction, name, trial, TrialRetried{});
  Remember(request, kRetry, name, absl::StrJoin(names, ","), transaction);
  SAE_RETURN_IF_ERROR(Commit(std::move(transaction)));
  return std::vector<std::string>(names.begin(), names.end());
}

absl::StatusOr<Progress> Core::ProgressOf(const SweepRecord& sweep, const TrialRecord& trial) {
  const TrialId id{sweep.name, trial.index};
  if (const auto it = progress_.find(id); it != progress_.end()) return it->second;
  Progress progress;
  int newest = 0;  // the newest attempt that has trained
  for (const AttemptRecord& attempt : trial.attempts)
    newest = attempt.from_step ? attempt.number : newest;
  std::map<std::string, std::int64_t> steps;
  bool training = false, evaluation = false;
  std::int64_t before = INT64_MAX;
  // Newest first, until a point of each kind of the newest attempt was seen: names do not change
  // within a trial. Those of older attempts may have been told late, so of these the step decides.
  while (!(training && evaluation)) {
    SAE_ASSIGN_OR_RETURN(
        const std::vector<LogEvent> events,
        store_.ReadPointsBackward(sweep.name, TrialNameOf(trial.index), before, 256));
    if (events.empty()) break;
    before = events.back().seq;
    for (const LogEvent& event : events) {
      const auto& point = std::get<Point>(event.body);
      if (point.step > trial.EffectiveUpTo(point.attempt)) continue;
      if (point.attempt == newest) (point.evaluation ? evaluation : training) = true;
      for (const auto& [name, value] : point.values) {
        const auto [it, added] = steps.emplace(name, point.step);
        if (!added && it->second >= point.step) continue;
        it->second = point.step;
        progress.metrics[name] = value;
      }
      if (point.step >= progress.step) {
        progress.step = point.step;
        progress.tokens = point.tokens;
      }
    }
  }
  progress_[id] = progress;
  return progress;
}

namespace {

/// One metric's curve as it is collected: by step when only the effective one is wanted.
struct Curve {
  std::map<std::int64_t, std::pair<std::int64_t, std::pair<double, int>>> by_step;
  MetricSeries raw;
};

void Append(MetricSeries& series, std::int64_t step, std::int64_t tokens, double value,
            int attempt) {
  series.steps.push_back(step);
  series.tokens.push_back(tokens);
  series.values.push_back(value);
  series.attempts.push_back(attempt);
}

/// Keeps `n` points, the first and the last among them.
MetricSeries Thin(const MetricSeries& series, int n) {
  const std::size_t size = series.steps.size();
  if (n <= 0 || size <= static_cast<std::size_t>(n)) return series;
  MetricSeries out;
  out.metric = series.metric;
  for (int i = 0; i < n; ++i) {
    const std::size_t at =
        n == 1 ? size - 1
               : static_cast<std::size_t>(i) * (size - 1) / static_cast<std::size_t>(n - 1);
    Append(out, series.steps[at], series.tokens[at], series.values[at], series.attempts[at]);
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<MetricSeries>> Core::QueryMetrics(
    const SweepRecord& sweep, const TrialRecord& trial, const std::vector<std::string>& metrics,
    int max_points, bool all) {
  std::map<std::string, Curve> curves;
  const std::set<std::string> wanted(metrics.begin(), metrics.end());
  std::int64_t after = 0;
  while (true) {
    SAE_ASSIGN_OR_RETURN(const std::vector<LogEvent> events,
                         store_.ReadPoints(sweep.name, TrialNameOf(trial.index), after, 4096));
    if (events.empty()) break;
    after = events.back().seq;
    for (const LogEvent& event : events) {
      const auto& point = std::get<Point>(event.body);
      if (!all && point.step > trial.EffectiveUpTo(point.attempt)) continue;
      for (const auto& [name, value] : point.values) {
        if (!wanted.empty() && !wanted.contains(name)) continue;
        Curve& curve = curves[name];
        if (all) {
          Append(curve.raw, point.step, point.tokens, value, point.attempt);
        } else {
          curve.by_step[point.step] = {point.tokens, {value, point.attempt}};
        }
      }
    }
  }
  std::vector<MetricSeries> out;
  for (auto& [name, curve] : curves) {
    for (const auto& [step, rest] : curve.by_step) {
      Append(curve.raw, step, rest.first, rest.second.first, rest.second.second);
    }
    curve.raw.metric = name;
    out.push_back(Thin(curve.raw, max_points));
  }
  return out;
}

absl::StatusOr<std::vector<LogEvent>> Core::Read(const std::string& sweep, std::int64_t after,
                                                 int limit) {
  return store_.Read(sweep, after, limit);
}

}  // namespace sae::server
