#include "sae/lm/language_model.h"

namespace sae::lm {

std::string ComputeName(Compute compute) { return compute == Compute::kF32 ? "f32" : "bf16"; }

absl::StatusOr<Compute> ParseCompute(const std::string& name) {
  if (name == "f32") return Compute::kF32;
  if (name == "bf16") return Compute::kBf16;
  return absl::InvalidArgumentError(
      absl::StrCat("compute type \"", name, "\" is neither f32 nor bf16"));
}

absl::Status ValidateBatch(const TokenBatch& batch, const LlamaConfig& config) {
  if (batch.tokens.empty() || batch.span_begins.empty() || batch.span_begins[0] != 0) {
    return absl::InvalidArgumentError(
        "token batch: no tokens, or its first span does not begin at 0");
  }
  for (std::int64_t i = 0; i < batch.spans(); ++i) {
    const std::int64_t length = batch.span_end(i) - batch.span_begins[static_cast<std::size_t>(i)];
    if (length < 1 || length > config.context) {
      return absl::InvalidArgumentError(absl::StrCat("token batch: span ", i, " has ", length,
                                                     " tokens, the model takes 1 to ",
                                                     config.context));
    }
  }
  for (const std::int32_t token : batch.tokens) {
    if (token < 0 || token >= config.vocabulary) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token batch: token ", token, " is outside the vocabulary of ", config.vocabulary));
    }
  }
  return absl::OkStatus();
}

}  // namespace sae::lm
