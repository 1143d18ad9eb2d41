#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "client/offline/recovery.h"
#include "sae/base/env.h"
#include "sae/base/ids.h"
#include "sae/config/yaml.h"
#include "sae/data/synthetic_options.h"

namespace sae::client {
namespace {
using Json = nlohmann::ordered_json;

const std::vector<std::string>& MetricNames() {
  static const std::vector<std::string> names = {
      "fvu",        "l0",        "true_l0", "saved_fvu", "gamma", "dead", "mcc",       "mmcs",
      "uniqueness", "precision", "recall",  "f1",        "mixed", "hole", "absorption"};
  return names;
}

absl::Status CheckKeys(const Json& j, const std::vector<std::string>& known) {
  if (!j.is_object()) return absl::InvalidArgumentError("is not a map");
  for (const auto& [key, value] : j.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = Nearest(key, known);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown key ", key,
                     near.empty() ? absl::StrCat(": one of ", absl::StrJoin(known, ", "))
                                  : absl::StrCat(", did you mean ", near, "?")));
  }
  return absl::OkStatus();
}

absl::StatusOr<RecoveryCase> ParseCase(const Json& j, const Json& defaults) {
  SAE_RETURN_IF_ERROR(CheckKeys(j, {"name", "method", "setting", "data", "steps", "evaluation_rows",
                                    "seeds", "trial", "expect"}));
  RecoveryCase c;
  c.name = j.at("name").get<std::string>();
  c.method = j.at("method").get<std::string>();
  c.setting = j.value("setting", "");
  c.data = j.at("data").get<std::string>();
  c.steps = j.at("steps").get<std::int64_t>();
  c.evaluation_rows = j.value("evaluation_rows", c.evaluation_rows);
  Json trial = defaults;
  if (j.contains("trial")) trial.merge_patch(j["trial"]);
  SAE_ASSIGN_OR_RETURN(c.trial, config::ParseTrialConfig(trial.dump()));
  c.trial.train.tokens = static_cast<double>(c.steps * c.trial.train.batch);
  SAE_ASSIGN_OR_RETURN(const data::SyntheticSpec data, data::ParseSyntheticSpec(c.data));
  SAE_RETURN_IF_ERROR(config::Validate(c.trial, data.options.d));
  c.seeds = j.value("seeds", c.seeds);
  if (c.steps < 1 || c.evaluation_rows < 1 || c.seeds < 1)
    return absl::InvalidArgumentError("steps, evaluation_rows and seeds need 1 or more");
  SAE_RETURN_IF_ERROR(CheckKeys(j.at("expect"), MetricNames()));
  for (const auto& [metric, band] : j["expect"].items()) {
    if (!band.is_array() || band.size() != 2 || !(band[0].get<double>() <= band[1].get<double>()))
      return absl::InvalidArgumentError(absl::StrCat("expect.", metric, " is not [low, high]"));
    c.expect[metric] = {band[0].get<double>(), band[1].get<double>()};
  }
  return c;
}

absl::StatusOr<Separation> ParseSeparation(const Json& j, const std::vector<RecoveryCase>& cases) {
  SAE_RETURN_IF_ERROR(CheckKeys(j, {"name", "metric", "below", "above"}));
  Separation s;
  s.name = j.at("name").get<std::string>();
  s.metric = j.at("metric").get<std::string>();
  const auto& names = MetricNames();
  if (std::find(names.begin(), names.end(), s.metric) == names.end())
    return absl::InvalidArgumentError(absl::StrCat("unknown metric ", s.metric));
  for (const auto& [side, list, limit] :
       {std::tuple{"below", &s.first, &s.low}, {"above", &s.second, &s.high}}) {
    SAE_RETURN_IF_ERROR(CheckKeys(j.at(side), {"limit", "cases"}));
    *limit = j[side].at("limit").get<double>();
    *list = j[side].at("cases").get<std::vector<std::string>>();
    for (const std::string& name : *list) {
      if (std::none_of(cases.begin(), cases.end(), [&](const auto& c) { return c.name == name; }))
        return absl::InvalidArgumentError(absl::StrCat(side, ": there is no case ", name));
    }
  }
  return s;
}

std::string Name(const Json& j, std::size_t index) {
  return j.is_object() && j.contains("name") && j["name"].is_string()
             ? j["name"].get<std::string>()
             : absl::StrCat("number ", index + 1);
}

}  // namespace

