#include "sae/data/store_manifest.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace sae::data {
namespace {
using Json = nlohmann::ordered_json;

Json ShardToJson(const StoreShard& s) {
  return {{"file", s.file}, {"rows", s.rows}, {"bytes", s.bytes}, {"hash", s.hash}};
}

Json ShardsToJson(const std::vector<StoreShard>& shards) {
  Json out = Json::array();
  for (const auto& s : shards) out.push_back(ShardToJson(s));
  return out;
}

Json OriginToJson(const StoreOrigin& o) {
  Json out = {{"kind", o.kind}};
  const auto text = [&](const char* key, const std::string& value) {
    if (!value.empty()) out[key] = value;
  };
  text("model", o.model);
  text("model_hash", o.model_hash);
  text("hook", o.hook);
  text("target_hook", o.target_hook);
  if (o.context > 0) out["context"] = o.context;
  text("packing", o.packing);
  text("compute", o.compute);
  out["dropped"] = o.dropped.empty() ? Json::object() : Json(o.dropped);
  if (!o.notes.empty()) out["notes"] = o.notes;
  return out;
}

StoreShard ShardFromJson(const Json& j) {
  return {j.at("file").get<std::string>(), j.at("rows").get<std::int64_t>(),
          j.at("bytes").get<std::int64_t>(), j.at("hash").get<std::string>()};
}

std::vector<StoreShard> ShardsFromJson(const Json& j) {
  std::vector<StoreShard> out;
  for (const auto& s : j) out.push_back(ShardFromJson(s));
  return out;
}

StoreOrigin OriginFromJson(const Json& j) {
  StoreOrigin o;
  o.kind = j.value("kind", "");
  o.model = j.value("model", "");
  o.model_hash = j.value("model_hash", "");
  o.hook = j.value("hook", "");
  o.target_hook = j.value("target_hook", "");
  o.context = j.value("context", std::int64_t{0});
  o.packing = j.value("packing", "");
  o.compute = j.value("compute", "");
  o.dropped = j.value("dropped", std::map<std::string, std::int64_t>{});
  o.notes = j.value("notes", std::map<std::string, std::string>{});
  return o;
}

absl::Status Damaged(const std::string& path, const std::string& what) {
  return absl::DataLossError(
      absl::StrCat(path, ": ", what, ": the manifest is damaged, make the store again"));
}

absl::Status CheckShards(const std::string& path, const std::string& field,
                         const std::vector<StoreShard>& shards, std::int64_t rows) {
  std::int64_t sum = 0;
  for (const auto& s : shards) {
    if (s.rows <= 0 || s.bytes <= 0)
      return Damaged(path, absl::StrCat(field, " ", s.file, " has ", s.rows, " rows"));
    // A name with a folder in it would let a manifest point outside its store.
    if (s.file.empty() || std::filesystem::path(s.file).filename() != s.file || s.file == "..") {
      return Damaged(path, absl::StrCat(field, " has the file name '", s.file, "'"));
    }
    sum += s.rows;
  }
  if (sum == rows) return absl::OkStatus();
  return Damaged(
      path, absl::StrCat(field, " hold ", sum, " rows together, the manifest promises ", rows));
}

absl::Status CheckManifest(const StoreManifest& m, const std::string& path) {
  if (m.d <= 0) return Damaged(path, absl::StrCat("d is ", m.d));
  if (m.rows <= 0) return Damaged(path, absl::StrCat("rows is ", m.rows));
  if (static_cast<std::int64_t>(m.mean.size()) != m.d) {
    return Damaged(path, absl::StrCat("mean has ", m.mean.size(), " values, d is ", m.d));
  }
  if (m.target_d < 0) return Damaged(path, absl::StrCat("target_d is ", m.target_d));
  if (static_cast<std::int64_t>(m.target_mean.size()) != m.target_d) {
    return Damaged(path, absl::StrCat("target_mean has ", m.target_mean.size(),
                                      " values, target_d is ", m.target_d));
  }
  if (!std::isfinite(m.target_mean_squared_norm))
    return Damaged(path, "target_mean_squared_norm is not finite");
  if (!std::isfinite(m.mean_squared_norm)) return Damaged(path, "mean_squared_norm is not finite");
  SAE_RETURN_IF_ERROR(CheckShards(path, "shards", m.shards, m.rows));
  SAE_RETURN_IF_ERROR(CheckShards(path, "heldout shards", m.heldout_shards, m.heldout_rows));
  for (const StoreShard& extra : m.extras)
    SAE_RETURN_IF_ERROR(CheckShards(path, "extras", {extra}, extra.rows));
  if (m.texts.file.empty()) return absl::OkStatus();
  return CheckShards(path, "texts", {m.texts}, m.texts.rows);
}

}  // namespace

