#include "sae/base/safetensors.h"
#include "sae/checkpoint/saelens.h"

namespace sae::checkpoint {

absl::Status WriteSaeLensGolden(Env& env, const std::string& folder, std::span<const float> rows,
                                ThreadPool& pool) {
  SAE_ASSIGN_OR_RETURN(const model::Sae sae, ReadSaeLens(env, folder));
  SAE_ASSIGN_OR_RETURN(const auto runner, model::SaeRunner::Create(sae, pool));
  const std::int64_t tokens = static_cast<std::int64_t>(rows.size()) / sae.d;
  std::vector<float> x_hat(static_cast<std::size_t>(tokens * sae.width()));
  SAE_ASSIGN_OR_RETURN(const auto* codes, runner->Forward(rows, std::span(x_hat)));
  std::vector<float> f(static_cast<std::size_t>(tokens * sae.latents), 0.0F);
  for (std::int64_t b = 0; b < tokens; ++b) {
    for (auto e = static_cast<std::size_t>(codes->indptr[static_cast<std::size_t>(b)]);
         e < static_cast<std::size_t>(codes->indptr[static_cast<std::size_t>(b) + 1]); ++e) {
      f[static_cast<std::size_t>(b * sae.latents + codes->ids[e])] = codes->values[e];
    }
  }
  return WriteSafetensors(
             env, folder + "/golden.safetensors",
             {{"x", DType::kF32, {tokens, sae.d}, AsBytes(rows.data(), rows.size())},
              {"f", DType::kF32, {tokens, sae.latents}, AsBytes(f.data(), f.size())},
              {"x_hat", DType::kF32, {tokens, sae.width()}, AsBytes(x_hat.data(), x_hat.size())}},
             {{"rtol", "1e-5"}})
      .status();
}

}  // namespace sae::checkpoint
