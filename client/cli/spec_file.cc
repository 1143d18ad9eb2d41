#include "client/cli/spec_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "sae/base/hash.h"
#include "sae/config/yaml.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;
}  // namespace

absl::StatusOr<config::SweepSpec> LoadSpec(const std::string& file, const World& world) {
  namespace fs = std::filesystem;
  const auto yaml = world.env.Read((fs::path(world.directory) / file).string());
  if (!yaml.ok()) return Annotate(yaml.status(), "sweep file");
  SAE_ASSIGN_OR_RETURN(const std::string text, config::YamlToJson(*yaml, file));
  auto spec = config::ParseSweepSpec(text);
  if (!spec.ok()) return Annotate(spec.status(), file);
  if (!spec->store.empty()) {
    std::string path = (fs::path(world.directory) / spec->store).lexically_normal().string();
    if (path.size() > 1 && path.back() == '/') path.pop_back();
    spec->store = path;
  }
  return spec;
}

absl::Status ReadStoreManifest(config::SweepSpec& spec, const World& world) {
  const std::string path = (std::filesystem::path(spec.store) / "manifest.json").string();
  const auto text = world.env.Read(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat("store: no activation store at ", spec.store,
                     " (manifest.json is missing): make one with `saeloom harvest --out DIR` or "
                     "`saeloom store create --out DIR`"));
  }
  if (!text.ok()) return Annotate(text.status(), "store");
  const json manifest = json::parse(*text, nullptr, false);
  if (!manifest.is_object() || !manifest.contains("d") || !manifest["d"].is_number_integer()) {
    return absl::DataLossError(
        absl::StrCat("store: ", path, " is not a store's manifest: has no width d"));
  }
  spec.store_d = manifest["d"].get<std::int64_t>();
  // Absent in a store without targets.
  const bool targets = manifest.contains("target_d") && manifest["target_d"].is_number_integer();
  spec.store_target_d = targets ? manifest["target_d"].get<std::int64_t>() : 0;
  spec.store_hash = HashToText(Xxh3(*text));
  return absl::OkStatus();
}

}  // namespace sae::cli
