// Validation of a sweep's parts: axes, search, scheduling. Each problem names its field's path.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>

#include "absl/strings/str_format.h"

#include "sae/base/ids.h"
#include "sae/config/search_rungs.h"
#include "sae/config/sweep_internal.h"

namespace sae::config::internal {
namespace {

constexpr double kWhole = 9007199254740992.0;  // 2^53
constexpr std::int64_t kMostRungs = 20;
constexpr double kLongest = 7 * 86400;  ///< seconds of any duration

void CheckRange(const Parameter& p, const std::string& where, bool grid, Problems& problems) {
  const bool log = p.kind == Parameter::Kind::kLogUniform;
  if (!std::isfinite(p.min)) problems.Add(where, ".min: ", p.min, " is not finite");
  if (!std::isfinite(p.max)) problems.Add(where, ".max: ", p.max, " is not finite");
  if (p.min > p.max) problems.Add(where, ": min ", p.min, " is more than max ", p.max);
  if (!(p.step >= 0) || std::isinf(p.step))
    problems.Add(where, ".step: ", p.step, " is not 0 or more");
  if (log && !(p.min > 0))
    problems.Add(where, ".min: ", p.min, ": a logarithmic range needs min above 0");
  if (p.kind == Parameter::Kind::kIntUniform) {
    for (const auto& [key, x] :
         {std::pair{"min", p.min}, std::pair{"max", p.max}, std::pair{"step", p.step}}) {
      if (std::isfinite(x) && (x != std::nearbyint(x) || std::abs(x) > kWhole)) {
        problems.Add(where, ".", key, ": ", x, " is not a whole number below 2^53");
      }
    }
  }
  if (grid && log) {
    problems.Add(
        where,
        ": a grid cannot count a logarithmic range: list `values`, or use search: {random: ...}");
  } else if (grid && StepOf(p) == 0) {
    problems.Add(where, ".step: missing: a grid needs a step (or use search: {random: ...})");
  }
}

void CheckValues(const Parameter& p, const std::string& where, bool grid, Problems& problems) {
  if (p.values.empty()) problems.Add(where, ".values: empty: list at least one value");
  std::unordered_set<std::string> seen;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    TrialConfig scratch;
    const absl::Status s = SetField(scratch, p.path, p.values[i]);
    if (!s.ok()) problems.Add(where, ".values[", i, "]: ", Brief(Message(s)));
    if (grid && !seen.insert(p.values[i]).second)
      problems.Add(where, ".values[", i, "]: ", Brief(p.values[i]), " is there twice");
  }
}

void CheckWhen(const Parameter& p, const ParameterSet& set, std::size_t index,
               const std::string& where, Problems& problems) {
  std::set<std::string> paths;
  for (const Condition& c : p.when) {
    const std::string at = absl::StrCat(where, ".when.", Brief(c.path));
    const auto end = set.begin() + static_cast<std::ptrdiff_t>(index);
    const auto other =
        std::find_if(set.begin(), end, [&](const Parameter& q) { return q.path == c.path; });
    if (!paths.insert(c.path).second) problems.Add(at, ": is there twice");
    if (c.values.empty()) problems.Add(at, ": empty: list at least one value");
    if (other == end) {
      problems.Add(at, ": is no axis before ", p.path, " in the same map");
      continue;
    }
    for (const std::string& value : c.values) {
      if (other->kind != Parameter::Kind::kValues) continue;
      if (std::find(other->values.begin(), other->values.end(), value) == other->values.end())
        problems.Add(at, ": ", Brief(value), " is none of that axis's values");
    }
  }
}

void CheckAxis(const Parameter& p, const std::string& where, bool grid, Problems& problems) {
  const std::vector<std::string>& paths = TrialPaths();
  if (std::find(paths.begin(), paths.end(), p.path) == paths.end()) {
    return problems.Add("unknown key ", where, DidYouMean(p.path, paths));
  }
  if (p.path == "train.data_seed") {
    return problems.Add(where,
                        ": the order of data belongs to the sweep: set trial.train.data_seed");
  }
  if (p.kind == Parameter::Kind::kValues) return CheckValues(p, where, grid, problems);
  CheckRange(p, where, grid, problems);
  TrialConfig scratch;
  if (const absl::Status s =
          SetField(scratch, p.path, p.kind == Parameter::Kind::kIntUniform ? "1" : "0.5");
      !s.ok()) {
    problems.Add(where, ": a range of numbers does not fit: ", Message(s));
  }
}

void CheckTimes(const SweepSpec& spec, const std::string& where, Problems& problems) {
  const AshaOptions& a = spec.asha;
  const double tokens = spec.trial.train.tokens;
  for (const ParameterSet& set : spec.parameters) {
    for (const Parameter& p : set) {
      if (p.path == "train.tokens")
        problems.Add(
            "parameters.train.tokens: rungs are shares of one length: set "
            "trial.train.tokens");
    }
  }
  for (const auto& [key, x] :
       {std::pair{"maxTime", a.max_time}, std::pair{"minTime", a.min_time}}) {
    if (!(x >= 0) || std::isinf(x))
      problems.Add(where, ".", key, ": ", x, " is not a number of tokens, 0 or more");
  }
  if (a.max_time > tokens)
    problems.Add(where, ".maxTime: ", a.max_time, " is more than trial.train.tokens ", tokens,
                 ": no trial gets there");
  const double top = a.max_time > 0 ? a.max_time : tokens;
  if (a.min_time > top)
    problems.Add(where, ".minTime: ", a.min_time, " is more than the last rung's ", top);
}

void CheckRungs(const SweepSpec& spec, const std::string& where, Problems& problems) {
  const AshaOptions& a = spec.asha;
  if (a.mode != "stop" && a.mode != "promote")
    problems.Add(where, ".mode: '", Brief(a.mode), "' is not stop or promote");
  if (a.eta != 0 && (a.eta < 2 || a.eta > 1000))
    problems.Add(where, ".eta: ", a.eta, " is not in [2, 1000]: 0 means 4");
  if (a.max_rungs < 0 || a.max_rungs > kMostRungs)
    problems.Add(where, ".maxRungs: ", a.max_rungs, " is not in [1, ", kMostRungs, "]: 0 means 5");
  if (a.brackets < 0 || a.brackets > kMostRungs)
    problems.Add(where, ".brackets: ", a.brackets, " is not in [1, ", kMostRungs,
                 "]: 0 means the default");
  CheckTimes(spec, where, problems);
  const std::vector<double> rungs = RungTokens(spec);
  const auto& every = spec.trial.train.eval_every_tokens;
  if (problems.empty() && every && *every > rungs.front() &&
      IsEvaluationMetric(spec.objective_metric)) {
    problems.Add("trial.train.eval_every_tokens: ", *every, " is more than the first rung's ",
                 rungs.front(), " tokens, which would be passed unseen: leave it auto, or raise ",
                 where, ".minTime");
  }
}

void CheckMedian(const SweepSpec& spec, Problems& problems) {
  const MedianStopOptions& m = spec.median_stop;
  if (!(m.grace_tokens >= 0) || std::isinf(m.grace_tokens))
    problems.Add("search.medianStop.graceTokens: ", m.grace_tokens, " is not 0 or more");
  if (m.min_trials < 1 || m.min_trials > kMaxPoints)
    problems.Add("search.medianStop.minTrials: ", m.min_trials, " is not in [1, 1e6]");
}

/// What a search compares must come in one piece.
void CheckSearched(const SweepSpec& spec, Problems& problems) {
  const bool evaluation = IsEvaluationMetric(spec.objective_metric);
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    if (IsEvaluationMetric(spec.constraints[i].metric) == evaluation) continue;
    problems.Add("objective.constraints[", i, "]: ", spec.constraints[i].metric,
                 " is not measured together with ", spec.objective_metric,
                 ": a search needs both at once: take both from heldout.* or both from train.*");
  }
  if (spec.pack > 1)
    problems.Add("pack: ", spec.pack,
                 ": a search ends trials one by one: leave pack auto, or write off");
}

