#pragma once
// A language model that can be stopped at a hook. The interface has no LibTorch in it, so that what
// uses it (the harvester) builds and is tested without; LoadLlama is the implementation.
// A model uses `threads` threads of its own while a call runs; one call at a time. The GGUF reader
// is borrowed and must outlive the model. Errors: INVALID_ARGUMENT for tokens outside the
// vocabulary or spans that are empty, out of order or longer than the model's context;
// UNIMPLEMENTED from LoadLlama in a build without LibTorch.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/gguf.h"
#include "sae/lm/hook.h"
#include "sae/lm/llama_config.h"

namespace sae::lm {

enum class Compute { kF32, kBf16 };
std::string ComputeName(Compute compute);
/// "f32" or "bf16".
[[nodiscard]] absl::StatusOr<Compute> ParseCompute(const std::string& name);

/// Tokens side by side. A span is what attends to itself, causally, at positions 0, 1, ...; nothing
/// attends across spans.
struct TokenBatch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t>
      span_begins;  ///< ascending, the first is 0; each ends where the next begins

  void StartSpan() { span_begins.push_back(static_cast<std::int64_t>(tokens.size())); }
  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t spans() const { return static_cast<std::int64_t>(span_begins.size()); }
  std::int64_t span_end(std::int64_t i) const {
    return i + 1 < spans() ? span_begins[static_cast<std::size_t>(i) + 1] : size();
  }
};
[[nodiscard]] absl::Status ValidateBatch(const TokenBatch& batch, const LlamaConfig& config);

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const LlamaConfig& config() const = 0;
  /// Runs the batch up to the last of `hooks` and fills out[i], float32 [tokens, d], with hooks[i].
  [[nodiscard]] virtual absl::Status Run(const TokenBatch& batch, const std::vector<Hook>& hooks,
                                         const std::vector<std::span<float>>& out) = 0;
  /// Logits after the last block of the tokens at `rows` of the batch: [rows, vocabulary].
  [[nodiscard]] virtual absl::StatusOr<std::vector<float>> Logits(
      const TokenBatch& batch, const std::vector<std::int64_t>& rows) = 0;
  /// Mean over all tokens but the last of each span of -log p(next token), accumulated in float64.
  [[nodiscard]] virtual absl::StatusOr<double> MeanCrossEntropy(const TokenBatch& batch) = 0;
};

struct LanguageModelOptions {
  Compute compute = Compute::kF32;
  int threads = 1;
  /// Only these blocks are loaded; -1 = all. Hooks and logits beyond them are FAILED_PRECONDITION.
  std::int64_t blocks = -1;
};

/// Weights are dequantised and packed for the processor; the embedding stays quantised.
[[nodiscard]] absl::StatusOr<std::unique_ptr<LanguageModel>> LoadLlama(
    const GgufReader& gguf, const LanguageModelOptions& options);

}  // namespace sae::lm
