#include "sae/checkpoint/load_sae.h"

#include <cmath>
#include <variant>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/saelens.h"
#include "sae/model/sae_fold.h"

namespace sae::checkpoint {
namespace {

double ScalarOr(const Manifest& manifest, const std::string& name, double otherwise) {
  const auto it = manifest.scalars.find(name);
  if (it == manifest.scalars.end()) return otherwise;
  return std::visit([](auto v) { return static_cast<double>(v); }, it->second);
}

/// Weight of the mean of parameters: 0 where the run keeps none, or none yet.
double EmaWeight(const Manifest& m) {
  return m.info.config.train.ema > 0 ? ScalarOr(m, "ema_weight", 0) : 0;
}

absl::Status ReadParameter(const LoadedCheckpoint& from, const std::string& name,
                           std::vector<float>& out) {
  const double weight = EmaWeight(from.manifest);
  absl::StatusOr<std::vector<float>> read =
      ReadTensor(from.folder, from.manifest, weight > 0 ? name + ".ema" : name);
  // That a tensor is missing says nothing about the folder's.
  if (absl::IsNotFound(read.status())) return absl::DataLossError(read.status().message());
  SAE_RETURN_IF_ERROR(read.status());
  out = *std::move(read);
  for (float& v : out) {
    if (weight > 0) v = static_cast<float>(v / weight);
  }
  return absl::OkStatus();
}

absl::Status ReadParameters(LoadedCheckpoint& from) {
  model::Sae& sae = from.sae;
  const config::SaeConfig& config = from.manifest.info.config.sae;
  SAE_RETURN_IF_ERROR(ReadParameter(from, "W_enc", sae.w_enc));
  SAE_RETURN_IF_ERROR(ReadParameter(from, "W_dec", sae.w_dec));
  SAE_RETURN_IF_ERROR(ReadParameter(from, "b_enc", sae.b_enc));
  SAE_RETURN_IF_ERROR(ReadParameter(from, "b_dec", sae.b_dec));
  if (sae.architecture == "gated") {
    SAE_RETURN_IF_ERROR(ReadParameter(from, "b_mag", sae.b_mag));
    SAE_RETURN_IF_ERROR(ReadParameter(from, "r_mag", sae.r_mag));
  }
  if (sae.architecture == "jumprelu") {
    const bool log = config.threshold_parameter == "log";
    SAE_RETURN_IF_ERROR(ReadParameter(from, log ? "log_threshold" : "threshold", sae.threshold));
    for (float& t : sae.threshold) t = log ? static_cast<float>(std::exp(double{t})) : t;
  }
  return config.skip ? ReadParameter(from, "W_skip", sae.w_skip) : absl::OkStatus();
}

absl::Status ReadBatchThreshold(const Manifest& m, double scale, model::Sae& sae) {
  const double weight = ScalarOr(m, "batch_threshold_weight", 0);
  if (!(weight > 0)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the threshold at which ", sae.architecture, " encodes is not defined at step ",
        m.info.step, ": no step so far has kept a positive activation; use a later checkpoint"));
  }
  return model::SetBatchThreshold(scale * (ScalarOr(m, "batch_threshold", 0) / weight), &sae);
}

/// Shape and kind, as the configuration and the tensors' shapes say.
void Describe(const Manifest& m, model::Sae& sae) {
  const config::TrialConfig config = config::Resolve(m.info.config, m.info.d);
  sae.architecture = config.sae.architecture;
  sae.d = m.info.d;
  sae.latents = m.latents;
  sae.k = config.sae.k;
  sae.pre_bias = config.sae.pre_bias == "on";
  sae.transcoder = config.sae.transcoder;
  if (config.sae.input_scale == "layer_norm") sae.normalisation = model::Normalisation::kLayerNorm;
  for (const TensorEntry& t : m.tensors) {
    if (t.name == "W_dec" && t.shape.size() == 2 && t.shape[1] != sae.d) sae.d_out = t.shape[1];
  }
  sae.source = m.info.source;
}

absl::Status FindAndVerify(Env& env, LoadedCheckpoint& out) {
  if (env.Exists(out.folder + "/manifest.json")) {
    SAE_ASSIGN_OR_RETURN(out.manifest, ReadManifest(env, out.folder));
    return Verify(env, out.folder, out.manifest);
  }
  // Perhaps the folder of all checkpoints of a trial.
  const auto self = comm::CreateSelf();
  SAE_ASSIGN_OR_RETURN(Latest latest, FindLatest(env, *self, out.folder));
  if (latest.name.empty()) {
    return absl::NotFoundError(absl::StrCat("no checkpoint in ", out.folder,
                                            ": give a folder step-... or one that holds some"));
  }
  out.folder += "/" + latest.name;
  out.manifest = std::move(latest.manifest);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedCheckpoint> LoadCheckpointSae(Env& env, const std::string& folder) {
  LoadedCheckpoint out{.folder = folder, .manifest = {}, .sae = {}};
  SAE_RETURN_IF_ERROR(FindAndVerify(env, out));
  Describe(out.manifest, out.sae);
  const double scale = ScalarOr(out.manifest, "input_scale", 1.0);
  SAE_RETURN_IF_ERROR(Annotate(ReadParameters(out), out.folder));
  if (out.manifest.info.config.sae.decoder == "on_the_fly") model::NormaliseDecoder(&out.sae);
  model::FoldInputScale(scale, &out.sae);
  if (out.sae.architecture == "batchtopk" || out.sae.architecture == "matryoshka") {
    SAE_RETURN_IF_ERROR(Annotate(ReadBatchThreshold(out.manifest, scale, out.sae), out.folder));
  }
  SAE_RETURN_IF_ERROR(Annotate(model::Validate(out.sae), out.folder));
  return out;
}

absl::StatusOr<model::Sae> LoadSae(Env& env, const std::string& folder) {
  if (!env.Exists(folder))
    return absl::NotFoundError(absl::StrCat("no SAE at ", folder, ": there is no such folder"));
  if (env.Exists(folder + "/cfg.json")) return ReadSaeLens(env, folder);
  absl::StatusOr<LoadedCheckpoint> loaded = LoadCheckpointSae(env, folder);
  if (loaded.ok()) return std::move(loaded->sae);
  if (!absl::IsNotFound(loaded.status())) return loaded.status();
  return absl::InvalidArgumentError(
      absl::StrCat(folder,
                   " is no SAE: it holds neither a checkpoint (manifest.json, or step-... folders) "
                   "nor SAELens files (cfg.json)"));
}

}  // namespace sae::checkpoint
