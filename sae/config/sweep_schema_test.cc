// The schema against a small validator of the keywords that it uses: every example and every sweep
// in the documentation meets it, what the parser refuses for its keys or types does not, and both
// know the same keys.
#include "sae/config/sweep_schema.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/config/sweep_internal.h"
#include "sae/config/yaml.h"

namespace sae::config {
namespace {
using internal::json;
using ::testing::HasSubstr;

/// The keywords of draft 2020-12 that SweepSchema uses; any other is a failure.
class Checker {
 public:
  explicit Checker(json root) : root_(std::move(root)) {}

  /// "" or the first problem, with its path.
  std::string Check(const json& value) { return At(root_, value, "$"); }

 private:
  std::string At(const json& schema, const json& value, const std::string& path) {
    for (const auto& [keyword, arg] : schema.items()) {
      const std::string problem = Keyword(schema, keyword, arg, value, path);
      if (!problem.empty()) return problem;
    }
    return "";
  }

  static bool IsType(const json& value, const std::string& type) {
    if (type == "integer") {
      return value.is_number_integer() ||
             (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
    }
    return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
           (type == "string" && value.is_string()) || (type == "number" && value.is_number()) ||
           (type == "boolean" && value.is_boolean()) || (type == "null" && value.is_null());
  }

  std::string Keyword(const json& schema, const std::string& keyword, const json& arg,
                      const json& value, const std::string& path) {
    static const std::set<std::string> notes = {"$schema",     "title",   "$defs",
                                                "description", "default", "properties"};
    const auto bad = [&] { return absl::StrCat(path, ": ", keyword, " ", arg.dump()); };
    if (keyword == "additionalProperties") return Properties(schema, value, path);
    if (notes.count(keyword) > 0) return "";
    if (keyword == "$ref") {
      return At(root_.at(json::json_pointer(arg.get<std::string>().substr(1))), value, path);
    }
    if (keyword == "type") {
      for (const json& type : arg.is_array() ? arg : json::array({arg}))
        if (IsType(value, type)) return "";
      return bad();
    }
    if (keyword == "enum") {
      for (const json& one : arg)
        if (one == value) return "";
      return bad();
    }
    if (keyword == "const") return arg == value ? "" : bad();
    if (keyword == "anyOf" || keyword == "oneOf") {
      int fits = 0;
      for (const json& one : arg) fits += At(one, value, path).empty() ? 1 : 0;
      return fits == 1 || (fits > 1 && keyword == "anyOf") ? "" : bad();
    }
    if (keyword == "pattern") {
      return !value.is_string() ||
                     std::regex_search(value.get<std::string>(), std::regex(arg.get<std::string>()))
                 ? ""
                 : bad();
    }
    if (keyword == "minimum") return !value.is_number() || value >= arg ? "" : bad();
    if (keyword == "maximum") return !value.is_number() || value <= arg ? "" : bad();
    if (keyword == "maxLength")
      return !value.is_string() || value.get<std::string>().size() <= arg ? "" : bad();
    if (keyword == "minProperties") return !value.is_object() || value.size() >= arg ? "" : bad();
    if (keyword == "maxProperties") return !value.is_object() || value.size() <= arg ? "" : bad();
    if (keyword == "required") {
      for (const json& key : arg)
        if (value.is_object() && !value.contains(key.get<std::string>())) return bad();
      return "";
    }
    if (keyword == "propertyNames") {
      if (!value.is_object()) return "";
      for (const auto& [key, unused] : value.items())
        if (!At(arg, key, path).empty()) return absl::StrCat(path, ": the name ", key);
      return "";
    }
    if (keyword == "items") {
      for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
        const std::string problem = At(arg, value[i], absl::StrCat(path, "[", i, "]"));
        if (!problem.empty()) return problem;
      }
      return "";
    }
    ADD_FAILURE() << "the checker does not know " << keyword;
    return bad();
  }

  std::string Properties(const json& schema, const json& value, const std::string& path) {
    if (!value.is_object()) return "";
    const json none = json::object();
    const json& known = schema.contains("properties") ? schema["properties"] : none;
    const json& rest = schema["additionalProperties"];
    for (const auto& [key, member] : value.items()) {
      const std::string at = absl::StrCat(path, ".", key);
      if (!known.contains(key) && rest == false) return at + ": unknown";
      const std::string problem = At(known.contains(key) ? known[key] : rest, member, at);
      if (!problem.empty()) return problem;
    }
    return "";
  }

