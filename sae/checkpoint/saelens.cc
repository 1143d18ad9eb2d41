#include "sae/checkpoint/saelens.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "sae/base/safetensors.h"

namespace sae::checkpoint {
namespace {
using nlohmann::json;

constexpr char kWeights[] = "/sae_weights.safetensors";
// The release whose loader the files are checked against; a version of 6 or more keeps `metadata`.
constexpr char kVersion[] = "6.54.12";

absl::StatusOr<json> ReadConfig(Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  json j = json::parse(text, nullptr, false);
  if (j.is_discarded() || !j.is_object()) return absl::DataLossError(absl::StrCat(path, " is not a JSON object"));
  return j;
}

template <class T>
absl::StatusOr<T> Field(const json& config, const std::string& path, const char* name) {
  const auto it = config.find(name);
  if (it == config.end()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, " is missing"));
  try {
    return it->get<T>();
  } catch (const json::exception&) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, " is ", it->dump(), ", of the wrong type"));
  }
}

absl::Status RefuseNormalisation(const json& config, const std::string& path) {
  const auto it = config.find("normalize_activations");
  if (it == config.end() || it->is_null() || *it == false) return absl::OkStatus();
  const std::string mode = it->is_string() ? it->get<std::string>() : it->dump();
  // SAELens folds the last before it saves, and ignores it in a file.
  if (mode == "none" || mode == "expected_average_only_in") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(path, ": normalize_activations ", mode, " is not built yet"));
}

std::vector<float> Transposed(const std::vector<float>& m, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out(m.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      out[static_cast<std::size_t>(c * rows + r)] = m[static_cast<std::size_t>(r * columns + c)];
    }
  }
  return out;
}

void FoldDecoderNorms(model::Sae& sae) {
  for (std::int64_t i = 0; i < sae.latents; ++i) {
    const auto row = static_cast<std::size_t>(i * sae.d), end = row + static_cast<std::size_t>(sae.d);
    double squares = 0;
    for (std::size_t j = row; j < end; ++j) squares += double{sae.w_dec[j]} * sae.w_dec[j];
    const double norm = std::sqrt(squares);
    if (norm == 0) continue;
    for (std::size_t j = row; j < end; ++j) {
      sae.w_enc[j] = static_cast<float>(sae.w_enc[j] * norm);
      sae.w_dec[j] = static_cast<float>(sae.w_dec[j] / norm);
    }
    sae.b_enc[static_cast<std::size_t>(i)] = static_cast<float>(sae.b_enc[static_cast<std::size_t>(i)] * norm);
  }
}

std::string SourceOr(const model::Sae& sae, const char* key, const char* otherwise) {
  const auto it = sae.source.find(key);
  return it == sae.source.end() || it->second.empty() ? otherwise : it->second;
}

json Config(const model::Sae& sae) {
  const std::string context = SourceOr(sae, "context", "");
  json config = {{"d_in", sae.d},
                 {"d_sae", sae.latents},
                 {"dtype", "float32"},
                 {"device", "cpu"},
                 {"apply_b_dec_to_input", sae.pre_bias},
                 {"normalize_activations", "none"},
                 {"reshape_activations", "none"},
                 {"architecture", sae.architecture == "topk" ? "topk" : "standard"}};
  if (sae.architecture == "topk") {
    config["k"] = sae.k;
    config["rescale_acts_by_decoder_norm"] = false;
  }
  config["metadata"] = {{"sae_lens_version", kVersion},
                        {"sae_lens_training_version", kVersion},
                        {"model_name", SourceOr(sae, "model", "unknown")},
                        {"model_class_name", "HookedTransformer"},
                        {"hook_name", SourceOr(sae, "hook", "unknown")},
                        {"hook_head_index", nullptr},
                        {"context_size", context.empty() ? json(nullptr) : json(std::stoll(context))},
                        {"prepend_bos", false},
                        {"seqpos_slice", json::array({nullptr})},
                        {"exclude_special_tokens", true},
                        {"sequence_separator_token", nullptr},
                        {"disable_concat_sequences", false},
                        {"model_from_pretrained_kwargs", json::object()},
                        {"dataset_path", SourceOr(sae, "corpus", "unknown")},
                        {"hook_name_out", nullptr},
                        {"neuronpedia_id", nullptr},
                        {"training_architecture", sae.architecture},
                        {"written_by", "saeloom"}};
  return config;
}