std::string StoreDTypeName(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kF32:
      return "f32";
    default:
      return "unsupported";
  }
}

absl::StatusOr<DType> ParseStoreDType(const std::string& name) {
  for (const DType t : {DType::kBf16, DType::kF16, DType::kF32}) {
    if (name == StoreDTypeName(t)) return t;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("dtype '", name, "' is not one of bf16, f16, f32"));
}

std::string ManifestToJson(const StoreManifest& m) {
  Json heldout = {{"rows", m.heldout_rows},
                  {"fraction", m.heldout_fraction},
                  {"by", m.heldout_by},
                  {"shards", ShardsToJson(m.heldout_shards)}};
  Json j = {{"format_version", m.format_version},
            {"d", m.d},
            {"dtype", StoreDTypeName(m.dtype)},
            {"rows", m.rows},
            {"order", m.order},
            {"seed", m.seed},
            {"has_tokens", m.has_tokens},
            {"has_documents", m.has_documents},
            {"source", OriginToJson(m.source)},
            {"shards", ShardsToJson(m.shards)},
            {"heldout", heldout}};
  if (!m.texts.file.empty()) j["texts"] = ShardToJson(m.texts);
  if (!m.extras.empty()) j["extras"] = ShardsToJson(m.extras);
  if (m.target_d > 0) {
    j["target_d"] = m.target_d;
    j["target_mean_squared_norm"] = m.target_mean_squared_norm;
  }
  j["mean_squared_norm"] = m.mean_squared_norm;
  std::string text = j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  // A mean has d values: one line, not d.
  text.resize(text.size() - 2);
  if (m.target_d > 0) absl::StrAppend(&text, ",\n  \"target_mean\": ", Json(m.target_mean).dump());
  return absl::StrCat(text, ",\n  \"mean\": ", Json(m.mean).dump(), "\n}\n");
}

absl::StatusOr<StoreManifest> ManifestFromJson(const std::string& json, const std::string& path) {
  const Json j = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!j.is_object()) return Damaged(path, "it is not a JSON object");
  StoreManifest m;
  try {
    m.format_version = j.at("format_version").get<int>();
    if (m.format_version > kStoreFormatVersion || m.format_version < 1) {
      return absl::UnimplementedError(absl::StrCat(path, ": store format version ",
                                                   m.format_version, ", this program reads up to ",
                                                   kStoreFormatVersion));
    }
    m.d = j.at("d").get<std::int64_t>();
    SAE_ASSIGN_OR_RETURN(m.dtype, ParseStoreDType(j.at("dtype").get<std::string>()));
    m.rows = j.at("rows").get<std::int64_t>();
    m.order = j.at("order").get<std::string>();
    m.seed = j.at("seed").get<std::uint64_t>();
    m.has_tokens = j.at("has_tokens").get<bool>();
    m.has_documents = j.at("has_documents").get<bool>();
    m.source = OriginFromJson(j.at("source"));
    m.shards = ShardsFromJson(j.at("shards"));
    const Json& heldout = j.at("heldout");
    m.heldout_rows = heldout.at("rows").get<std::int64_t>();
    m.heldout_fraction = heldout.at("fraction").get<double>();
    m.heldout_by = heldout.at("by").get<std::string>();
    m.heldout_shards = ShardsFromJson(heldout.at("shards"));
    if (j.contains("texts")) m.texts = ShardFromJson(j.at("texts"));
    if (j.contains("extras")) m.extras = ShardsFromJson(j.at("extras"));
    m.mean_squared_norm = j.at("mean_squared_norm").get<double>();
    m.mean = j.at("mean").get<std::vector<double>>();
    if (j.contains("target_d")) {
      m.target_d = j.at("target_d").get<std::int64_t>();
      m.target_mean_squared_norm = j.at("target_mean_squared_norm").get<double>();
      m.target_mean = j.at("target_mean").get<std::vector<double>>();
    }
  } catch (const nlohmann::json::exception& error) {
    return Damaged(path, error.what());
  }
  SAE_RETURN_IF_ERROR(CheckManifest(m, path));
  return m;
}

}  // namespace sae::data