void CheckLabels(const SweepSpec& spec, Problems& problems) {
  if (spec.labels.size() > 100)
    problems.Add("labels: ", spec.labels.size(), " entries, at most 100");
  for (const auto& [key, value] : spec.labels) {
    const bool name =
        !key.empty() && key.size() <= 63 && std::isalnum(static_cast<unsigned char>(key[0])) &&
        std::all_of(key.begin(), key.end(), [](char c) {
          return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
        });
    if (!name) {
      problems.Add("labels: '", Brief(key),
                   "' is not 1 to 63 of letters, digits, '.', '_' and '-', beginning with a "
                   "letter or digit");
    }
    if (value.size() > 255 || !IsCleanText(value))
      problems.Add("labels.", Brief(key), ": '", Brief(value),
                   "' is not up to 255 bytes of UTF-8 without control characters");
  }
}

void CheckRetry(const SweepSpec& spec, Problems& problems) {
  if (spec.retry.size() > 100) problems.Add("retry: ", spec.retry.size(), " rules, at most 100");
  const std::vector<std::string>& known = FailureClassNames();
  std::set<std::string> seen;
  for (std::size_t i = 0; i < spec.retry.size(); ++i) {
    const RetryRule& rule = spec.retry[i];
    const std::string where = absl::StrCat("retry[", i, "]");
    if (rule.on.empty()) problems.Add(where, ".on: empty: list failure classes");
    for (const std::string& word : rule.on) {
      if (std::find(known.begin(), known.end(), word) == known.end()) {
        problems.Add(where, ".on: unknown failure class '", Brief(word), "'",
                     DidYouMean(word, known));
      } else if (!seen.insert(word).second) {
        problems.Add(where, ".on: ", word, " has a rule before, which stands over this one");
      }
    }
    if (rule.limit < -1 || rule.limit > 1'000'000)
      problems.Add(where, ".limit: ", rule.limit, " is not 0 to 1e6, or unlimited");
  }
}

}  // namespace

