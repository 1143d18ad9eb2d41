#include "worker/trainer/check.h"

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "sae/base/hash.h"
#include "sae/data/store_manifest.h"
#include "sae/train/run_trial.h"

namespace saeloom::trainer {
namespace {
using nlohmann::json;

struct Report {
  sae::config::RunConfig config;  // resolved
  std::int64_t d = 0;
  std::int64_t target_d = 0;
  std::int64_t store_rows = 0;
  std::int64_t heldout_rows = 0;
  std::int64_t steps = 0;
  sae::config::MemoryEstimate memory;
  std::int64_t checkpoint_bytes = 0;
  std::int64_t disk_bytes = 0;
};

absl::StatusOr<sae::data::StoreManifest> ReadStoreManifest(sae::Env& env, const sae::config::RunConfig& config) {
  const std::string path = config.store + "/" + sae::data::kManifestFile;
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  const std::string hash = sae::HashToText(sae::Xxh3(text));
  if (!config.run.store_hash.empty() && config.run.store_hash != hash) {
    return absl::InvalidArgumentError(absl::StrCat("store ", config.store, " has manifest hash ", hash,
                                                   ", run.store_hash says ", config.run.store_hash));
  }
  return sae::data::ManifestFromJson(text, path);
}

std::string MiB(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string ToJsonText(const Report& r) {
  const json j = {{"config", json::parse(sae::config::ToJson(r.config))},
                  {"d", r.d},
                  {"target_d", r.target_d},
                  {"store_rows", r.store_rows},
                  {"heldout_rows", r.heldout_rows},
                  {"steps", r.steps},
                  {"memory_per_rank_bytes",
                   {{"parameters", r.memory.parameters},
                    {"optimizer", r.memory.optimizer},
                    {"codes", r.memory.codes},
                    {"buffers", r.memory.buffers},
                    {"gradient_rows", r.memory.gradients},
                    {"data", r.memory.data},
                    {"total", r.memory.total()}}},
                  {"checkpoint_bytes", r.checkpoint_bytes},
                  {"disk_bytes", r.disk_bytes}};
  return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

void AddRow(std::string& out, const std::string& name, const std::string& value) {
  char line[512];
  std::snprintf(line, sizeof line, "  %-34s %s\n", name.c_str(), value.c_str());
  out += line;
}

std::string ToTable(const Report& r) {
  std::string out = "config, resolved\n";
  const json tree = json::parse(sae::config::ToJson(r.config)).flatten();
  for (const auto& [path, value] : tree.items()) {
    std::string name = path.substr(1);
    for (char& c : name) c = c == '/' ? '.' : c;
    AddRow(out, name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  out += "store\n";
  AddRow(out, "width d", absl::StrCat(r.d));
  if (r.target_d > 0) AddRow(out, "width of the targets", absl::StrCat(r.target_d));
  AddRow(out, "training rows", absl::StrCat(r.store_rows));
  AddRow(out, "held-out rows", absl::StrCat(r.heldout_rows));
  out += "run\n";
  AddRow(out, "steps", absl::StrCat(r.steps));
  out += "memory of each rank\n";
  AddRow(out, "parameters", MiB(r.memory.parameters));
  AddRow(out, "optimizer", MiB(r.memory.optimizer));
  AddRow(out, "codes", MiB(r.memory.codes));
  AddRow(out, "buffers", MiB(r.memory.buffers));
  if (r.memory.gradients > 0) AddRow(out, "  of them gradients of replicas", MiB(r.memory.gradients));
  AddRow(out, "data", MiB(r.memory.data));
  AddRow(out, "total", MiB(r.memory.total()));
  out += "disk\n";
  AddRow(out, "one checkpoint", MiB(r.checkpoint_bytes));
  AddRow(out, "must be free", MiB(r.disk_bytes));
  return out;
}

}  // namespace

absl::StatusOr<std::string> CheckReport(sae::Env& env, const sae::config::RunConfig& config, bool as_json) {
  SAE_ASSIGN_OR_RETURN(const sae::data::StoreManifest manifest, ReadStoreManifest(env, config));
  SAE_RETURN_IF_ERROR(sae::config::Validate(config.trial, manifest.d, manifest.target_d));
  Report r;
  r.config = config;
  r.config.trial = sae::config::Resolve(config.trial, manifest.d);
  r.d = manifest.d;
  r.target_d = manifest.target_d;
  r.store_rows = manifest.rows;
  r.heldout_rows = manifest.heldout_rows;
  r.steps = sae::config::TotalSteps(r.config.trial);
  r.memory = sae::config::EstimateMemory(r.config.trial, r.d, r.target_d);
  r.checkpoint_bytes = sae::config::EstimateCheckpointBytes(r.config.trial, r.d, r.target_d);
  r.disk_bytes = sae::train::CheckpointDiskBytes(r.config.trial, r.d, r.target_d);
  return as_json ? ToJsonText(r) : ToTable(r);
}

}  // namespace saeloom::trainer