  json root_;
};

const json& Schema() {
  static const json schema = json::parse(SweepSchema());
  return schema;
}

std::string Read(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Parses and checks one YAML text that is a valid file.
void ExpectGood(const std::string& yaml, const std::string& name) {
  const auto text = YamlToJson(yaml, name);
  ASSERT_TRUE(text.ok()) << text.status();
  auto spec = ParseSweepSpec(*text);
  ASSERT_TRUE(spec.ok()) << name << ": " << spec.status();
  spec->store = "/as/the/cli/sends/it";
  EXPECT_TRUE(Validate(*spec).ok()) << name << ": " << Validate(*spec);
  EXPECT_EQ(Checker(Schema()).Check(json::parse(*text)), "") << name;
}

TEST(SweepSchema, EveryExampleMeetsIt) {
  int sweeps = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SAE_SOURCE_DIR "/examples")) {
    if (entry.path().extension() != ".yaml") continue;
    const std::string yaml = Read(entry.path());
    if (absl::StrContains(yaml, "\ncases:")) continue;  // lists of cases are no sweeps
    ExpectGood(yaml, entry.path().filename());
    ++sweeps;
  }
  EXPECT_GE(sweeps, 3);
}

TEST(SweepSchema, EverySweepInTheDocumentationMeetsIt) {
  std::stringstream in(Read(SAE_SOURCE_DIR "/docs/formats/sweep.md"));
  std::string block;
  bool inside = false;
  int sweeps = 0;
  for (std::string line; std::getline(in, line);) {
    if (absl::StartsWith(line, "```")) {
      if (inside && absl::StrContains(block, "apiVersion")) {
        ExpectGood(block, absl::StrCat("sweep.md, example ", ++sweeps));
      }
      inside = line == "```yaml";
      block.clear();
    } else if (inside) {
      block += line + "\n";
    }
  }
  EXPECT_GE(sweeps, 3);
}

TEST(SweepSchema, TheJsonOfASweepMeetsIt) {
  SweepSpec spec;
  spec.name = "a";
  spec.store = "/s";
  spec.store_d = 64;
  spec.search = "hyperband";
  spec.max_trials = 9;
  spec.asha = {"promote", 1e5, 10, 3, 4, 2};
  spec.median_stop.enabled = true;
  spec.labels = {{"a", "b"}};
  spec.retry = {{{"HANG"}, -1, true}};
  spec.checkpoints = {1, 1, 1};
  spec.grace_seconds = 0.5;
  spec.progress_timeout_seconds = 3661;
  EXPECT_EQ(Checker(Schema()).Check(json::parse(ToJson(spec))), "");
}

TEST(SweepSchema, WhatTheParserRefusesItRefuses) {
  const std::string head = R"({"apiVersion":"saeloom/v1","name":"a","store":"/s",)";
  for (const char* tail :
       {R"("nme":1})", R"("priority":101})", R"("priority":"high"})", R"("search":{"gird":{}}})",
        R"("search":{"asha":{"mode":"halve","maxTrials":1}}})", R"("gracePeriod":120})",
        R"("trial":{"sae":{"kk":1}}})", R"("trial":{"train":{"batch":"many"}}})",
        R"("parameters":{"sae.kk":{"values":[1]}}})",
        R"("parameters":{"sae.k":{"values":[1],"uniform":{"min":0,"max":1}}}})",
        R"("retry":[{"on":["NODE_LOSS"],"limit":1}]})", R"("topology":"rack"})",
        R"("checkpoints":{"keepLatest":0}})", R"("labels":{"../x":"y"}})"}) {
    EXPECT_NE(Checker(Schema()).Check(json::parse(head + tail)), "") << tail;
    const auto spec = ParseSweepSpec(head + tail);
    EXPECT_FALSE(spec.ok() && Validate(*spec).ok()) << tail;
  }
}

/// Where `place` of KnownKeys is in the schema.
const json& PropertiesOf(const std::string& place) {
  const json& top = Schema()["properties"];
  if (place.empty()) return top;
  if (place == "store") return top["store"]["anyOf"][1]["properties"];
  if (place == "retry[]") return top["retry"]["items"]["properties"];
  const json& axis = Schema()["$defs"]["axis"]["properties"];
  if (place == "parameters.*") return axis;
  if (place == "parameters.*.uniform") return axis["uniform"]["properties"];
  const std::size_t dot = place.find('.');
  const json& outer = top[place.substr(0, dot)]["properties"];
  return dot == std::string::npos ? outer : outer[place.substr(dot + 1)]["properties"];
}

TEST(SweepSchema, HasTheKeysThatTheParserKnows) {
  for (const auto& [place, keys] : internal::KnownKeys()) {
    std::set<std::string> known(keys.begin(), keys.end()), in_schema;
    for (const auto& [key, unused] : PropertiesOf(place).items()) in_schema.insert(key);
    EXPECT_EQ(in_schema, known) << "place: " << place;
  }
  std::set<std::string> fields;
  for (const auto& [key, value] : PropertiesOf("trial").items()) {
    if (!value.contains("properties")) fields.insert(key);
    const json group = value.value("properties", json::object());
    for (const auto& [inner, unused] : group.items()) fields.insert(absl::StrCat(key, ".", inner));
  }
  const auto& paths = internal::TrialPaths();
  EXPECT_EQ(fields, std::set<std::string>(paths.begin(), paths.end()));
}

}  // namespace
}  // namespace sae::config
