#include "sae/config/sweep_spec.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/hash.h"
#include "sae/base/ids.h"
#include "sae/config/sweep_internal.h"

namespace sae::config {
namespace {
using internal::Brief;
using internal::json;
using internal::Problems;

void CheckMetric(const std::string& metric, const std::string& where, Problems& problems) {
  const auto& known = Metrics();
  if (std::find(known.begin(), known.end(), metric) != known.end()) return;
  problems.Add(where, ": unknown metric '", metric, "'", internal::DidYouMean(metric, known));
}

/// A path that workers open; control characters would spoil logs and tables.
void CheckStore(const SweepSpec& spec, Problems& problems) {
  if (spec.store.empty()) {
    problems.Add("store: missing: the folder of an activation store");
  } else if (spec.store[0] != '/') {
    problems.Add("store: '", Brief(spec.store), "' is not absolute: workers run elsewhere");
  }
  if (!internal::IsCleanText(spec.store) || spec.store.size() > internal::kMaxText)
    problems.Add("store: '", Brief(json(spec.store)),
                 "' is not a path of at most 4096 bytes without control characters");
  if (!internal::IsCleanText(spec.store_hash) || spec.store_hash.size() > 100)
    problems.Add("store.hash: '", Brief(json(spec.store_hash)), "' is not a hash");
  if (spec.store_d < 0) problems.Add("store.d: ", spec.store_d, " is negative");
  if (spec.store_target_d < 0)
    problems.Add("store.target_d: ", spec.store_target_d, " is negative");
}

void CheckObjective(const SweepSpec& spec, Problems& problems) {
  CheckMetric(spec.objective_metric, "objective.metric", problems);
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    const Constraint& c = spec.constraints[i];
    const std::string where = absl::StrCat("objective.constraints[", i, "]");
    CheckMetric(c.metric, where, problems);
    if (c.op != "<" && c.op != "<=" && c.op != ">" && c.op != ">=")
      problems.Add(where, ": '", c.op, "' is not < <= > >=");
    if (!std::isfinite(c.bound)) problems.Add(where, ": bound ", c.bound, " is not finite");
  }
}

std::string ConfigKey(const TrialConfig& config) {
  TrialConfig copy = config;
  std::string key;
  for (const Field& f : Fields(copy)) {
    std::visit(
        [&](auto* p) {
          using T = std::remove_pointer_t<decltype(p)>;
          if constexpr (std::is_same_v<T, std::optional<std::int64_t>> ||
                        std::is_same_v<T, std::optional<double>>) {
            absl::StrAppend(&key, *p ? absl::StrFormat("%.17g", static_cast<double>(**p)) : "auto",
                            "|");
          } else if constexpr (std::is_same_v<T, double>) {
            absl::StrAppend(&key, absl::StrFormat("%.17g", *p), "|");
          } else {
            absl::StrAppend(&key, *p, "|");
          }
        },
        f.pointer);
  }
  return key;
}

/// A number that JSON cannot hold is refused even where no architecture reads it: the sweep could
/// not be read back.
void CheckFinite(const TrialConfig& trial, Problems& problems) {
  TrialConfig copy = trial;
  for (const Field& f : Fields(copy)) {
    double x = 0;
    if (const auto* p = std::get_if<double*>(&f.pointer)) x = **p;
    if (const auto* p = std::get_if<std::optional<double>*>(&f.pointer)) x = (*p)->value_or(0);
    if (!std::isfinite(x)) problems.Add("trial.", f.path, ": ", x, " is not a finite number");
  }
}

/// Two hashes of 64 bits: of a million trials no two share both by chance.
using ConfigHash = std::pair<std::uint64_t, std::uint64_t>;
struct FirstHalf {
  std::size_t operator()(const ConfigHash& h) const { return h.first; }
};

/// Validate of every trial, and whether a union gives one configuration twice. A problem that many
/// trials share is said once; nothing is looked at any more when a thousand trials have failed.
class TrialChecker {
 public:
  explicit TrialChecker(const SweepSpec& spec)
      : spec_(spec), unique_(spec.search == "grid" && spec.parameters.size() > 1) {}

  absl::Status Look(std::size_t index, const TrialPoint& point) {
    constexpr std::size_t kMostFailed = 1000;
    if (failed_ == kMostFailed) return absl::ResourceExhaustedError("enough");
    ++looked_;
    if (unique_) LookForTwin(index, point);
    const absl::Status s = Validate(point.config, spec_.store_d, spec_.store_target_d);
    if (s.ok()) return s;
    ++failed_;
    for (const auto& part : absl::StrSplit(s.message(), "; ")) {
      auto [it, fresh] = seen_.emplace(std::string(part), Seen());
      if (fresh) {
        it->second.where =
            absl::StrCat(TrialId(static_cast<std::int64_t>(index)), ": ", ToText(point));
        order_.emplace_back(part);
      }
      ++it->second.count;
    }
    return absl::OkStatus();
  }