absl::StatusOr<RecoverySpec> ParseRecoverySpec(const std::string& text) {
  std::string where = "cases";
  try {
    const Json j = Json::parse(text);
    SAE_RETURN_IF_ERROR(CheckKeys(j, {"apiVersion", "trial", "cases", "separations"}));
    if (j.value("apiVersion", "") != "saeloom/v1")
      return absl::InvalidArgumentError("apiVersion is not saeloom/v1");
    RecoverySpec spec;
    for (std::size_t i = 0; i < j.at("cases").size(); ++i) {
      where = absl::StrCat("case ", Name(j["cases"][i], i));
      auto parsed = ParseCase(j["cases"][i], j.value("trial", Json::object()));
      if (!parsed.ok()) return Annotate(parsed.status(), where);
      for (const RecoveryCase& other : spec.cases) {
        if (other.name == parsed->name)
          return absl::InvalidArgumentError(absl::StrCat(where, " is there twice"));
      }
      spec.cases.push_back(*std::move(parsed));
    }
    const Json separations = j.value("separations", Json::array());
    for (std::size_t i = 0; i < separations.size(); ++i) {
      where = absl::StrCat("separation ", Name(separations[i], i));
      auto parsed = ParseSeparation(separations[i], spec.cases);
      if (!parsed.ok()) return Annotate(parsed.status(), where);
      spec.separations.push_back(*std::move(parsed));
    }
    return spec;
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", e.what()));
  }
}

absl::StatusOr<RecoverySpec> LoadRecoverySpec(const std::string& file) {
  SAE_ASSIGN_OR_RETURN(const std::string yaml, RealEnv().Read(file));
  SAE_ASSIGN_OR_RETURN(const std::string json, config::YamlToJson(yaml, file));
  auto spec = ParseRecoverySpec(json);
  if (!spec.ok()) return Annotate(spec.status(), file);
  return spec;
}

absl::Status KeepOnly(const std::string& only, RecoverySpec* spec) {
  std::vector<RecoveryCase> kept;
  std::vector<std::string> names;
  for (const RecoveryCase& c : spec->cases) {
    names.push_back(c.name);
    if (absl::StartsWith(c.name, only)) kept.push_back(c);
  }
  if (std::any_of(kept.begin(), kept.end(), [&](const auto& c) { return c.name == only; }))
    std::erase_if(kept, [&](const RecoveryCase& c) { return c.name != only; });
  if (kept.empty()) {
    return absl::NotFoundError(absl::StrCat("no case is or begins with ", only, ": there are ",
                                            absl::StrJoin(names, ", ")));
  }
  spec->cases = std::move(kept);
  const auto here = [&](const std::string& name) {
    return std::any_of(spec->cases.begin(), spec->cases.end(),
                       [&](const RecoveryCase& c) { return c.name == name; });
  };
  std::erase_if(spec->separations, [&](const Separation& s) {
    return !std::all_of(s.first.begin(), s.first.end(), here) ||
           !std::all_of(s.second.begin(), s.second.end(), here);
  });
  return absl::OkStatus();
}

std::vector<std::string> Failures(const RecoveryCase& recovery, const RecoveryMetrics& metrics) {
  std::vector<std::string> out;
  for (const auto& [name, band] : recovery.expect) {
    const auto found = metrics.find(name);
    if (found == metrics.end()) {
      out.push_back(absl::StrCat(name, " is not measured on this data"));
    } else if (!band.holds(found->second)) {
      out.push_back(absl::StrFormat("%s %.4g is not in [%.4g, %.4g]", name, found->second, band.low,
                                    band.high));
    }
  }
  return out;
}

std::vector<std::string> Failures(const Separation& s,
                                  const std::map<std::string, RecoveryMetrics>& metrics) {
  std::vector<std::string> out;
  for (const bool low : {true, false}) {
    for (const std::string& name : low ? s.first : s.second) {
      const double limit = low ? s.low : s.high;
      const double x = metrics.at(name).at(s.metric);
      if (low ? x < limit : x > limit) continue;
      out.push_back(absl::StrFormat("%s: %s %.4g is not %s %.4g", name, s.metric, x,
                                    low ? "below" : "above", limit));
    }
  }
  return out;
}

}  // namespace sae::client
