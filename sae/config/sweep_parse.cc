// ParseSweepSpec: a sweep's JSON to the struct.
#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_replace.h"
#include "absl/time/time.h"

#include "sae/config/sweep_internal.h"

namespace sae::config {
namespace {
using internal::Brief;
using internal::CheckKeys;
using internal::json;
using internal::Problems;
using internal::ReadInteger;
using internal::ReadNumber;
using internal::ReadString;

constexpr std::size_t kMaxBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxList = 100;  ///< constraints, rules, labels

/// Walks a sweep's JSON and fills the struct; each reader checks one key.
class Parser {
 public:
  explicit Parser(Problems& problems) : problems_(problems) {}

  SweepSpec Run(const json& root) {
    CheckKeys(root, "", "", problems_);
    if (!root.contains("apiVersion")) {
      problems_.Add("apiVersion: missing: write apiVersion: saeloom/v1");
    } else if (root["apiVersion"] != "saeloom/v1") {
      problems_.Add("apiVersion: ", Brief(root["apiVersion"]), " is not saeloom/v1");
    }
    if (root.contains("harvest")) {
      problems_.AddUnimplemented(
          "harvest: a preparation task inside a sweep is not built yet: run `saeloom harvest --out "
          "DIR` "
          "first and write store: DIR");
    }
    ReadString(root, "name", "name", spec_.name, problems_);
    if (root.contains("store")) Store(root["store"]);
    if (root.contains("trial")) Trial(root["trial"]);
    if (root.contains("parameters"))
      spec_.parameters = internal::ParseParameters(root["parameters"], problems_);
    if (root.contains("objective")) Objective(root["objective"]);
    if (root.contains("search")) Search(root["search"]);
    ReadInteger(root, "maxConcurrent", "maxConcurrent", spec_.max_concurrent, problems_);
    if (root.contains("pack")) Pack(root["pack"]);
    Scheduling(root);
    return std::move(spec_);
  }

 private:
  // YAML reads `off` as a word or as false.
  void Pack(const json& j) {
    if (j == "auto") {
      spec_.pack = 0;
    } else if (j == "off" || j == false) {
      spec_.pack = 1;
    } else if (j.is_number_integer() && j.get<std::int64_t>() >= 1) {
      spec_.pack = j.get<std::int64_t>();
    } else {
      problems_.Add("pack: ", Brief(j), " is not auto, off, or a number of trials from 1 on");
    }
  }

  void Store(const json& j) {
    if (j.is_string()) {
      spec_.store = j.get<std::string>();
    } else if (CheckKeys(j, "store", "store", problems_)) {
      ReadString(j, "path", "store.path", spec_.store, problems_);
      ReadString(j, "hash", "store.hash", spec_.store_hash, problems_);
      ReadInteger(j, "d", "store.d", spec_.store_d, problems_);
      ReadInteger(j, "target_d", "store.target_d", spec_.store_target_d, problems_);
    }
  }

  void Trial(const json& j) {
    if (CheckKeys(j, "trial", "trial", problems_)) TrialFields(j, "");
  }

  void TrialFields(const json& j, const std::string& prefix) {
    const std::vector<std::string>& paths = internal::TrialPaths();
    for (const auto& [key, value] : j.items()) {
      const std::string path = prefix + Brief(key);
      if (path == "sae" || path == "train") {
        if (value.is_object())
          TrialFields(value, path + ".");
        else
          problems_.Add("trial.", path, ": ", Brief(value), " is not a map of keys");
      } else if (std::find(paths.begin(), paths.end(), path) != paths.end()) {
        const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
        const absl::Status s =
            text.size() > internal::kMaxText
                ? absl::InvalidArgumentError(absl::StrCat(
                      path, ": ", text.size(), " bytes, a value may have ", internal::kMaxText))
                : SetField(spec_.trial, path, text);
        if (!s.ok()) problems_.Add("trial.", Message(s));
      } else if (!prefix.empty()) {  // unknown keys of `trial` itself are reported by CheckKeys
        const std::string nearest = internal::DidYouMean(path, paths);
        problems_.Add("unknown key trial.", path,
                      absl::StrReplaceAll(nearest, {{"mean ", "mean trial."}}));
      }
    }
  }

