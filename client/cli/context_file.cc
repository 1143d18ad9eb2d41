#include "client/cli/context_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"

#include "client/cli/private_file.h"
#include "client/cli/yaml_text.h"
#include "sae/config/yaml.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;

struct Field {
  const char* key;
  std::string Context::*member;
};
constexpr Field kFields[] = {{"server", &Context::server},
                             {"ca", &Context::ca},
                             {"cert", &Context::cert},
                             {"key", &Context::key},
                             {"token_file", &Context::token_file}};

absl::StatusOr<std::string> TextOf(const json& value, const std::string& what) {
  if (value.is_string()) return value.get<std::string>();
  return absl::InvalidArgumentError(absl::StrCat(what, ": is not text"));
}

absl::StatusOr<Context> ParseContext(const std::string& name, const json& j,
                                     const std::string& path) {
  Context context;
  context.name = name;
  const std::string where = absl::StrCat(path, ": contexts.", name);
  if (!j.is_object()) return absl::InvalidArgumentError(where + ": is not a map");
  for (const auto& [key, value] : j.items()) {
    const auto* field = std::find_if(std::begin(kFields), std::end(kFields),
                                     [&k = key](const Field& f) { return k == f.key; });
    if (field == std::end(kFields)) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": unknown key ", key, ": known are server, ca, cert, key and token_file"));
    }
    SAE_ASSIGN_OR_RETURN(context.*field->member, TextOf(value, absl::StrCat(where, ".", key)));
  }
  return context;
}

json ToJson(const Context& context) {
  json out = json::object();
  for (const Field& f : kFields) {
    if (!(context.*f.member).empty()) out[f.key] = context.*f.member;
  }
  return out;
}

}  // namespace

Context* ContextFile::Find(const std::string& name) {
  const auto it = std::find_if(contexts.begin(), contexts.end(),
                               [&](const Context& c) { return c.name == name; });
  return it == contexts.end() ? nullptr : &*it;
}

absl::StatusOr<std::string> ContextFilePath(const World& world) {
  if (const std::string folder = world.variable("XDG_CONFIG_HOME"); !folder.empty())
    return folder + "/saeloom/config.yaml";
  if (const std::string home = world.variable("HOME"); !home.empty())
    return home + "/.config/saeloom/config.yaml";
  return absl::FailedPreconditionError(
      "contexts: neither $XDG_CONFIG_HOME nor $HOME is set: set one, it holds the file of "
      "contexts");
}

absl::StatusOr<ContextFile> LoadContexts(const World& world) {
  SAE_ASSIGN_OR_RETURN(const std::string path, ContextFilePath(world));
  const auto yaml = world.env.Read(path);
  if (absl::IsNotFound(yaml.status())) return ContextFile();
  SAE_RETURN_IF_ERROR(yaml.status());
  SAE_ASSIGN_OR_RETURN(const std::string text, config::YamlToJson(*yaml, path));
  const json j = json::parse(text, nullptr, false);
  ContextFile file;
  if (j.is_null()) return file;
  if (!j.is_object()) return absl::InvalidArgumentError(path + ": is not a map");
  for (const auto& [key, value] : j.items()) {
    if (key == "current") {
      SAE_ASSIGN_OR_RETURN(file.current, TextOf(value, absl::StrCat(path, ": current")));
    } else if (key == "contexts" && value.is_object()) {
      for (const auto& [name, context] : value.items()) {
        SAE_ASSIGN_OR_RETURN(Context parsed, ParseContext(name, context, path));
        file.contexts.push_back(std::move(parsed));
      }
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": ", key, ": known are current and the map contexts"));
    }
  }
  return file;
}

absl::Status SaveContexts(const ContextFile& file, const World& world) {
  SAE_ASSIGN_OR_RETURN(const std::string path, ContextFilePath(world));
  json j = json::object();
  if (!file.current.empty()) j["current"] = file.current;
  j["contexts"] = json::object();
  for (const Context& c : file.contexts) j["contexts"][c.name] = ToJson(c);
  return WritePrivateFile(
      path, "# Written by `saeloom context`; holds paths, no secrets.\n" + YamlFromJson(j.dump()));
}

absl::Status NoSuchContext(const ContextFile& file, const std::string& name) {
  std::vector<std::string> known;
  for (const Context& c : file.contexts) known.push_back(c.name);
  return absl::NotFoundError(absl::StrCat(
      "no context ", name, ": ",
      known.empty() ? "there is none; make one with `saeloom context set NAME --server HOST:PORT`"
                    : "known are " + absl::StrJoin(known, ", ")));
}

std::string ContextJson(const Context& context, bool current) {
  json out = {{"name", context.name}, {"current", current}};
  out.update(ToJson(context));
  return out.dump(2);
}

}  // namespace sae::cli
