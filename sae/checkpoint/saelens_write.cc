#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"

#include "sae/base/safetensors.h"
#include "sae/checkpoint/saelens.h"
#include "sae/checkpoint/saelens_files.h"
#include "sae/model/sae_fold.h"

namespace sae::checkpoint {
namespace {
using model::Activation;
using model::Normalisation;
using nlohmann::json;

// The release whose loader the files are checked against; a version of 6 or more keeps `metadata`.
constexpr char kVersion[] = "6.54.12";

struct Prepared {
  model::Sae sae;
  std::string architecture;  ///< SAELens' word
};

/// SAELens' topk knows one width and no skip; a transcoder of one width is a topk SAE that does not
/// subtract b_dec.
absl::Status CheckTopKTranscoder(const model::Sae& sae) {
  if (sae.w_skip.empty() && sae.width() == sae.d) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "SAELens v6 has no topk transcoder with ", sae.w_skip.empty() ? "two widths" : "a skip",
      " (its topk knows one width, "
      "W_enc, b_enc, W_dec, b_dec): train batchtopk or jumprelu for an export, or use the "
      "checkpoint with saeloom encode"));
}

/// The form that SAELens holds: norms folded, gates of transcoders as thresholds, b_dec of
/// transcoders not subtracted.
absl::StatusOr<Prepared> Prepare(model::Sae sae) {
  Prepared out;
  SAE_ASSIGN_OR_RETURN(Activation activation, model::ActivationOf(sae.architecture));
  const bool native =
      !sae.transcoder ||
      activation == Activation::kTopK;  // an architecture of theirs that is no transcoder
  if (activation == Activation::kTopK) {
    SAE_RETURN_IF_ERROR(CheckTopKTranscoder(sae));
  } else {
    SAE_RETURN_IF_ERROR(model::FoldDecoderNorms(&sae));
  }
  if (sae.normalisation != Normalisation::kNone && sae.restore != native) {
    return absl::UnimplementedError(absl::StrCat(
        "in SAELens v6 ",
        native ? "an SAE maps its output back" : "a transcoder's output is not mapped back",
        " after normalisation, in this one it is ", native ? "not" : "mapped back",
        ": train with sae.input_scale rms for an export, or use the checkpoint with saeloom "
        "encode"));
  }
  if (sae.transcoder) model::FoldPreBias(&sae);
  if (!native && activation == Activation::kGated) {
    SAE_RETURN_IF_ERROR(model::ToJumpRelu(&sae));
    activation = Activation::kJumpRelu;
  }
  const bool jump = activation == Activation::kJumpRelu;
  if (native) {
    out.architecture = activation == Activation::kTopK    ? "topk"
                       : jump                             ? "jumprelu"
                       : activation == Activation::kGated ? "gated"
                                                          : "standard";
  } else {
    out.architecture =
        absl::StrCat(jump ? "jumprelu_" : "", sae.w_skip.empty() ? "" : "skip_", "transcoder");
  }
  out.sae = std::move(sae);
  return out;
}

/// Of one sequence, in tokens; null where it is not known.
json Context(const model::Sae& sae) {
  const auto it = sae.source.find("context");
  std::int64_t tokens = 0;
  return it != sae.source.end() && absl::SimpleAtoi(it->second, &tokens) ? json(tokens)
                                                                         : json(nullptr);
}

json SourceOr(const model::Sae& sae, const char* key, const json& otherwise) {
  const auto it = sae.source.find(key);
  return it == sae.source.end() || it->second.empty() ? otherwise : json(it->second);
}

const char* NormalisationName(const model::Sae& sae) {
  switch (sae.normalisation) {
    case Normalisation::kNone:
      return "none";
    case Normalisation::kLayerNorm:
      return "layer_norm";
    case Normalisation::kConstantNorm:
      return "constant_norm_rescale";
  }
  return "none";
}

