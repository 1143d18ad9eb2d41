#include "sae/config/sweep_schema.h"

#include <nlohmann/json.hpp>
#include <type_traits>

#include "sae/config/run_config.h"
#include "sae/config/sweep_internal.h"

namespace sae::config {
namespace {
using internal::json;

json Described(json schema, const std::string& text) {
  schema["description"] = text;
  return schema;
}
json Text(const std::string& text) {
  return Described({{"type", "string"}, {"maxLength", internal::kMaxText}}, text);
}
json OneOf(const std::vector<std::string>& words, const std::string& text) {
  return Described({{"enum", words}}, text);
}
/// A whole number, also as 2.048e3 (JSON Schema's integer) or as digits in quotes.
json Whole() {
  return {{"anyOf", {{{"type", "integer"}}, {{"type", "string"}, {"pattern", "^-?[0-9]+$"}}}}};
}
json Integer(std::int64_t min, std::int64_t max, const std::string& text) {
  return Described({{"type", "integer"}, {"minimum", min}, {"maximum", max}}, text);
}
json Tokens(const std::string& text) {
  return Described({{"type", "number"}, {"minimum", 0}}, text);
}
json Duration(const std::string& text) {
  return Described({{"type", "string"}, {"pattern", "^([0-9]*\\.?[0-9]+(ns|us|ms|s|m|h))+$|^0$"}},
                   text);
}
json Map(json properties, const std::string& text = "") {
  json out = {{"type", "object"}, {"additionalProperties", false}};
  out["properties"] = std::move(properties);
  if (!text.empty()) out["description"] = text;
  return out;
}
json ListOf(json items, const std::string& text = "") {
  json out = {{"type", "array"}};
  out["items"] = std::move(items);
  if (!text.empty()) out["description"] = text;
  return out;
}
json Scalar() { return {{"type", {"number", "string", "boolean"}}}; }

/// Of one field of TrialConfig, with its default.
json FieldSchema(const Field& field) {
  json out = std::visit(
      [](auto* p) -> json {
        using T = std::remove_pointer_t<decltype(p)>;
        const json is_auto = {{"const", "auto"}};
        if constexpr (std::is_same_v<T, bool>) return {{"type", "boolean"}, {"default", *p}};
        if constexpr (std::is_same_v<T, std::string>) return {{"type", "string"}, {"default", *p}};
        if constexpr (std::is_same_v<T, double>) return {{"type", "number"}, {"default", *p}};
        if constexpr (std::is_same_v<T, std::int64_t>) {
          json whole = Whole();
          whole["default"] = *p;
          return whole;
        }
        if constexpr (std::is_same_v<T, std::optional<std::int64_t>>) {
          json whole = Whole();
          whole["anyOf"].push_back(is_auto);
          whole["default"] = "auto";
          return whole;
        }
        if constexpr (std::is_same_v<T, std::optional<double>>)
          return {{"anyOf", {{{"type", "number"}}, is_auto}}, {"default", "auto"}};
      },
      field.pointer);
  if (field.path == "sae.architecture") out["enum"] = Architectures();
  return Described(std::move(out), field.help);
}

json TrialSchema() {
  TrialConfig defaults;
  json properties = json::object();
  for (const Field& field : Fields(defaults)) {
    const std::size_t dot = field.path.find('.');
    if (dot == std::string::npos) {
      properties[field.path] = FieldSchema(field);
      continue;
    }
    json& group = properties[field.path.substr(0, dot)];
    if (group.is_null()) group = Map(json::object());
    group["properties"][field.path.substr(dot + 1)] = FieldSchema(field);
  }
  return Map(std::move(properties), "what all trials have in common");
}

json AxisSchema() {
  json axis = Map({{"values", ListOf(Scalar(), "each of these, or one of them at random")}});
  const json number = {{"type", "number"}};
  json range = Map({{"min", number}, {"max", number}, {"step", Tokens("0 = none")}});
  range["required"] = {"min", "max"};
  for (const char* form : {"uniform", "logUniform", "intUniform"}) axis["properties"][form] = range;
  axis["properties"]["when"] = Described(
      {{"type", "object"},
       {"propertyNames", {{"enum", internal::TrialPaths()}}},
       {"additionalProperties", {{"anyOf", {Scalar(), ListOf(Scalar())}}}}},
      "axes before this one in the same map, and values: elsewhere this axis is left out");
  for (const char* form : {"values", "uniform", "logUniform", "intUniform"})
    axis["oneOf"].push_back({{"required", {form}}});
  return axis;
}

json ParametersSchema() {
  const json set = {{"type", "object"},
                    {"propertyNames", {{"enum", internal::TrialPaths()}}},
                    {"additionalProperties", {{"$ref", "#/$defs/axis"}}}};
  return Described({{"anyOf", {set, ListOf(set)}}},
                   "what varies: axes by the field's path; a list of maps is a union");
}

json SearchSchema() {
  const json trials = Integer(1, internal::kMaxPoints, "how many points are drawn");
  const json seed = {{"type", "integer"}, {"description", "of the draws"}};
  json random = Map({{"maxTrials", trials}, {"seed", seed}});
  random["required"] = {"maxTrials"};
  json rungs = Map({{"mode", OneOf({"stop", "promote"}, "stop ends trials, promote pauses them")},
                    {"maxTime", Tokens("tokens of the last rung; 0 = train.tokens")},
                    {"minTime", Tokens("the first rung is not below it")},
                    {"eta", Integer(0, 1000, "one of so many goes on; 0 = 4")},
                    {"maxRungs", Integer(0, 20, "0 = 5")},
                    {"brackets", Integer(0, 20, "0 = 1; of hyperband: one a rung")},
                    {"maxTrials", trials},
                    {"seed", seed}});
  rungs["required"] = {"maxTrials"};
  json grid = Map(json::object());
  grid["type"] = {"object", "null"};
  json median = Map({{"graceTokens", Tokens("nothing before counts")},
                     {"minTrials", Integer(1, internal::kMaxPoints, "others to compare with")}});
  json out = Map({{"grid", grid},
                  {"random", random},
                  {"asha", rungs},
                  {"hyperband", rungs},
                  {"medianStop", median}},
                 "one of grid, random, asha, hyperband; and medianStop beside any of them");
  out["minProperties"] = 1;
  out["maxProperties"] = 2;
  return out;
}

json ObjectiveSchema() {
  return Map({{"metric", OneOf(Metrics(), "default heldout.fvu")},
              {"goal", OneOf({"minimize", "maximize"}, "default minimize")},
              {"constraints", ListOf({{"type", "string"}, {"pattern", "^[^<>]+(<=|>=|<|>)"}},
                                     "as heldout.l0 <= 64")}});
}

json RetrySchema() {
  json rule =
      Map({{"on", ListOf({{"enum", FailureClassNames()}}, "failure classes")},
           {"limit",
            {{"anyOf",
              {Integer(0, internal::kMaxPoints, "attempts that may be repeated"),
               {{"const", "unlimited"}}}}}},
           {"excludeNode", Described({{"type", "boolean"}}, "not on the worker where it failed")}});
  rule["required"] = {"on", "limit"};
  return ListOf(std::move(rule), "the first rule that names the class stands");
}

json PackSchema() {
  return Described({{"anyOf",
                     {{{"enum", {"auto", "off", false}}},
                      {{"type", "integer"}, {"minimum", 1}, {"maximum", kMostPacked}}}}},
                   "trials in one gang");
}

json StoreSchema() {
  const json path = Text("folder of an activation store");
  return {{"anyOf",
           {path, Map({{"path", path},
                       {"hash", Text("of its manifest")},
                       {"d", {{"type", "integer"}}},
                       {"target_d", {{"type", "integer"}}}})}}};
}

}  // namespace

std::string SweepSchema() {
  json root = Map(
      {{"apiVersion", {{"const", "saeloom/v1"}}},
       {"name", Described({{"type", "string"}, {"pattern", "^[a-z0-9][a-z0-9-]{0,62}$"}},
                          "the sweep's, and its folder's")},
       {"labels", Described({{"type", "object"},
                             {"propertyNames", {{"pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"}}},
                             {"additionalProperties", Scalar()}},
                            "to find it by")},
       {"queue", Described({{"type", "string"}, {"pattern", "^[a-z0-9][a-z0-9-]{0,62}$"}},
                           "left out = default")},
       {"priority", Integer(0, 100, "higher runs first")},
       {"topology", OneOf({"any", "same-node", "same-rack"}, "where a gang may lie")},
       {"store", StoreSchema()},
       {"harvest", Described({{"type", "object"}}, "not built yet: run saeloom harvest")},
       {"trial", TrialSchema()},
       {"parameters", ParametersSchema()},
       {"objective", ObjectiveSchema()},
       {"search", SearchSchema()},
       {"maxConcurrent", Described({{"type", "integer"}, {"minimum", 0}}, "0 = as many as fit")},
       {"pack", PackSchema()},
       {"retry", RetrySchema()},
       {"checkpoints", Map({{"keepLatest", Integer(1, 100, "of each trial")},
                            {"keepBest", Integer(0, 100, "of each trial, by the objective")},
                            {"keepSweepBest", Integer(0, 1000, "of the sweep's best trials")}})},
       {"gracePeriod", Duration("between notice and kill, as 120s")},
       {"progressTimeout", Duration("without a new step, as 10m; 0s = never")}});
  json out = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
              {"title", "A sweep of saeloom"}};
  out.update(root);
  out["required"] = {"apiVersion", "name"};
  out["$defs"] = {{"axis", AxisSchema()}};
  return out.dump(2);
}

}  // namespace sae::config