  /// `ended`: what the walk over the trials returned.
  void Report(const absl::Status& ended, Problems& problems) {
    if (!ended.ok() && !absl::IsResourceExhausted(ended)) return problems.Add(Message(ended));
    for (const std::string& text : order_) {
      const Seen& s = seen_[text];
      if (s.count == looked_) {
        problems.Add("trial.", text);
      } else {
        const std::string trials =
            absl::StrCat(ended.ok() ? "in " : "in at least ", s.count, " trials, the first is ");
        problems.Add("trial.", text, " (", s.count == 1 ? "in trial " : trials, s.where, ")");
      }
    }
    for (const std::string& text : twins_) problems.Add(text);
  }

 private:
  struct Seen {
    std::size_t count = 0;
    std::string where;  ///< of the first
  };

  void LookForTwin(std::size_t index, const TrialPoint& point) {
    const std::string key = ConfigKey(point.config);
    const auto [first, fresh] = configs_.emplace(ConfigHash(Xxh3(key, 0), Xxh3(key, 1)), index);
    if (fresh || twins_.size() == kMostTwins) return;
    twins_.push_back(absl::StrCat("parameters: trials ",
                                  TrialId(static_cast<std::int64_t>(first->second)), " and ",
                                  TrialId(static_cast<std::int64_t>(index)),
                                  " are the same configuration (", ToText(point), ")"));
  }

  static constexpr std::size_t kMostTwins = 100;
  const SweepSpec& spec_;
  const bool unique_;
  std::size_t looked_ = 0, failed_ = 0;
  std::vector<std::string> order_, twins_;
  std::unordered_map<std::string, Seen> seen_;
  std::unordered_map<ConfigHash, std::size_t, FirstHalf> configs_;
};

}  // namespace

absl::StatusOr<Constraint> ParseConstraint(const std::string& text) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", Brief(text), "' is not METRIC < | <= | > | >= NUMBER, such as 'heldout.l0 <= 64'"));
  };
  const std::size_t at = text.find_first_of("<>");
  if (at == std::string::npos) return bad();
  Constraint c;
  c.op = text.substr(at, at + 1 < text.size() && text[at + 1] == '=' ? 2 : 1);
  c.metric = std::string(absl::StripAsciiWhitespace(text.substr(0, at)));
  const json bound = json::parse(text.substr(at + c.op.size()), nullptr, false);
  if (c.metric.empty() || !bound.is_number()) return bad();
  c.bound = bound.get<double>();
  return c;
}

std::string ToText(const Constraint& c) {
  return absl::StrCat(c.metric, " ", c.op, " ", internal::NumberText(c.bound));
}

std::string TrialId(std::int64_t index) { return absl::StrFormat("%04d", index); }

std::string ToText(const TrialPoint& point) {
  return absl::StrJoin(
      point.assignments, " ", [](std::string* out, const std::pair<std::string, std::string>& a) {
        const bool quoted = a.second.size() >= 2 && a.second.front() == '"';
        absl::StrAppend(out, a.first, "=",
                        quoted ? a.second.substr(1, a.second.size() - 2) : a.second);
      });
}

const std::vector<std::string>& FailureClassNames() {
  static const std::vector<std::string> names = {
      "NODE_LOST",  "GPU_FAULT", "RENDEZVOUS_TIMEOUT", "OOM_GPU",        "OOM_HOST",
      "USER_ERROR", "HANG",      "NO_PROGRESS",        "INVALID_CONFIG", "CHECKPOINT_UNREADABLE",
      "INTERNAL"};
  return names;
}

absl::Status Validate(const SweepSpec& spec) {
  Problems problems;
  if (spec.name.empty()) {
    problems.Add("name: missing: use 1 to 63 of a-z, 0-9 and '-'");
  } else if (ValidateName(spec.name, "name:").ok() == false) {
    problems.Add(Message(ValidateName(Brief(spec.name), "name:")));
  }
  CheckStore(spec, problems);
  if (spec.max_concurrent < 0)
    problems.Add("maxConcurrent: ", spec.max_concurrent, " is negative: 0 means as many as fit");
  if (spec.pack < 0 || spec.pack > kMostPacked)
    problems.Add("pack: ", spec.pack, " is not in [0, ", kMostPacked, "]: 0 = auto, 1 = off");
  CheckObjective(spec, problems);
  internal::CheckScheduling(spec, problems);
  Problems axes;
  CheckFinite(spec.trial, axes);
  internal::CheckSearch(spec, axes);
  internal::CheckParameters(spec, axes);
  if (!axes.empty()) {  // trials are looked at when the axes and the search can be expanded
    problems.Add(Message(axes.ToStatus()));
  } else {
    TrialChecker trials(spec);
    const absl::Status ended = ForEachTrial(
        spec, [&](std::size_t i, const TrialPoint& point) { return trials.Look(i, point); });
    trials.Report(ended, problems);
  }
  return problems.ToStatus();
}

}  // namespace sae::config