json Config(const Prepared& p, const std::string& trained_as) {
  const model::Sae& sae = p.sae;
  json config = {{"d_in", sae.d},
                 {"d_sae", sae.latents},
                 {"dtype", "float32"},
                 {"device", "cpu"},
                 {"apply_b_dec_to_input", sae.pre_bias},
                 {"normalize_activations", NormalisationName(sae)},
                 {"reshape_activations", "none"},
                 {"architecture", p.architecture}};
  if (p.architecture == "topk") {
    config["k"] = sae.k;
    config["rescale_acts_by_decoder_norm"] = false;
  } else if (sae.transcoder) {
    config["d_out"] = sae.width();
  }
  config["metadata"] = {
      {"sae_lens_version", kVersion},
      {"sae_lens_training_version", kVersion},
      {"model_name", SourceOr(sae, "model", kSaeLensUnknown)},
      {"model_class_name", "HookedTransformer"},
      {"hook_name", SourceOr(sae, "hook", kSaeLensUnknown)},
      {"hook_head_index", nullptr},
      {"context_size", Context(sae)},
      {"prepend_bos", false},
      {"seqpos_slice", json::array({nullptr})},
      {"exclude_special_tokens", true},
      {"sequence_separator_token", nullptr},
      {"disable_concat_sequences", false},
      {"model_from_pretrained_kwargs", json::object()},
      {"dataset_path", SourceOr(sae, "corpus", kSaeLensUnknown)},
      {"hook_name_out",
       sae.transcoder ? SourceOr(sae, "target_hook", kSaeLensUnknown) : json(nullptr)},
      {"neuronpedia_id", nullptr},
      {"training_architecture", trained_as},
      {"written_by", "saeloom"}};
  return config;
}

TensorToWrite Floats(const char* name, std::vector<std::int64_t> shape,
                     const std::vector<float>& values) {
  return {name, DType::kF32, std::move(shape), AsBytes(values.data(), values.size())};
}

absl::Status WriteFiles(Env& env, const std::string& folder, const Prepared& p,
                        const std::string& trained_as) {
  const model::Sae& sae = p.sae;
  const std::int64_t n = sae.latents;
  const bool gated = p.architecture == "gated";
  const std::vector<float> w_enc = Transposed(sae.w_enc, n, sae.d);
  std::vector<TensorToWrite> tensors = {Floats("W_enc", {sae.d, n}, w_enc),
                                        Floats("W_dec", {n, sae.width()}, sae.w_dec),
                                        Floats(gated ? "b_gate" : "b_enc", {n}, sae.b_enc),
                                        Floats("b_dec", {sae.width()}, sae.b_dec)};
  if (gated) {
    tensors.push_back(Floats("b_mag", {n}, sae.b_mag));
    tensors.push_back(Floats("r_mag", {n}, sae.r_mag));
  }
  if (!sae.threshold.empty()) tensors.push_back(Floats("threshold", {n}, sae.threshold));
  if (!sae.w_skip.empty()) tensors.push_back(Floats("W_skip", {sae.width(), sae.d}, sae.w_skip));
  SAE_RETURN_IF_ERROR(WriteSafetensors(env, folder + kSaeLensWeights, tensors).status());
  return WriteFileAtomically(env, folder + kSaeLensConfig, Config(p, trained_as).dump(2) + "\n");
}

}  // namespace

absl::Status WriteSaeLens(Env& env, const std::string& folder, const model::Sae& sae) {
  SAE_RETURN_IF_ERROR(model::Validate(sae));
  SAE_ASSIGN_OR_RETURN(const Prepared prepared, Prepare(sae));
  if (env.Exists(folder)) {
    const auto names = env.List(folder);
    if (!names.ok() || !names->empty()) {
      return absl::AlreadyExistsError(
          absl::StrCat(folder, " is there already: choose another --out, or remove it"));
    }
  }
  const std::int64_t values = sae.latents * (sae.d + sae.width() + 3) + sae.width() * (sae.d + 1);
  SAE_RETURN_IF_ERROR(RequireFreeBytes(env, folder, values * 4 + (1 << 16), "the exported SAE"));
  SAE_RETURN_IF_ERROR(env.MakeDirectories(folder));
  absl::Status status = WriteFiles(env, folder, prepared, sae.architecture);
  if (!status.ok()) env.RemoveAll(folder).IgnoreError();
  return status;
}

}  // namespace sae::checkpoint
