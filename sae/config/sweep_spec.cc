#include "sae/config/sweep_spec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"
#include "sae/base/random.h"

namespace sae::config {
namespace {
using json = nlohmann::ordered_json;  // axes keep the order in which the user wrote them

constexpr std::int64_t kMaxPoints = 1'000'000;
constexpr std::size_t kMaxProblems = 20;

/// Collects problems; all are reported in one Status.
class Problems {
 public:
  template <class... Parts>
  void Add(const Parts&... parts) {
    texts_.push_back(absl::StrCat(parts...));
  }
  /// What is well-formed but not built: alone, it makes the Status UNIMPLEMENTED.
  template <class... Parts>
  void AddUnimplemented(const Parts&... parts) {
    unimplemented_.push_back(absl::StrCat(parts...));
  }
  bool empty() const { return texts_.empty() && unimplemented_.empty(); }
  absl::Status ToStatus() const {
    if (empty()) return absl::OkStatus();
    std::vector<std::string> all = texts_;
    all.insert(all.end(), unimplemented_.begin(), unimplemented_.end());
    const std::size_t more = all.size() > kMaxProblems ? all.size() - kMaxProblems : 0;
    if (more > 0) all.resize(kMaxProblems);
    std::string text = absl::StrJoin(all, "; ");
    if (more > 0) absl::StrAppend(&text, "; and ", more, " more");
    return texts_.empty() ? absl::UnimplementedError(text) : absl::InvalidArgumentError(text);
  }

 private:
  std::vector<std::string> texts_;
  std::vector<std::string> unimplemented_;
};

std::string DidYouMean(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(word, known);
  return nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?");
}

std::string Dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

/// Whole numbers without a point, so that `8`, `8.0` and `8e0` are one value.
std::string CanonicalScalar(const json& j) {
  if (j.is_number_float()) {
    const double x = j.get<double>();
    if (x == std::nearbyint(x) && std::abs(x) < 9007199254740992.0)
      return Dump(static_cast<std::int64_t>(x));
  }
  return Dump(j);
}

std::string NumberText(double x) { return CanonicalScalar(json(x)); }

std::vector<std::string> TrialPaths() {
  TrialConfig config;
  std::vector<std::string> out;
  for (const Field& f : Fields(config)) out.push_back(f.path);
  return out;
}

/// Walks a sweep's JSON and fills the struct; each reader checks one key.
class Parser {
 public:
  explicit Parser(Problems& problems) : problems_(problems) {}

  SweepSpec Run(const json& root) {
    Keys(root, "",
         {"apiVersion", "name", "store", "trial", "parameters", "objective", "search",
          "maxConcurrent", "pack", "harvest"});
    if (!root.contains("apiVersion")) {
      problems_.Add("apiVersion: missing: write apiVersion: saeloom/v1");
    } else if (root["apiVersion"] != "saeloom/v1") {
      problems_.Add("apiVersion: ", Dump(root["apiVersion"]), " is not saeloom/v1");
    }
    if (root.contains("harvest")) {
      problems_.AddUnimplemented(
          "harvest: a preparation task inside a sweep is not built yet: run `saeloom harvest --out "
          "DIR` "
          "first and write store: DIR");
    }
    String(root, "name", "name", spec_.name);
    if (root.contains("store")) Store(root["store"]);
    if (root.contains("trial")) Trial(root["trial"]);
    if (root.contains("parameters")) Parameters(root["parameters"]);
    if (root.contains("objective")) Objective(root["objective"]);
    if (root.contains("search")) Search(root["search"]);
    Integer(root, "maxConcurrent", "maxConcurrent", spec_.max_concurrent);
    if (root.contains("pack")) Pack(root["pack"]);
    return std::move(spec_);
  }

 private:
  /// Reports keys of `j` that are not in `known`; false when it is not a map.
  bool Keys(const json& j, const std::string& where, const std::vector<std::string>& known) {
    if (!j.is_object()) {
      problems_.Add(where, ": ", Dump(j), " is not a map of keys (", absl::StrJoin(known, ", "),
                    ")");
      return false;
    }
    for (const auto& [key, value] : j.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      problems_.Add("unknown key ", where.empty() ? "" : where + ".", key, DidYouMean(key, known));
    }
    return true;
  }

  void String(const json& parent, const char* key, const std::string& where, std::string& out) {
    if (!parent.contains(key)) return;
    if (!parent[key].is_string())
      return problems_.Add(where, ": ", Dump(parent[key]), " is not a string");
    out = parent[key].get<std::string>();
  }