  void Objective(const json& j) {
    if (!CheckKeys(j, "objective", "objective", problems_)) return;
    ReadString(j, "metric", "objective.metric", spec_.objective_metric, problems_);
    std::string goal = "minimize";
    ReadString(j, "goal", "objective.goal", goal, problems_);
    if (goal != "minimize" && goal != "maximize")
      problems_.Add("objective.goal: '", Brief(goal), "' is not minimize or maximize");
    spec_.minimize = goal != "maximize";
    if (!j.contains("constraints")) return;
    if (!List(j["constraints"], "objective.constraints")) return;
    for (std::size_t i = 0; i < j["constraints"].size(); ++i) {
      const json& c = j["constraints"][i];
      const std::string where = absl::StrCat("objective.constraints[", i, "]");
      if (!c.is_string()) {
        problems_.Add(where, ": ", Brief(c), " is not a string such as \"heldout.l0 <= 64\"");
        continue;
      }
      auto parsed = ParseConstraint(c.get<std::string>());
      if (parsed.ok())
        spec_.constraints.push_back(*std::move(parsed));
      else
        problems_.Add(where, ": ", Message(parsed.status()));
    }
  }

  bool List(const json& j, const std::string& where) {
    if (!j.is_array()) {
      problems_.Add(where, ": ", Brief(j), " is not a list");
    } else if (j.size() > kMaxList) {
      problems_.Add(where, ": ", j.size(), " entries, at most ", kMaxList);
    } else {
      return true;
    }
    return false;
  }

  void Search(const json& j) {
    if (!CheckKeys(j, "search", "search", problems_)) return;
    const json empty = json::object();
    std::vector<std::string> algorithms;
    for (const auto& [key, value] : j.items()) {
      const json& options = value.is_null() ? empty : value;
      if (key == "medianStop") {
        MedianStop(options);
        continue;
      }
      algorithms.push_back(key);
      if (key == "grid") CheckKeys(options, "search.grid", "search.grid", problems_);
      if (key == "random" && CheckKeys(options, "search.random", "search.random", problems_)) {
        Draws(options, "search.random");
      }
      if (key == "asha" || key == "hyperband") Asha(options, "search." + key);
    }
    if (algorithms.size() > 1 || (algorithms.empty() && !j.contains("medianStop"))) {
      problems_.Add("search: needs exactly one of grid, random, asha, hyperband");
    } else if (!algorithms.empty()) {
      spec_.search = algorithms[0];
    }
  }

  void Draws(const json& j, const std::string& where) {
    ReadInteger(j, "maxTrials", where + ".maxTrials", spec_.max_trials, problems_);
    ReadInteger(j, "seed", where + ".seed", spec_.search_seed, problems_);
  }

  void Asha(const json& j, const std::string& where) {
    if (!CheckKeys(j, where, where, problems_)) return;
    AshaOptions& asha = spec_.asha;
    ReadString(j, "mode", where + ".mode", asha.mode, problems_);
    ReadNumber(j, "maxTime", where + ".maxTime", asha.max_time, problems_);
    ReadNumber(j, "minTime", where + ".minTime", asha.min_time, problems_);
    ReadInteger(j, "eta", where + ".eta", asha.eta, problems_);
    ReadInteger(j, "maxRungs", where + ".maxRungs", asha.max_rungs, problems_);
    ReadInteger(j, "brackets", where + ".brackets", asha.brackets, problems_);
    Draws(j, where);
  }

  void MedianStop(const json& j) {
    if (!CheckKeys(j, "search.medianStop", "search.medianStop", problems_)) return;
    MedianStopOptions& median = spec_.median_stop;
    median.enabled = true;
    ReadNumber(j, "graceTokens", "search.medianStop.graceTokens", median.grace_tokens, problems_);
    ReadInteger(j, "minTrials", "search.medianStop.minTrials", median.min_trials, problems_);
  }

  void Scheduling(const json& root) {
    if (root.contains("labels")) Labels(root["labels"]);
    ReadString(root, "queue", "queue", spec_.queue, problems_);
    ReadInteger(root, "priority", "priority", spec_.priority, problems_);
    ReadString(root, "topology", "topology", spec_.topology, problems_);
    if (root.contains("retry") && List(root["retry"], "retry")) {
      for (std::size_t i = 0; i < root["retry"].size(); ++i)
        Retry(root["retry"][i], absl::StrCat("retry[", i, "]"));
    }
    if (root.contains("checkpoints")) Checkpoints(root["checkpoints"]);
    Duration(root, "gracePeriod", spec_.grace_seconds);
    Duration(root, "progressTimeout", spec_.progress_timeout_seconds);
  }

