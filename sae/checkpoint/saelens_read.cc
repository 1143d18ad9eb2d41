#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/numbers.h"

#include "sae/base/safetensors.h"
#include "sae/checkpoint/saelens.h"
#include "sae/checkpoint/saelens_files.h"
#include "sae/model/sae_fold.h"

namespace sae::checkpoint {
namespace {
using model::Normalisation;
using nlohmann::json;

struct Kind {
  const char* name;  ///< cfg.json's `architecture`
  const char* ours;
  bool transcoder = false;
  bool skip = false;
};
constexpr Kind kKinds[] = {{"standard", "relu_l1"},
                           {"topk", "topk"},
                           {"jumprelu", "jumprelu"},
                           {"gated", "gated"},
                           {"batchtopk", "batchtopk"},
                           {"matryoshka_batchtopk", "matryoshka"},
                           {"transcoder", "relu_l1", true},
                           {"skip_transcoder", "relu_l1", true, true},
                           {"jumprelu_transcoder", "jumprelu", true},
                           {"jumprelu_skip_transcoder", "jumprelu", true, true}};

absl::StatusOr<Kind> KindOf(const std::string& path, const std::string& name) {
  std::string names;
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return kind;
    absl::StrAppend(&names, names.empty() ? "" : ", ", kind.name);
  }
  return absl::UnimplementedError(
      absl::StrCat(path, ": architecture ", name, " cannot be read: these can: ", names));
}

absl::StatusOr<json> ReadConfig(Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  json j = json::parse(text, nullptr, false);
  if (j.is_discarded() || !j.is_object())
    return absl::DataLossError(absl::StrCat(path, " is not a JSON object"));
  return j;
}

bool IsVersion6(const json& config) {
  const auto metadata = config.find("metadata");
  const json& from =
      metadata != config.end() && metadata->contains("sae_lens_version") ? *metadata : config;
  const auto it = from.find("sae_lens_version");
  std::int64_t major = 0;
  if (it == from.end() || !it->is_string()) return false;
  const std::string text = it->get<std::string>();
  return absl::SimpleAtoi(text.substr(0, text.find('.')), &major) && major >= 6;
}

/// Before version 6 the fields were flat and topk was an activation function of `standard`.
absl::StatusOr<json> Modern(json config, const std::string& path) {
  if (IsVersion6(config)) return config;
  for (const auto& [from, to] :
       {std::pair{"activation_fn_str", "activation_fn"}, {"hook_point", "hook_name"}}) {
    if (config.contains(from)) config[to] = config[from];
  }
  if (!config.contains("architecture")) config["architecture"] = "standard";
  const json activation = config.value("activation_fn", json("relu"));
  const json arguments = config.value("activation_fn_kwargs", json::object());
  if (activation == "topk" && arguments.contains("k")) {
    config["architecture"] = "topk";
    config["k"] = arguments["k"];
  } else if (activation != "relu") {
    return absl::UnimplementedError(absl::StrCat(path, ": activation_fn ", activation.dump(),
                                                 " cannot be read: relu and topk can"));
  }
  json& normalize = config["normalize_activations"];
  if (normalize.is_boolean())
    normalize = normalize.get<bool>() ? "expected_average_only_in" : "none";
  config["metadata"] = json::object();
  for (const char* name :
       {"model_name", "hook_name", "dataset_path", "context_size", "hook_name_out"}) {
    if (config.contains(name)) config["metadata"][name] = config[name];
  }
  return config;
}

/// An absent or null field is `otherwise`.
template <class T>
absl::StatusOr<T> FieldOr(const json& config, const std::string& path, const char* name,
                          T otherwise) {
  const auto it = config.find(name);
  if (it == config.end() || it->is_null()) return otherwise;
  try {
    return it->get<T>();
  } catch (const json::exception&) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", name, " is ", it->dump(), ", of the wrong type"));
  }
}

template <class T>
absl::StatusOr<T> Field(const json& config, const std::string& path, const char* name) {
  if (!config.contains(name))
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, " is missing"));
  return FieldOr<T>(config, path, name, T());
}

