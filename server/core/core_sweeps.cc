// What people ask of the core.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"
#include "server/core/core.h"

namespace sae::server {
namespace {

constexpr char kCreate[] = "CreateSweep";
constexpr char kRetry[] = "RetryTrials";

absl::Status OtherMethod(const UsedRequest& used, const char* method) {
  return absl::InvalidArgumentError(absl::StrCat("request_id: \"", used.id, "\" was used for ",
                                                 used.method, ", not for ", method,
                                                 "; use a new id for a new request"));
}

absl::Status NoSweep(const std::string& sweep) {
  return absl::NotFoundError(absl::StrCat("no sweep \"", sweep, "\""));
}

}  // namespace

absl::StatusOr<std::optional<std::string>> Core::SweepOfRequest(const std::string& request_id) {
  if (request_id.empty()) return std::nullopt;
  SAE_ASSIGN_OR_RETURN(const std::optional<UsedRequest> used, store_.FindRequest(request_id));
  if (!used) return std::nullopt;
  if (used->method != kCreate) return OtherMethod(*used, kCreate);
  return used->sweep;
}

absl::Status Core::CreateSweep(const PreparedSweep& prepared, const std::string& request_id) {
  const std::string& name = prepared.spec.name;
  SAE_ASSIGN_OR_RETURN(const std::optional<std::string> made, SweepOfRequest(request_id));
  if (made) return absl::OkStatus();
  if (state_.sweep(name) != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat(
        "name: a sweep \"", name, "\" exists; choose another name (names are never used twice)"));
  }
  Transaction transaction;
  Add(transaction, name, "", prepared.event);
  if (!request_id.empty()) transaction.requests.push_back({request_id, kCreate, name, ""});
  return Commit(std::move(transaction));
}

absl::Status Core::CancelSweep(const std::string& name) {
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (sweep->state == SweepState::kCancelled || sweep->cancel_requested) return absl::OkStatus();
  if (HasEnded(sweep->state)) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep \"", name, "\" has ended: ", ToString(sweep->state)));
  }
  Transaction transaction;
  Add(transaction, name, "", CancelRequested{});
  for (const TrialRecord& trial : sweep->trials) {
    const std::string trial_name = TrialNameOf(trial.index);
    const AttemptRecord* live = trial.live_attempt();
    if (live == nullptr && !HasEnded(trial.state))
      Add(transaction, name, trial_name, TrialCancelled{});
    if (live == nullptr || !unsent_.contains({name, trial_name, live->number})) continue;
    // No worker has heard of this attempt.
    AttemptEnded ended;
    ended.attempt = live->number;
    ended.outcome = "cancelled";
    ended.reason = "cancelled";
    ended.next = TrialState::kCancelled;
    Add(transaction, name, trial_name, std::move(ended));
  }
  EndSweeps(transaction);
  return Commit(std::move(transaction));
}

absl::StatusOr<std::vector<std::string>> Core::RetryTrials(const std::string& name,
                                                           const std::vector<std::string>& wanted,
                                                           const std::string& request_id) {
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (!request_id.empty()) {
    SAE_ASSIGN_OR_RETURN(const std::optional<UsedRequest> used, store_.FindRequest(request_id));
    if (used && (used->method != kRetry || used->sweep != name)) return OtherMethod(*used, kRetry);
    if (used)
      return std::vector<std::string>(absl::StrSplit(used->response, ',', absl::SkipEmpty()));
  }
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
  if (!request_id.empty())
    transaction.requests.push_back({request_id, kRetry, name, absl::StrJoin(names, ",")});
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
