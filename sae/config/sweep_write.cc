// A sweep back to the JSON that ParseSweepSpec reads.
#include <nlohmann/json.hpp>

#include "absl/time/time.h"

#include "sae/config/sweep_internal.h"

namespace sae::config {
namespace {
using internal::json;

json Scalars(const std::vector<std::string>& values) {
  json out = json::array();
  for (const std::string& v : values) out.push_back(json::parse(v, nullptr, false));
  return out;
}

const char* FormOf(Parameter::Kind kind) {
  switch (kind) {
    case Parameter::Kind::kValues:
      return "values";
    case Parameter::Kind::kUniform:
      return "uniform";
    case Parameter::Kind::kLogUniform:
      return "logUniform";
    case Parameter::Kind::kIntUniform:
      return "intUniform";
  }
  return "";
}

json AxisJson(const Parameter& p) {
  json out = json::object();
  if (p.kind == Parameter::Kind::kValues) {
    out["values"] = Scalars(p.values);
  } else {
    json range = {{"min", p.min}, {"max", p.max}};
    if (p.step != 0) range["step"] = p.step;
    out[FormOf(p.kind)] = std::move(range);
  }
  for (const Condition& c : p.when) out["when"][c.path] = Scalars(c.values);
  return out;
}

json SearchJson(const SweepSpec& spec) {
  json options = json::object();
  if (spec.search != "grid") options = {{"maxTrials", spec.max_trials}, {"seed", spec.search_seed}};
  if (spec.search == "asha" || spec.search == "hyperband") {
    const AshaOptions& a = spec.asha;
    options["mode"] = a.mode;
    if (a.max_time != 0) options["maxTime"] = a.max_time;
    if (a.min_time != 0) options["minTime"] = a.min_time;
    if (a.eta != 0) options["eta"] = a.eta;
    if (a.max_rungs != 0) options["maxRungs"] = a.max_rungs;
    if (a.brackets != 0) options["brackets"] = a.brackets;
  }
  json out = {{spec.search, std::move(options)}};
  if (spec.median_stop.enabled) {
    out["medianStop"] = {{"graceTokens", spec.median_stop.grace_tokens},
                         {"minTrials", spec.median_stop.min_trials}};
  }
  return out;
}

std::string DurationText(double seconds) { return absl::FormatDuration(absl::Seconds(seconds)); }

/// What is as the defaults say is left out: the log of a large fleet holds many sweeps.
void WriteScheduling(const SweepSpec& spec, json& root) {
  const SweepSpec defaults;
  for (const auto& [key, value] : spec.labels) root["labels"][key] = value;
  if (!spec.queue.empty()) root["queue"] = spec.queue;
  if (spec.priority != 0) root["priority"] = spec.priority;
  if (spec.topology != defaults.topology) root["topology"] = spec.topology;
  for (const RetryRule& rule : spec.retry) {
    json out = {{"on", rule.on}, {"limit", rule.limit}};
    if (rule.limit < 0) out["limit"] = "unlimited";
    if (rule.exclude_node) out["excludeNode"] = true;
    root["retry"].push_back(std::move(out));
  }
  if (spec.checkpoints != defaults.checkpoints) {
    root["checkpoints"] = {{"keepLatest", spec.checkpoints.keep_latest},
                           {"keepBest", spec.checkpoints.keep_best},
                           {"keepSweepBest", spec.checkpoints.keep_sweep_best}};
  }
  if (spec.grace_seconds != defaults.grace_seconds)
    root["gracePeriod"] = DurationText(spec.grace_seconds);
  if (spec.progress_timeout_seconds != defaults.progress_timeout_seconds)
    root["progressTimeout"] = DurationText(spec.progress_timeout_seconds);
}

}  // namespace

std::string ToJson(const SweepSpec& spec) {
  json root = {{"apiVersion", "saeloom/v1"}, {"name", spec.name}};
  root["store"] = spec.store;
  if (!spec.store_hash.empty() || spec.store_d != 0 || spec.store_target_d != 0) {
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
  root["search"] = SearchJson(spec);
  root["maxConcurrent"] = spec.max_concurrent;
  if (spec.pack == 1) {
    root["pack"] = "off";
  } else if (spec.pack != 0) {
    root["pack"] = spec.pack;
  }
  WriteScheduling(spec, root);
  return root.dump(2, ' ', false, json::error_handler_t::replace);
}

}  // namespace sae::config
