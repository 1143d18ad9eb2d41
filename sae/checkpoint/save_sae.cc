#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/model/sae_fold.h"

namespace sae::checkpoint {
namespace {

config::SaeConfig ConfigOf(const model::Sae& sae) {
  config::SaeConfig config;
  config.architecture = sae.architecture;
  config.latents = sae.latents;
  config.k = sae.k;
  config.aux_k = 0;
  config.pre_bias = sae.pre_bias ? "on" : "off";
  config.decoder = "free";
  config.input_scale =
      sae.normalisation == model::Normalisation::kLayerNorm ? "layer_norm" : "none";
  config.threshold_parameter = "raw";
  config.transcoder = sae.transcoder;
  config.skip = !sae.w_skip.empty();
  return config;
}

model::State StateOf(model::Sae& sae, double* scale) {
  const std::int64_t n = sae.latents;
  model::State state{
      .shard = model::ShardOf(n, 1, 0), .tensors = {}, .scalars = {{"input_scale", scale}}};
  state.tensors = {{"W_enc", DType::kF32, {n, sae.d}, sae.w_enc.data(), true},
                   {"W_dec", DType::kF32, {n, sae.width()}, sae.w_dec.data(), true},
                   {"b_enc", DType::kF32, {n}, sae.b_enc.data(), true},
                   {"b_dec", DType::kF32, {sae.width()}, sae.b_dec.data(), false}};
  const std::pair<const char*, std::vector<float>*> vectors[] = {
      {"threshold", &sae.threshold}, {"b_mag", &sae.b_mag}, {"r_mag", &sae.r_mag}};
  for (const auto& [name, values] : vectors) {
    if (!values->empty()) state.tensors.push_back({name, DType::kF32, {n}, values->data(), true});
  }
  if (!sae.w_skip.empty()) {
    state.tensors.push_back(
        {"W_skip", DType::kF32, {sae.width(), sae.d}, sae.w_skip.data(), false});
  }
  return state;
}

}  // namespace

absl::StatusOr<std::string> SaveSae(Env& env, const std::string& directory, model::Sae sae) {
  SAE_RETURN_IF_ERROR(model::Validate(sae));
  if (sae.normalisation == model::Normalisation::kConstantNorm ||
      (sae.normalisation == model::Normalisation::kLayerNorm && !sae.restore)) {
    return absl::UnimplementedError(
        "a checkpoint cannot say that inputs are scaled to one norm, or that the output of a layer "
        "norm stays as it "
        "is: give the SAELens folder itself to encode and latents");
  }
  // One threshold a latent, where the checkpoint of such a run has one for all.
  if (sae.architecture == "batchtopk" || sae.architecture == "matryoshka") {
    SAE_RETURN_IF_ERROR(model::ToJumpRelu(&sae));
  }
  Info info;
  info.d = sae.d;
  info.config.sae = ConfigOf(sae);
  info.source = sae.source;
  double scale = 1;
  const model::State state = StateOf(sae, &scale);
  const auto self = comm::CreateSelf();
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory));
  return SaveCheckpoint(env, *self, directory, state, info, {.keep = 0, .writer = "import"});
}

}  // namespace sae::checkpoint
