#include "sae/checkpoint/manifest.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "sae/base/hash.h"

namespace sae::checkpoint {
namespace {
using nlohmann::json;

constexpr const char* kFormat = "saeloom-checkpoint";
constexpr std::int64_t kVersion = 1;

struct DTypeName {
  DType dtype;
  const char* name;
};
constexpr DTypeName kDTypes[] = {{DType::kF32, "F32"},   {DType::kF64, "F64"}, {DType::kF16, "F16"},
                                 {DType::kBf16, "BF16"}, {DType::kI32, "I32"}, {DType::kI64, "I64"},
                                 {DType::kU8, "U8"}};

std::string NameOf(DType dtype) {
  for (const DTypeName& d : kDTypes) {
    if (d.dtype == dtype) return d.name;
  }
  return "";
}

absl::StatusOr<DType> DTypeFrom(const std::string& name) {
  for (const DTypeName& d : kDTypes) {
    if (name == d.name) return d.dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown dtype '", name, "'"));
}

// JSON has no infinities: they stand as text.
json Number(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  return v;
}

double FromNumber(const json& j) {
  if (!j.is_string()) return j.get<double>();
  const auto text = j.get<std::string>();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  return text == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
}

json ScalarsToJson(const Manifest& m) {
  json out = json::object();
  for (const auto& [name, value] : m.scalars) {
    out[name] = std::holds_alternative<double>(value) ? Number(std::get<double>(value))
                                                      : json(std::get<std::int64_t>(value));
  }
  return out;
}

// A path may hold bytes that are not UTF-8: they are replaced, in the hash as in the file.
std::string Dump(const json& j, int indent) { return j.dump(indent, ' ', false, json::error_handler_t::replace); }

std::string HashOf(const json& without_hash) { return HashToText(Xxh3(Dump(without_hash, -1))); }

absl::Status ReadTables(const json& j, Manifest& m) {
  for (const auto& [name, value] : j.at("scalars").items()) {
    if (value.is_number_integer()) {
      m.scalars[name] = value.get<std::int64_t>();
    } else {
      m.scalars[name] = FromNumber(value);
    }
  }
  for (const json& t : j.at("tensors")) {
    SAE_ASSIGN_OR_RETURN(const DType dtype, DTypeFrom(t.at("dtype").get<std::string>()));
    m.tensors.push_back({t.at("name").get<std::string>(), dtype, t.at("shape").get<std::vector<std::int64_t>>(),
                         t.at("per_latent").get<bool>()});
  }
  for (const json& f : j.at("files")) {
    m.files.push_back({f.at("name").get<std::string>(), f.at("bytes").get<std::int64_t>(),
                       f.at("hash").get<std::string>(), f.at("first").get<std::int64_t>(),
                       f.at("rows").get<std::int64_t>()});
    if (m.files.back().name.find('/') != std::string::npos) {
      return absl::DataLossError(absl::StrCat("file name '", m.files.back().name, "' leaves the folder"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Manifest> FromJson(const json& j) {
  Manifest m;
  m.info.step = j.at("step").get<std::int64_t>();
  m.info.tokens = j.at("tokens").get<std::int64_t>();
  m.info.d = j.at("d").get<std::int64_t>();
  m.info.data_position = j.at("data_position").get<std::int64_t>();
  SAE_ASSIGN_OR_RETURN(m.info.config, config::ParseTrialConfig(j.at("config").dump()));
  m.info.store = j.at("store").get<std::string>();
  m.info.store_hash = j.at("store_hash").get<std::string>();
  m.info.instruction_set = j.at("instruction_set").get<std::string>();
  m.info.source = j.at("source").get<std::map<std::string, std::string>>();
  m.latents = j.at("latents").get<std::int64_t>();
  m.block_latents = j.at("block_latents").get<std::int64_t>();
  m.world_size = j.at("world_size").get<std::int64_t>();
  // Older ones lack it: their files do not depend on it.
  m.deal_seed = j.value("deal_seed", model::kDealSeed);
  SAE_RETURN_IF_ERROR(ReadTables(j, m));
  return m;
}

}  // namespace

std::string ToJson(const Manifest& m) {
  json tensors = json::array();
  for (const TensorEntry& t : m.tensors) {
    tensors.push_back({{"name", t.name}, {"dtype", NameOf(t.dtype)}, {"shape", t.shape}, {"per_latent", t.per_latent}});
  }
  json files = json::array();
  for (const FileEntry& f : m.files) {
    files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"hash", f.hash}, {"first", f.first}, {"rows", f.rows}});
  }
  json j = {{"format", kFormat},
            {"version", kVersion},
            {"step", m.info.step},
            {"tokens", m.info.tokens},
            {"d", m.info.d},
            {"data_position", m.info.data_position},
            {"config", json::parse(config::ToJson(m.info.config))},
            {"store", m.info.store},
            {"store_hash", m.info.store_hash},
            {"instruction_set", m.info.instruction_set},
            {"source", m.info.source},
            {"latents", m.latents},
            {"block_latents", m.block_latents},
            {"world_size", m.world_size},
            {"deal_seed", m.deal_seed},
            {"scalars", ScalarsToJson(m)},
            {"tensors", std::move(tensors)},
            {"files", std::move(files)}};
  j["hash"] = HashOf(j);
  return Dump(j, 1) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(const std::string& text) {
  json j = json::parse(text, nullptr, false);
  if (!j.is_object()) return absl::DataLossError("not a JSON object: damaged, or cut short");
  const json hash = j.value("hash", json());
  j.erase("hash");
  if (hash != HashOf(j)) return absl::DataLossError("its own hash does not match its content");
  if (j.value("format", json()) != kFormat) {
    return absl::InvalidArgumentError(absl::StrCat("not a checkpoint: its `format` is not ", kFormat));
  }
  if (j.value("version", json()) != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("checkpoint format version ", j.value("version", json()).dump(),
                                                   ", this build reads ", kVersion));
  }
  try {
    return FromJson(j);
  } catch (const json::exception& e) {
    return absl::DataLossError(absl::StrCat("a field is missing or of a wrong type: ", e.what()));
  }
}

std::int64_t Manifest::Bytes() const {
  std::int64_t bytes = 0;
  for (const FileEntry& file : files) bytes += file.bytes;
  return bytes;
}

absl::StatusOr<Manifest> ReadManifest(Env& env, const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  absl::StatusOr<Manifest> manifest = ParseManifest(text);
  if (!manifest.ok()) return Annotate(manifest.status(), absl::StrCat(path));
  return manifest;
}

}  // namespace sae::checkpoint