  void Labels(const json& j) {
    if (!j.is_object())
      return problems_.Add("labels: ", Brief(j), " is not a map from a name to a text");
    if (j.size() > kMaxList)
      return problems_.Add("labels: ", j.size(), " entries, at most ", kMaxList);
    for (const auto& [key, value] : j.items()) {
      if (value.is_structured() || value.is_null()) {
        problems_.Add("labels.", Brief(key), ": ", Brief(value), " is not a text");
      } else {
        spec_.labels[key] =
            value.is_string() ? value.get<std::string>() : internal::CanonicalScalar(value);
      }
    }
  }

  void Retry(const json& j, const std::string& where) {
    if (!CheckKeys(j, where, "retry[]", problems_)) return;
    RetryRule rule;
    if (!j.contains("on")) problems_.Add(where, ".on: missing: list failure classes");
    if (j.contains("on") && List(j["on"], where + ".on")) {
      for (const json& word : j["on"]) {
        if (word.is_string())
          rule.on.push_back(word.get<std::string>());
        else
          problems_.Add(where, ".on: ", Brief(word), " is not a failure class");
      }
    }
    if (j.contains("limit") && j["limit"] == "unlimited") {
      rule.limit = -1;
    } else if (j.contains("limit")) {
      ReadInteger(j, "limit", where + ".limit", rule.limit, problems_);
    } else {
      problems_.Add(where, ".limit: missing: a number of attempts to repeat, or unlimited");
    }
    if (j.contains("excludeNode") && j["excludeNode"].is_boolean()) {
      rule.exclude_node = j["excludeNode"].get<bool>();
    } else if (j.contains("excludeNode")) {
      problems_.Add(where, ".excludeNode: ", Brief(j["excludeNode"]), " is not true or false");
    }
    spec_.retry.push_back(std::move(rule));
  }

  void Checkpoints(const json& j) {
    if (!CheckKeys(j, "checkpoints", "checkpoints", problems_)) return;
    CheckpointPolicy& keep = spec_.checkpoints;
    ReadInteger(j, "keepLatest", "checkpoints.keepLatest", keep.keep_latest, problems_);
    ReadInteger(j, "keepBest", "checkpoints.keepBest", keep.keep_best, problems_);
    ReadInteger(j, "keepSweepBest", "checkpoints.keepSweepBest", keep.keep_sweep_best, problems_);
  }

  void Duration(const json& root, const char* key, double& seconds) {
    if (!root.contains(key)) return;
    absl::Duration parsed;
    if (!root[key].is_string() || !absl::ParseDuration(root[key].get<std::string>(), &parsed)) {
      return problems_.Add(key, ": ", Brief(root[key]),
                           " is not a duration: write \"120s\", \"10m\" or \"1h30m\"");
    }
    seconds = absl::ToDoubleSeconds(parsed);
  }

  Problems& problems_;
  SweepSpec spec_;
};

/// Nesting and keys that are there twice, seen while the text is parsed.
class Guard {
 public:
  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    if (depth > internal::kMaxDepth) too_deep_ = true;
    if (too_deep_) return false;
    if (event == json::parse_event_t::object_start) keys_.emplace_back();
    if (event == json::parse_event_t::object_end && !keys_.empty()) keys_.pop_back();
    if (event == json::parse_event_t::key && !keys_.empty()) {
      const auto key = parsed.get<std::string>();
      if (!keys_.back().insert(key).second && twice_.empty()) twice_ = Brief(key);
    }
    return true;
  }
  absl::Status ToStatus() const {
    if (too_deep_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the sweep is nested more than ", internal::kMaxDepth, " deep: no key needs that"));
    }
    if (!twice_.empty())
      return absl::InvalidArgumentError(absl::StrCat("key ", twice_, " is there twice"));
    return absl::OkStatus();
  }

 private:
  std::vector<std::set<std::string>> keys_;
  bool too_deep_ = false;
  std::string twice_;
};

}  // namespace

absl::StatusOr<SweepSpec> ParseSweepSpec(const std::string& text) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the sweep has ", text.size(),
                                                   " bytes, at most ", kMaxBytes,
                                                   ": draw points with search: random"));
  }
  json root;
  Guard guard;
  try {
    root = json::parse(text, std::ref(guard));
  } catch (const json::exception& e) {
    return absl::InvalidArgumentError(
        absl::StrCat("the sweep is not JSON: ", Brief(std::string(e.what()))));
  }
  SAE_RETURN_IF_ERROR(guard.ToStatus());
  if (!root.is_object())
    return absl::InvalidArgumentError(
        "the sweep is not a map of keys (apiVersion, name, store, trial, ...)");
  Problems problems;
  SweepSpec spec = Parser(problems).Run(root);
  SAE_RETURN_IF_ERROR(problems.ToStatus());
  return spec;
}

}  // namespace sae::config