  bool Number(const json& parent, const char* key, const std::string& where, double& out) {
    if (!parent.contains(key)) return false;
    const json& v = parent[key];
    if (v.is_number()) {
      out = v.get<double>();
      return true;
    }
    problems_.Add(where, ": ", Dump(v), " is not a number");
    return false;
  }

  void Integer(const json& parent, const char* key, const std::string& where, std::int64_t& out) {
    if (!parent.contains(key)) return;
    const json& v = parent[key];
    if (v.is_number_integer()) {
      out = v.get<std::int64_t>();
    } else if (v.is_number_float() && std::nearbyint(v.get<double>()) == v.get<double>() &&
               std::abs(v.get<double>()) < 9.0e18) {
      out = static_cast<std::int64_t>(v.get<double>());
    } else {
      problems_.Add(where, ": ", Dump(v), " is not a whole number");
    }
  }

  // YAML reads `off` as a word or as false.
  void Pack(const json& j) {
    if (j == "auto") {
      spec_.pack = 0;
    } else if (j == "off" || j == false) {
      spec_.pack = 1;
    } else if (j.is_number_integer() && j.get<std::int64_t>() >= 1) {
      spec_.pack = j.get<std::int64_t>();
    } else {
      problems_.Add("pack: ", Dump(j), " is not auto, off, or a number of trials from 1 on");
    }
  }

  void Store(const json& j) {
    if (j.is_string()) {
      spec_.store = j.get<std::string>();
    } else if (Keys(j, "store", {"path", "hash", "d", "target_d"})) {
      String(j, "path", "store.path", spec_.store);
      String(j, "hash", "store.hash", spec_.store_hash);
      Integer(j, "d", "store.d", spec_.store_d);
      Integer(j, "target_d", "store.target_d", spec_.store_target_d);
    }
  }

  void Trial(const json& j) {
    if (Keys(j, "trial", {"ranks", "sae", "train"})) TrialFields(j, "");
  }

  void TrialFields(const json& j, const std::string& prefix) {
    static const std::vector<std::string> paths = TrialPaths();
    for (const auto& [key, value] : j.items()) {
      const std::string path = prefix + key;
      if (path == "sae" || path == "train") {
        if (value.is_object())
          TrialFields(value, path + ".");
        else
          problems_.Add("trial.", path, ": ", Dump(value), " is not a map of keys");
      } else if (std::find(paths.begin(), paths.end(), path) != paths.end()) {
        const absl::Status s = SetField(spec_.trial, path, Dump(value));
        if (!s.ok()) problems_.Add("trial.", Message(s));
      } else if (!prefix.empty()) {  // unknown keys of `trial` itself are reported by Keys
        const std::string nearest = Nearest(path, paths);
        problems_.Add("unknown key trial.", path,
                      nearest.empty() ? "" : absl::StrCat(", did you mean trial.", nearest, "?"));
      }
    }
  }

  void Parameters(const json& j) {
    if (j.is_object()) {
      if (!j.empty()) Set(j, "parameters");
    } else if (j.is_array()) {
      for (std::size_t i = 0; i < j.size(); ++i) {
        const std::string where = absl::StrCat("parameters[", i, "]");
        if (j[i].is_object())
          Set(j[i], where);
        else
          problems_.Add(where, ": ", Dump(j[i]), " is not a map from a field's path to its values");
      }
    } else {
      problems_.Add("parameters: ", Dump(j),
                    " is not a map, nor a list of maps, from a field's path to its values");
    }
  }

  void Set(const json& j, const std::string& where) {
    ParameterSet set;
    for (const auto& [path, axis] : j.items())
      set.push_back(Axis(path, axis, absl::StrCat(where, ".", path)));
    spec_.parameters.push_back(std::move(set));
  }