void CheckParameters(const SweepSpec& spec, Problems& problems) {
  const bool grid = spec.search == "grid";
  Problems own;
  for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
    const std::string name =
        spec.parameters.size() == 1 ? "parameters" : absl::StrCat("parameters[", i, "]");
    std::unordered_set<std::string> paths;
    const ParameterSet& set = spec.parameters[i];
    for (std::size_t k = 0; k < set.size(); ++k) {
      const std::string where = absl::StrCat(name, ".", Brief(set[k].path));
      CheckAxis(set[k], where, grid, own);
      CheckWhen(set[k], set, k, where, own);
      if (!paths.insert(set[k].path).second) own.Add(where, ": is there twice");
    }
  }
  if (own.empty() && !(TotalPoints(spec) <= static_cast<double>(kMaxPoints)) && grid) {
    const bool conditions =
        std::any_of(spec.parameters.begin(), spec.parameters.end(), [](const ParameterSet& set) {
          return std::any_of(set.begin(), set.end(),
                             [](const Parameter& p) { return !p.when.empty(); });
        });
    own.Add("parameters: ", absl::StrFormat("%.10g", TotalPoints(spec)), " trials",
            conditions ? ", counted as if every `when` held" : "",
            ": a sweep can have at most 1e6");
  }
  if (!own.empty()) problems.Add(Message(own.ToStatus()));
}

void CheckSearch(const SweepSpec& spec, Problems& problems) {
  static const std::vector<std::string> known = {"grid", "random", "asha", "hyperband"};
  if (std::find(known.begin(), known.end(), spec.search) == known.end()) {
    return problems.Add("search: unknown '", Brief(spec.search), "'",
                        DidYouMean(spec.search, known));
  }
  const std::string where = "search." + spec.search;
  Problems own;
  if (spec.search != "grid") {
    if (spec.max_trials < 1) own.Add(where, ".maxTrials: ", spec.max_trials, ": needs 1 or more");
    if (spec.max_trials > kMaxPoints)
      own.Add(where, ".maxTrials: ", spec.max_trials, ": at most 1e6");
  }
  if (spec.search == "asha" || spec.search == "hyperband") CheckRungs(spec, where, own);
  if (spec.median_stop.enabled) CheckMedian(spec, own);
  if (IsSearching(spec)) CheckSearched(spec, own);
  if (!own.empty()) problems.Add(Message(own.ToStatus()));
}

void CheckScheduling(const SweepSpec& spec, Problems& problems) {
  CheckLabels(spec, problems);
  if (!spec.queue.empty()) {
    if (const absl::Status s = ValidateName(spec.queue, "queue:"); !s.ok())
      problems.Add(Brief(Message(s)));
  }
  if (spec.priority < 0 || spec.priority > 100)
    problems.Add("priority: ", spec.priority, " is not in [0, 100]");
  static const std::vector<std::string> topologies = {"any", "same-node", "same-rack"};
  if (std::find(topologies.begin(), topologies.end(), spec.topology) == topologies.end())
    problems.Add("topology: unknown '", Brief(spec.topology), "'",
                 DidYouMean(spec.topology, topologies));
  CheckRetry(spec, problems);
  const CheckpointPolicy& keep = spec.checkpoints;
  if (keep.keep_latest < 1 || keep.keep_latest > 100)
    problems.Add("checkpoints.keepLatest: ", keep.keep_latest, " is not in [1, 100]");
  if (keep.keep_best < 0 || keep.keep_best > 100)
    problems.Add("checkpoints.keepBest: ", keep.keep_best, " is not in [0, 100]");
  if (keep.keep_sweep_best < 0 || keep.keep_sweep_best > 1000)
    problems.Add("checkpoints.keepSweepBest: ", keep.keep_sweep_best, " is not in [0, 1000]");
  if (!(spec.grace_seconds >= 0 && spec.grace_seconds <= kLongest))
    problems.Add("gracePeriod: ", spec.grace_seconds, " s is not in [0s, 168h]");
  if (!(spec.progress_timeout_seconds >= 0 && spec.progress_timeout_seconds <= kLongest))
    problems.Add("progressTimeout: ", spec.progress_timeout_seconds,
                 " s is not in [0s, 168h]: 0s means never");
}

}  // namespace sae::config::internal