absl::Status WriteFiles(Env& env, const std::string& folder, const model::Sae& sae) {
  const std::vector<float> w_enc = Transposed(sae.w_enc, sae.latents, sae.d);
  SAE_RETURN_IF_ERROR(WriteSafetensors(env, folder + kWeights,
                                       {{"W_enc", DType::kF32, {sae.d, sae.latents}, AsBytes(w_enc.data(), w_enc.size())},
                                        {"W_dec", DType::kF32, {sae.latents, sae.d}, AsBytes(sae.w_dec.data(), sae.w_dec.size())},
                                        {"b_enc", DType::kF32, {sae.latents}, AsBytes(sae.b_enc.data(), sae.b_enc.size())},
                                        {"b_dec", DType::kF32, {sae.d}, AsBytes(sae.b_dec.data(), sae.b_dec.size())}})
                          .status());
  return WriteFileAtomically(env, folder + "/cfg.json", Config(sae).dump(2) + "\n");
}

}  // namespace

absl::StatusOr<model::Sae> ReadSaeLens(Env& env, const std::string& folder) {
  const std::string path = folder + "/cfg.json";
  SAE_ASSIGN_OR_RETURN(const json config, ReadConfig(env, path));
  SAE_ASSIGN_OR_RETURN(const std::string architecture, Field<std::string>(config, path, "architecture"));
  if (architecture != "standard" && architecture != "topk") {
    return absl::UnimplementedError(
        absl::StrCat(path, ": architecture ", architecture, " cannot be read yet: standard and topk can"));
  }
  SAE_RETURN_IF_ERROR(RefuseNormalisation(config, path));
  model::Sae sae;
  sae.architecture = architecture == "topk" ? "topk" : "relu_l1";
  SAE_ASSIGN_OR_RETURN(sae.d, Field<std::int64_t>(config, path, "d_in"));
  SAE_ASSIGN_OR_RETURN(sae.latents, Field<std::int64_t>(config, path, "d_sae"));
  sae.pre_bias = config.value("apply_b_dec_to_input", true);
  if (sae.architecture == "topk") {
    SAE_ASSIGN_OR_RETURN(const double k, Field<double>(config, path, "k"));
    sae.k = static_cast<std::int64_t>(k);
  }
  const json metadata = config.value("metadata", json::object());
  for (const auto& [key, from] : {std::pair{"model", "model_name"}, {"hook", "hook_name"}, {"corpus", "dataset_path"}}) {
    if (metadata.contains(from) && metadata[from].is_string()) sae.source[key] = metadata[from].get<std::string>();
  }
  if (metadata.contains("context_size") && metadata["context_size"].is_number_integer()) {
    sae.source["context"] = std::to_string(metadata["context_size"].get<std::int64_t>());
  }
  SAE_ASSIGN_OR_RETURN(const auto file, SafetensorsReader::Open(folder + kWeights));
  SAE_ASSIGN_OR_RETURN(const std::vector<float> w_enc, file->GetFloats("W_enc", {sae.d, sae.latents}));
  sae.w_enc = Transposed(w_enc, sae.d, sae.latents);
  SAE_ASSIGN_OR_RETURN(sae.w_dec, file->GetFloats("W_dec", {sae.latents, sae.d}));
  SAE_ASSIGN_OR_RETURN(sae.b_enc, file->GetFloats("b_enc", {sae.latents}));
  SAE_ASSIGN_OR_RETURN(sae.b_dec, file->GetFloats("b_dec", {sae.d}));
  if (config.value("rescale_acts_by_decoder_norm", false)) FoldDecoderNorms(sae);
  SAE_RETURN_IF_ERROR(Annotate(model::Validate(sae), folder));
  return sae;
}

absl::Status WriteSaeLens(Env& env, const std::string& folder, const model::Sae& sae) {
  SAE_RETURN_IF_ERROR(model::Validate(sae));
  if (env.Exists(folder)) {
    const auto names = env.List(folder);
    if (!names.ok() || !names->empty()) {
      return absl::AlreadyExistsError(absl::StrCat(folder, " is there already: choose another --out, or remove it"));
    }
  }
  SAE_RETURN_IF_ERROR(RequireFreeBytes(env, folder, (2 * sae.latents * sae.d + sae.latents + sae.d) * 4 + (1 << 16),
                                       "the exported SAE"));
  SAE_RETURN_IF_ERROR(env.MakeDirectories(folder));
  absl::Status status = WriteFiles(env, folder, sae);
  if (!status.ok()) env.RemoveAll(folder).IgnoreError();
  return status;
}

}  // namespace sae::checkpoint