  Parameter Axis(const std::string& path, const json& j, const std::string& where) {
    static const std::vector<std::string> forms = {"values", "uniform", "logUniform", "intUniform"};
    Parameter p;
    p.path = path;
    if (!Keys(j, where, forms)) return p;
    if (j.size() != 1) {
      problems_.Add(where, ": needs exactly one of ", absl::StrJoin(forms, ", "));
      return p;
    }
    const std::string form = j.begin().key();
    if (form == "values") {
      Values(j["values"], where + ".values", p);
      return p;
    }
    p.kind = form == "uniform"      ? Parameter::Kind::kUniform
             : form == "logUniform" ? Parameter::Kind::kLogUniform
                                    : Parameter::Kind::kIntUniform;
    const json& range = *j.begin();
    const std::string at = where + "." + form;
    if (!Keys(range, at, {"min", "max", "step"})) return p;
    for (const auto& [key, target] : {std::pair{"min", &p.min}, std::pair{"max", &p.max}}) {
      if (!range.contains(key)) problems_.Add(at, ".", key, ": missing");
      Number(range, key, absl::StrCat(at, ".", key), *target);
    }
    Number(range, "step", at + ".step", p.step);
    return p;
  }

  void Values(const json& j, const std::string& where, Parameter& p) {
    if (!j.is_array())
      return problems_.Add(where, ": ", Dump(j), " is not a list: write [", Dump(j), "]");
    for (std::size_t i = 0; i < j.size(); ++i) {
      if (j[i].is_structured() || j[i].is_null()) {
        problems_.Add(where, "[", i, "]: ", Dump(j[i]), " is not a number, a string or true/false");
      } else {
        p.values.push_back(CanonicalScalar(j[i]));
      }
    }
  }

  void Objective(const json& j) {
    if (!Keys(j, "objective", {"metric", "goal", "constraints"})) return;
    String(j, "metric", "objective.metric", spec_.objective_metric);
    std::string goal = "minimize";
    String(j, "goal", "objective.goal", goal);
    if (goal != "minimize" && goal != "maximize")
      problems_.Add("objective.goal: '", goal, "' is not minimize or maximize");
    spec_.minimize = goal != "maximize";
    if (!j.contains("constraints")) return;
    if (!j["constraints"].is_array()) {
      return problems_.Add("objective.constraints: ", Dump(j["constraints"]), " is not a list");
    }
    for (std::size_t i = 0; i < j["constraints"].size(); ++i) {
      const json& c = j["constraints"][i];
      const std::string where = absl::StrCat("objective.constraints[", i, "]");
      if (!c.is_string()) {
        problems_.Add(where, ": ", Dump(c), " is not a string such as \"heldout.l0 <= 64\"");
        continue;
      }
      auto parsed = ParseConstraint(c.get<std::string>());
      if (parsed.ok())
        spec_.constraints.push_back(*std::move(parsed));
      else
        problems_.Add(where, ": ", Message(parsed.status()));
    }
  }

  void Search(const json& j) {
    static const std::vector<std::string> known = {"grid", "random", "asha", "hyperband"};
    if (!Keys(j, "search", known)) return;
    if (j.size() != 1)
      return problems_.Add("search: needs exactly one of ", absl::StrJoin(known, ", "));
    spec_.search = j.begin().key();
    const json empty = json::object();
    const json& options = j.begin()->is_null() ? empty : *j.begin();
    if (spec_.search == "grid") {
      Keys(options, "search.grid", {});
    } else if (spec_.search == "random" && Keys(options, "search.random", {"maxTrials", "seed"})) {
      Integer(options, "maxTrials", "search.random.maxTrials", spec_.max_trials);
      Integer(options, "seed", "search.random.seed", spec_.search_seed);
    }
  }

