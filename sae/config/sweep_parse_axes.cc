// Parameters of a sweep's JSON.
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"

#include "sae/config/sweep_internal.h"

namespace sae::config::internal {
namespace {

constexpr std::size_t kMaxSets = 1000;

/// Axes of one file.
class AxisParser {
 public:
  explicit AxisParser(Problems& problems) : problems_(problems) {}

  ParameterSet Set(const json& j, const std::string& where) {
    ParameterSet set;
    for (const auto& [path, axis] : j.items())
      set.push_back(Axis(path, axis, absl::StrCat(where, ".", Brief(path))));
    return set;
  }

 private:
  Parameter Axis(const std::string& path, const json& j, const std::string& where) {
    Parameter p;
    p.path = path;
    if (!CheckKeys(j, where, "parameters.*", problems_)) return p;
    std::vector<std::string> forms;
    for (const auto& [key, value] : j.items()) {
      if (key != "when") forms.push_back(key);
    }
    if (forms.size() != 1) {
      problems_.Add(where, ": needs exactly one of values, uniform, logUniform, intUniform");
      return p;
    }
    if (j.contains("when")) When(j["when"], where + ".when", p);
    const std::string& form = forms[0];
    if (form == "values") {
      Values(j[form], where + ".values", p.values);
      return p;
    }
    if (form == "uniform") p.kind = Parameter::Kind::kUniform;
    if (form == "logUniform") p.kind = Parameter::Kind::kLogUniform;
    if (form == "intUniform") p.kind = Parameter::Kind::kIntUniform;
    if (p.kind != Parameter::Kind::kValues) Range(j[form], absl::StrCat(where, ".", form), p);
    return p;  // an unknown form was reported with the keys
  }

  void Range(const json& range, const std::string& at, Parameter& p) {
    if (!CheckKeys(range, at, "parameters.*.uniform", problems_)) return;
    for (const auto& [key, target] : {std::pair{"min", &p.min}, std::pair{"max", &p.max}}) {
      if (!range.contains(key)) problems_.Add(at, ".", key, ": missing");
      ReadNumber(range, key, absl::StrCat(at, ".", key), *target, problems_);
    }
    ReadNumber(range, "step", at + ".step", p.step, problems_);
  }

  void Values(const json& j, const std::string& where, std::vector<std::string>& out) {
    if (!j.is_array())
      return problems_.Add(where, ": ", Brief(j), " is not a list: write [", Brief(j), "]");
    for (std::size_t i = 0; i < j.size(); ++i) {
      if (j[i].is_structured() || j[i].is_null()) {
        problems_.Add(where, "[", i, "]: ", Brief(j[i]),
                      " is not a number, a string or true/false");
      } else {
        out.push_back(CanonicalScalar(j[i]));
        if (out.back().size() > kMaxText)
          problems_.Add(where, "[", i, "]: ", out.back().size(), " bytes, a text may have ",
                        kMaxText);
      }
    }
  }

  void When(const json& j, const std::string& where, Parameter& p) {
    if (!j.is_object()) {
      return problems_.Add(where, ": ", Brief(j),
                           " is not a map from another axis to its values, such as "
                           "{sae.architecture: [topk]}");
    }
    for (const auto& [path, values] : j.items()) {
      Condition condition{path, {}};
      const std::string at = absl::StrCat(where, ".", Brief(path));
      Values(values.is_structured() ? values : json::array({values}), at, condition.values);
      p.when.push_back(std::move(condition));
    }
  }

  Problems& problems_;
};

}  // namespace

std::vector<ParameterSet> ParseParameters(const json& j, Problems& problems) {
  std::vector<ParameterSet> out;
  AxisParser parser(problems);
  if (j.is_object()) {
    if (!j.empty()) out.push_back(parser.Set(j, "parameters"));
  } else if (j.is_array() && j.size() > kMaxSets) {
    problems.Add("parameters: ", j.size(), " maps, at most ", kMaxSets);
  } else if (j.is_array()) {
    for (std::size_t i = 0; i < j.size(); ++i) {
      const std::string where = absl::StrCat("parameters[", i, "]");
      if (j[i].is_object()) {
        out.push_back(parser.Set(j[i], where));
      } else {
        problems.Add(where, ": ", Brief(j[i]), " is not a map from a field's path to its values");
      }
    }
  } else {
    problems.Add("parameters: ", Brief(j),
                 " is not a map, nor a list of maps, from a field's path to its values");
  }
  return out;
}

}  // namespace sae::config::internal