absl::Status ReadNormalisation(const json& config, const std::string& path, const Kind& kind,
                               model::Sae& sae) {
  const auto it = config.find("normalize_activations");
  if (it == config.end() || it->is_null()) return absl::OkStatus();
  const std::string mode = it->is_string() ? it->get<std::string>() : it->dump();
  sae.restore = !kind.transcoder;  // a transcoder normalises its input alone
  if (mode == "none") return absl::OkStatus();
  if (mode == "layer_norm") {
    sae.normalisation = Normalisation::kLayerNorm;
    return absl::OkStatus();
  }
  if (mode == "constant_norm_rescale") {
    sae.normalisation = Normalisation::kConstantNorm;
    return absl::OkStatus();
  }
  // SAELens folds these before it saves an SAE for inference, and ignores them in such a file; in a
  // training checkpoint the factors lie in another file.
  if (mode == "expected_average_only_in" || mode == "covariance_whitening") {
    if (sae.architecture != "batchtopk" && sae.architecture != "matryoshka")
      return absl::OkStatus();
    return absl::UnimplementedError(
        absl::StrCat(path, ": normalize_activations ", mode,
                     " of a training checkpoint is "
                     "not folded: write it with SAELens' save_inference_model first"));
  }
  return absl::UnimplementedError(absl::StrCat(path, ": normalize_activations ", mode,
                                               " cannot be read: none, "
                                               "layer_norm and constant_norm_rescale can"));
}

absl::Status ReadShape(const json& config, const std::string& path, const Kind& kind,
                       model::Sae& sae) {
  sae.architecture = kind.ours;
  sae.transcoder = kind.transcoder;
  SAE_ASSIGN_OR_RETURN(sae.d, Field<std::int64_t>(config, path, "d_in"));
  SAE_ASSIGN_OR_RETURN(sae.latents, Field<std::int64_t>(config, path, "d_sae"));
  if (kind.transcoder) {
    SAE_ASSIGN_OR_RETURN(sae.d_out, Field<std::int64_t>(config, path, "d_out"));
  }
  SAE_ASSIGN_OR_RETURN(sae.pre_bias,
                       FieldOr(config, path, "apply_b_dec_to_input", !kind.transcoder));
  if (kind.transcoder && sae.pre_bias) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": apply_b_dec_to_input is true, which no transcoder has"));
  }
  if (sae.architecture == "topk") {
    SAE_ASSIGN_OR_RETURN(const double k, Field<double>(config, path, "k"));
    sae.k = static_cast<std::int64_t>(k);
  }
  return ReadNormalisation(config, path, kind, sae);
}

absl::Status ReadMetadata(const json& config, const std::string& path, model::Sae& sae) {
  SAE_ASSIGN_OR_RETURN(const json metadata, FieldOr(config, path, "metadata", json::object()));
  for (const auto& [key, from] : {std::pair{"model", "model_name"},
                                  {"hook", "hook_name"},
                                  {"corpus", "dataset_path"},
                                  {"target_hook", "hook_name_out"}}) {
    const auto it = metadata.find(from);
    if (it != metadata.end() && it->is_string() && *it != kSaeLensUnknown)
      sae.source[key] = it->get<std::string>();
  }
  if (metadata.contains("context_size") && metadata["context_size"].is_number_integer()) {
    sae.source["context"] = std::to_string(metadata["context_size"].get<std::int64_t>());
  }
  // SAELens has no topk transcoder: one is a topk SAE that names another place for its output.
  const auto out = metadata.find("hook_name_out");
  if (sae.architecture == "topk" && out != metadata.end() && out->is_string())
    sae.transcoder = true;
  return absl::OkStatus();
}

/// A file's tensors by name; those not asked for would change the function, so they are an error.
class Tensors {
 public:
  explicit Tensors(const SafetensorsReader& file) : file_(file) {}
  bool Has(const std::string& name) const { return file_.tensors().count(name) > 0; }
  absl::Status Read(const std::string& name, const std::vector<std::int64_t>& shape,
                    std::vector<float>& out) {
    used_.insert(name);
    SAE_ASSIGN_OR_RETURN(out, file_.GetFloats(name, shape));
    return absl::OkStatus();
  }
  /// SAELens keeps topk_threshold in float64.
  absl::StatusOr<double> Scalar(const std::string& name) {
    used_.insert(name);
    SAE_ASSIGN_OR_RETURN(const TensorView view, file_.Get(name));
    if (view.elements() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.path(), ": ", name, " has ", view.elements(), " values, needs 1"));
    }
    double value = 0;
    if (view.dtype == DType::kF64) {
      std::memcpy(&value, view.data.data(), sizeof value);
      return value;
    }
    SAE_ASSIGN_OR_RETURN(const std::vector<float> values, file_.GetFloats(name));
    return double{values[0]};
  }
  absl::Status CheckAllUsed(const std::string& architecture) const {
    for (const auto& [name, view] : file_.tensors()) {
      if (used_.count(name) == 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            file_.path(), ": tensor ", name, " is none that architecture ", architecture, " has"));
      }
    }
    return absl::OkStatus();
  }

 private:
  const SafetensorsReader& file_;
  std::set<std::string> used_;
};