  Problems& problems_;
  SweepSpec spec_;
};

json AxisJson(const Parameter& p) {
  if (p.kind == Parameter::Kind::kValues) {
    json values = json::array();
    for (const std::string& v : p.values) values.push_back(json::parse(v, nullptr, false));
    return {{"values", values}};
  }
  json range = {{"min", p.min}, {"max", p.max}};
  if (p.step != 0) range["step"] = p.step;
  const char* form = p.kind == Parameter::Kind::kUniform      ? "uniform"
                     : p.kind == Parameter::Kind::kLogUniform ? "logUniform"
                                                              : "intUniform";
  return {{form, range}};
}

// ---- Expansion ----

double StepOf(const Parameter& p) {
  return p.kind == Parameter::Kind::kIntUniform && p.step == 0 ? 1 : p.step;
}

/// Points of a range on a grid; the last may miss `max` by rounding, hence the slack.
double RangeCount(const Parameter& p) {
  const double step = StepOf(p);
  return step > 0 ? std::floor((p.max - p.min) / step * (1 + 1e-12) + 1e-9) + 1 : 0;
}

double AxisCount(const Parameter& p) {
  return p.kind == Parameter::Kind::kValues ? static_cast<double>(p.values.size()) : RangeCount(p);
}

std::string AxisValue(const Parameter& p, std::int64_t i) {
  if (p.kind == Parameter::Kind::kValues) return p.values[static_cast<std::size_t>(i)];
  return NumberText(p.min + static_cast<double>(i) * StepOf(p));
}

double TotalPoints(const SweepSpec& spec) {
  if (spec.search == "random") return static_cast<double>(spec.max_trials);
  if (spec.parameters.empty()) return 1;
  double total = 0;
  for (const ParameterSet& set : spec.parameters) {
    double product = 1;
    for (const Parameter& p : set) product *= AxisCount(p);
    total += product;
  }
  return total;
}

/// A draw from one axis by a uniform u in [0, 1).
std::string Draw(const Parameter& p, double u) {
  switch (p.kind) {
    case Parameter::Kind::kValues:
      return p.values[std::min(static_cast<std::size_t>(u * static_cast<double>(p.values.size())),
                               p.values.size() - 1)];
    case Parameter::Kind::kIntUniform:
      return NumberText(p.min + std::floor(u * RangeCount(p)) * StepOf(p));
    case Parameter::Kind::kUniform:
      return NumberText(p.step > 0 ? p.min + std::floor(u * RangeCount(p)) * p.step
                                   : p.min + u * (p.max - p.min));
    case Parameter::Kind::kLogUniform: {
      const double x = std::exp(std::log(p.min) + u * (std::log(p.max) - std::log(p.min)));
      const double stepped = p.step > 0 ? std::round(x / p.step) * p.step : x;
      return NumberText(std::clamp(stepped, p.min, p.max));
    }
  }
  return "null";
}

/// Adds every point of the product from axis `at` on; `point` holds the axes before it.
absl::Status ExpandGrid(const ParameterSet& set, std::size_t at, TrialPoint& point,
                        std::vector<TrialPoint>& out) {
  if (at == set.size()) {
    out.push_back(point);
    return absl::OkStatus();
  }
  const auto count = static_cast<std::int64_t>(AxisCount(set[at]));
  const TrialConfig before = point.config;
  for (std::int64_t i = 0; i < count; ++i) {
    std::string value = AxisValue(set[at], i);
    SAE_RETURN_IF_ERROR(SetField(point.config, set[at].path, value));
    point.assignments.emplace_back(set[at].path, std::move(value));
    SAE_RETURN_IF_ERROR(ExpandGrid(set, at + 1, point, out));
    point.assignments.pop_back();
    point.config = before;
  }
  return absl::OkStatus();
}

absl::StatusOr<TrialPoint> DrawPoint(const SweepSpec& spec, std::int64_t index) {
  TrialPoint point;
  point.config = spec.trial;
  if (spec.parameters.empty()) return point;
  const ParameterSet& set =
      spec.parameters[static_cast<std::size_t>(index) % spec.parameters.size()];
  for (std::size_t axis = 0; axis < set.size(); ++axis) {
    const std::uint64_t h = HashCounter(static_cast<std::uint64_t>(spec.search_seed),
                                        static_cast<std::uint64_t>(index), axis);
    std::string value = Draw(set[axis], static_cast<double>(h >> 11) * 0x1.0p-53);
    SAE_RETURN_IF_ERROR(SetField(point.config, set[axis].path, value));
    point.assignments.emplace_back(set[axis].path, std::move(value));
  }
  return point;
}

// ---- Validation ----

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
      if (std::isfinite(x) && (x != std::nearbyint(x) || std::abs(x) > 9007199254740992.0)) {
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
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    TrialConfig scratch;
    const absl::Status s = SetField(scratch, p.path, p.values[i]);
    if (!s.ok()) problems.Add(where, ".values[", i, "]: ", Message(s));
    const auto [first, fresh] = seen.emplace(p.values[i], i);
    if (grid && !fresh) problems.Add(where, ".values[", i, "]: ", p.values[i], " is there twice");
  }
}

void CheckAxis(const Parameter& p, const std::string& where, bool grid, Problems& problems) {
  static const std::vector<std::string> paths = TrialPaths();
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

void CheckParameters(const SweepSpec& spec, Problems& problems) {
  const bool grid = spec.search != "random";
  for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
    const std::string set =
        spec.parameters.size() == 1 ? "parameters" : absl::StrCat("parameters[", i, "]");
    std::unordered_set<std::string> paths;
    for (const Parameter& p : spec.parameters[i]) {
      const std::string where = absl::StrCat(set, ".", p.path);
      CheckAxis(p, where, grid, problems);
      if (!paths.insert(p.path).second) problems.Add(where, ": is there twice");
    }
  }
  if (problems.empty() && !(TotalPoints(spec) <= static_cast<double>(kMaxPoints))) {
    problems.Add("parameters: ", absl::StrFormat("%.10g", TotalPoints(spec)),
                 " trials: a sweep can have at most 1e6");
  }
}

void CheckMetric(const std::string& metric, const std::string& where, Problems& problems) {
  const auto& known = Metrics();
  if (std::find(known.begin(), known.end(), metric) != known.end()) return;
  problems.Add(where, ": unknown metric '", metric, "'", DidYouMean(metric, known));
}

void CheckSearch(const SweepSpec& spec, Problems& problems) {
  if (spec.search == "asha" || spec.search == "hyperband") {
    problems.AddUnimplemented("search.", spec.search, ": not built yet: use grid or random");
  } else if (spec.search == "random") {
    if (spec.max_trials < 1)
      problems.Add("search.random.maxTrials: ", spec.max_trials, ": needs 1 or more");
    if (spec.max_trials > kMaxPoints)
      problems.Add("search.random.maxTrials: ", spec.max_trials, ": at most 1e6");
  } else if (spec.search != "grid") {
    problems.Add("search: unknown '", spec.search, "'",
                 DidYouMean(spec.search, {"grid", "random", "asha", "hyperband"}));
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

/// A union may give the same configuration twice, which would only waste time.
void CheckDuplicates(const std::vector<TrialPoint>& points, Problems& problems) {
  std::unordered_map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto [first, fresh] = seen.emplace(ConfigKey(points[i].config), i);
    if (!fresh) {
      problems.Add("parameters: trials ", TrialId(static_cast<std::int64_t>(first->second)),
                   " and ", TrialId(static_cast<std::int64_t>(i)), " are the same configuration (",
                   ToText(points[i]), ")");
    }
  }
}

/// Validate of every trial; a problem that many trials share is said once.
void CheckTrials(const SweepSpec& spec, const std::vector<TrialPoint>& points, Problems& problems) {
  struct Seen {
    std::size_t count = 0;
    std::size_t first = 0;
  };
  std::vector<std::string> order;
  std::unordered_map<std::string, Seen> seen;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const absl::Status s = Validate(points[i].config, spec.store_d, spec.store_target_d);
    if (s.ok()) continue;
    for (const auto& part : absl::StrSplit(s.message(), "; ")) {
      auto [it, fresh] = seen.emplace(std::string(part), Seen{0, i});
      if (fresh) order.emplace_back(part);
      ++it->second.count;
    }
  }
  for (const std::string& text : order) {
    const Seen& s = seen[text];
    if (s.count == points.size()) {
      problems.Add("trial.", text);
    } else {
      problems.Add(
          "trial.", text, " (",
          s.count == 1 ? "in trial " : absl::StrCat("in ", s.count, " trials, the first is "),
          TrialId(static_cast<std::int64_t>(s.first)), ": ", ToText(points[s.first]), ")");
    }
  }
}

}  // namespace

