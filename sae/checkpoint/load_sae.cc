#include "sae/checkpoint/load_sae.h"

#include <variant>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/saelens.h"
#include "sae/model/state.h"

namespace sae::checkpoint {
namespace {

// The scale S of training (x' = x / S) folded in: biases times S, matrices unchanged.
void Fold(model::Sae& sae, double scale) {
  for (float& b : sae.b_enc) b = static_cast<float>(b * scale);
  for (float& b : sae.b_dec) b = static_cast<float>(b * scale);
}

// W x + b = W (x - b_dec) + (b + W b_dec): the form that a checkpoint keeps.
void AddPreBias(model::Sae& sae) {
  for (std::int64_t i = 0; i < sae.latents; ++i) {
    double dot = 0;
    for (std::int64_t j = 0; j < sae.d; ++j) {
      dot += double{sae.w_enc[static_cast<std::size_t>(i * sae.d + j)]} * sae.b_dec[static_cast<std::size_t>(j)];
    }
    float& b = sae.b_enc[static_cast<std::size_t>(i)];
    b = static_cast<float>(b + dot);
  }
  sae.pre_bias = true;
}

double ScalarOr(const Manifest& manifest, const std::string& name, double otherwise) {
  const auto it = manifest.scalars.find(name);
  if (it == manifest.scalars.end()) return otherwise;
  return std::visit([](auto v) { return static_cast<double>(v); }, it->second);
}

}  // namespace

absl::StatusOr<LoadedCheckpoint> LoadCheckpointSae(Env& env, const std::string& folder) {
  LoadedCheckpoint out{.folder = folder, .manifest = {}, .sae = {}};
  if (!env.Exists(folder + "/manifest.json")) {
    // Perhaps the folder of all checkpoints of a trial.
    const auto self = comm::CreateSelf();
    SAE_ASSIGN_OR_RETURN(Latest latest, FindLatest(env, *self, folder));
    if (latest.name.empty()) {
      return absl::NotFoundError(absl::StrCat("no checkpoint in ", folder,
                                              ": give a folder step-... or one that holds some"));
    }
    out.folder = folder + "/" + latest.name;
    out.manifest = std::move(latest.manifest);
  } else {
    SAE_ASSIGN_OR_RETURN(out.manifest, ReadManifest(env, folder));
    SAE_RETURN_IF_ERROR(Verify(env, folder, out.manifest));
  }
  const Manifest& m = out.manifest;
  model::Sae& sae = out.sae;
  sae.architecture = m.info.config.sae.architecture;
  sae.d = m.info.d;
  sae.latents = m.latents;
  sae.k = m.info.config.sae.k;
  sae.source = m.info.source;
  SAE_ASSIGN_OR_RETURN(sae.w_enc, ReadTensor(out.folder, m, "W_enc"));
  SAE_ASSIGN_OR_RETURN(sae.w_dec, ReadTensor(out.folder, m, "W_dec"));
  SAE_ASSIGN_OR_RETURN(sae.b_enc, ReadTensor(out.folder, m, "b_enc"));
  SAE_ASSIGN_OR_RETURN(sae.b_dec, ReadTensor(out.folder, m, "b_dec"));
  Fold(sae, ScalarOr(m, "input_scale", 1.0));
  SAE_RETURN_IF_ERROR(Annotate(model::Validate(sae), out.folder));
  return out;
}

absl::StatusOr<model::Sae> LoadSae(Env& env, const std::string& folder) {
  if (!env.Exists(folder)) return absl::NotFoundError(absl::StrCat("no SAE at ", folder, ": there is no such folder"));
  if (env.Exists(folder + "/cfg.json")) return ReadSaeLens(env, folder);
  if (env.Exists(folder + "/manifest.json")) {
    SAE_ASSIGN_OR_RETURN(LoadedCheckpoint loaded, LoadCheckpointSae(env, folder));
    return std::move(loaded.sae);
  }
  absl::StatusOr<LoadedCheckpoint> loaded = LoadCheckpointSae(env, folder);
  if (loaded.ok()) return std::move(loaded->sae);
  if (!absl::IsNotFound(loaded.status())) return loaded.status();
  return absl::InvalidArgumentError(absl::StrCat(
      folder, " is no SAE: it holds neither a checkpoint (manifest.json, or step-... folders) nor SAELens files (cfg.json)"));
}

absl::StatusOr<std::string> SaveSae(Env& env, const std::string& directory, model::Sae sae) {
  SAE_RETURN_IF_ERROR(model::Validate(sae));
  if (!sae.pre_bias) AddPreBias(sae);
  Info info;
  info.d = sae.d;
  info.config.sae.architecture = sae.architecture;
  info.config.sae.latents = sae.latents;
  info.config.sae.k = sae.k;
  info.config.sae.aux_k = 0;
  info.source = sae.source;
  double scale = 1;
  model::State state{.latents = sae.latents, .first = 0, .count = sae.latents, .tensors = {}, .scalars = {}};
  state.tensors = {{"W_enc", DType::kF32, {sae.latents, sae.d}, sae.w_enc.data(), true},
                   {"W_dec", DType::kF32, {sae.latents, sae.d}, sae.w_dec.data(), true},
                   {"b_enc", DType::kF32, {sae.latents}, sae.b_enc.data(), true},
                   {"b_dec", DType::kF32, {sae.d}, sae.b_dec.data(), false}};
  state.scalars = {{"input_scale", &scale}};
  const auto self = comm::CreateSelf();
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory));
  return SaveCheckpoint(env, *self, directory, state, info, {.keep = 0, .writer = "import"});
}

}  // namespace sae::checkpoint