absl::Status ReadTensors(Tensors& tensors, const Kind& kind, model::Sae& sae) {
  const std::int64_t n = sae.latents, d = sae.d, width = sae.width();
  std::vector<float> w_enc;
  SAE_RETURN_IF_ERROR(tensors.Read("W_enc", {d, n}, w_enc));
  sae.w_enc = Transposed(w_enc, d, n);
  SAE_RETURN_IF_ERROR(tensors.Read("W_dec", {n, width}, sae.w_dec));
  SAE_RETURN_IF_ERROR(tensors.Read("b_dec", {width}, sae.b_dec));
  const bool gated = sae.architecture == "gated";
  SAE_RETURN_IF_ERROR(tensors.Read(gated ? "b_gate" : "b_enc", {n}, sae.b_enc));
  if (gated) {
    SAE_RETURN_IF_ERROR(tensors.Read("b_mag", {n}, sae.b_mag));
    SAE_RETURN_IF_ERROR(tensors.Read("r_mag", {n}, sae.r_mag));
  }
  if (sae.architecture == "jumprelu") {
    // Training checkpoints before 6.48 keep the logarithm.
    const bool log = !tensors.Has("threshold") && tensors.Has("log_threshold");
    SAE_RETURN_IF_ERROR(tensors.Read(log ? "log_threshold" : "threshold", {n}, sae.threshold));
    for (float& t : sae.threshold) t = log ? static_cast<float>(std::exp(double{t})) : t;
  }
  return kind.skip ? tensors.Read("W_skip", {width, d}, sae.w_skip) : absl::OkStatus();
}

/// Norms, and the common threshold of a training checkpoint: it is in units of the rescaled
/// activations.
absl::Status Fold(const json& config, const std::string& path, Tensors& tensors, model::Sae& sae) {
  SAE_ASSIGN_OR_RETURN(const bool norm_aware,
                       FieldOr(config, path, "rescale_acts_by_decoder_norm", false));
  const bool batch = sae.architecture == "batchtopk" || sae.architecture == "matryoshka";
  if (norm_aware && (batch || sae.architecture == "topk")) {
    SAE_RETURN_IF_ERROR(FoldDecoderNorms(&sae, true));
  }
  if (!batch) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const double theta, tensors.Scalar("topk_threshold"));
  if (theta == 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        ": topk_threshold is 0: this SAE has not been trained, so it has no inference threshold"));
  }
  return SetBatchThreshold(theta, &sae);
}

}  // namespace

absl::StatusOr<model::Sae> ReadSaeLens(Env& env, const std::string& folder) {
  const std::string path = folder + kSaeLensConfig;
  SAE_ASSIGN_OR_RETURN(json read, ReadConfig(env, path));
  SAE_ASSIGN_OR_RETURN(const json config, Modern(std::move(read), path));
  SAE_ASSIGN_OR_RETURN(const std::string architecture,
                       Field<std::string>(config, path, "architecture"));
  SAE_ASSIGN_OR_RETURN(const Kind kind, KindOf(path, architecture));
  model::Sae sae;
  SAE_RETURN_IF_ERROR(ReadShape(config, path, kind, sae));
  SAE_RETURN_IF_ERROR(ReadMetadata(config, path, sae));
  SAE_ASSIGN_OR_RETURN(const auto file, SafetensorsReader::Open(folder + kSaeLensWeights));
  Tensors tensors(*file);
  SAE_RETURN_IF_ERROR(ReadTensors(tensors, kind, sae));
  SAE_RETURN_IF_ERROR(Fold(config, path, tensors, sae));
  SAE_RETURN_IF_ERROR(tensors.CheckAllUsed(architecture));
  SAE_RETURN_IF_ERROR(Annotate(model::Validate(sae), folder));
  return sae;
}

}  // namespace sae::checkpoint