absl::StatusOr<Constraint> ParseConstraint(const std::string& text) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not METRIC < | <= | > | >= NUMBER, such as 'heldout.l0 <= 64'"));
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
  return absl::StrCat(c.metric, " ", c.op, " ", NumberText(c.bound));
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

absl::StatusOr<SweepSpec> ParseSweepSpec(const std::string& text) {
  json root;
  try {
    root = json::parse(text);
  } catch (const json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("the sweep is not JSON: ", e.what()));
  }
  if (!root.is_object())
    return absl::InvalidArgumentError(
        "the sweep is not a map of keys (apiVersion, name, store, trial, ...)");
  Problems problems;
  SweepSpec spec = Parser(problems).Run(root);
  SAE_RETURN_IF_ERROR(problems.ToStatus());
  return spec;
}

std::string ToJson(const SweepSpec& spec) {
  json root = {{"apiVersion", "saeloom/v1"}, {"name", spec.name}};
  root["store"] = spec.store;
  if (!spec.store_hash.empty() || spec.store_d != 0) {
    root["store"] = {{"path", spec.store}, {"hash", spec.store_hash}, {"d", spec.store_d}};
    if (spec.store_target_d != 0) root["store"]["target_d"] = spec.store_target_d;
  }
  root["trial"] = json::parse(ToJson(spec.trial), nullptr, false);
  if (!spec.parameters.empty()) root["parameters"] = json::array();
  for (const ParameterSet& set : spec.parameters) {
    json axes = json::object();
    for (const Parameter& p : set) axes[p.path] = AxisJson(p);
    root["parameters"].push_back(std::move(axes));
  }
  json constraints = json::array();
  for (const Constraint& c : spec.constraints) constraints.push_back(ToText(c));
  root["objective"] = {{"metric", spec.objective_metric},
                       {"goal", spec.minimize ? "minimize" : "maximize"},
                       {"constraints", constraints}};
  root["search"] = {{spec.search, json::object()}};
  if (spec.search == "random")
    root["search"]["random"] = {{"maxTrials", spec.max_trials}, {"seed", spec.search_seed}};
  root["maxConcurrent"] = spec.max_concurrent;
  if (spec.pack == 1) {
    root["pack"] = "off";
  } else if (spec.pack != 0) {
    root["pack"] = spec.pack;
  }
  return root.dump(2, ' ', false, json::error_handler_t::replace);
}

absl::Status Validate(const SweepSpec& spec) {
  Problems problems;
  if (spec.name.empty()) {
    problems.Add("name: missing: use 1 to 63 of a-z, 0-9 and '-'");
  } else if (const absl::Status s = ValidateName(spec.name, "name:"); !s.ok()) {
    problems.Add(Message(s));
  }
  if (spec.store.empty()) {
    problems.Add("store: missing: the folder of an activation store");
  } else if (spec.store[0] != '/') {
    problems.Add("store: '", spec.store, "' is not absolute: workers run elsewhere");
  }
  if (spec.store_d < 0) problems.Add("store.d: ", spec.store_d, " is negative");
  if (spec.store_target_d < 0)
    problems.Add("store.target_d: ", spec.store_target_d, " is negative");
  if (spec.max_concurrent < 0)
    problems.Add("maxConcurrent: ", spec.max_concurrent, " is negative: 0 means as many as fit");
  if (spec.pack < 0 || spec.pack > kMostPacked)
    problems.Add("pack: ", spec.pack, " is not in [0, ", kMostPacked, "]: 0 = auto, 1 = off");
  CheckMetric(spec.objective_metric, "objective.metric", problems);
  for (std::size_t i = 0; i < spec.constraints.size(); ++i) {
    const Constraint& c = spec.constraints[i];
    const std::string where = absl::StrCat("objective.constraints[", i, "]");
    CheckMetric(c.metric, where, problems);
    if (c.op != "<" && c.op != "<=" && c.op != ">" && c.op != ">=")
      problems.Add(where, ": '", c.op, "' is not < <= > >=");
    if (!std::isfinite(c.bound)) problems.Add(where, ": bound ", c.bound, " is not finite");
  }
  CheckSearch(spec, problems);
  Problems axes;
  CheckParameters(spec, axes);
  if (!axes.empty()) problems.Add(Message(axes.ToStatus()));
  // Trials can only be looked at when the axes and the search can be expanded.
  const bool expandable =
      axes.empty() && (spec.search == "grid" || (spec.search == "random" && spec.max_trials >= 1));
  if (expandable && TotalPoints(spec) <= static_cast<double>(kMaxPoints)) {
    if (auto points = ExpandTrials(spec); !points.ok()) {
      problems.Add(Message(points.status()));
    } else {
      CheckTrials(spec, *points, problems);
      if (spec.search == "grid" && spec.parameters.size() > 1) CheckDuplicates(*points, problems);
    }
  }
  return problems.ToStatus();
}

absl::StatusOr<std::vector<TrialPoint>> ExpandTrials(const SweepSpec& spec) {
  Problems axes;
  CheckSearch(spec, axes);
  CheckParameters(spec, axes);
  SAE_RETURN_IF_ERROR(axes.ToStatus());
  std::vector<TrialPoint> out;
  if (spec.search == "random") {
    for (std::int64_t i = 0; i < spec.max_trials; ++i) {
      SAE_ASSIGN_OR_RETURN(TrialPoint point, DrawPoint(spec, i));
      out.push_back(std::move(point));
    }
    return out;
  }
  TrialPoint base;
  base.config = spec.trial;
  if (spec.parameters.empty()) out.push_back(base);
  for (const ParameterSet& set : spec.parameters)
    SAE_RETURN_IF_ERROR(ExpandGrid(set, 0, base, out));
  return out;
}

}  // namespace sae::config
