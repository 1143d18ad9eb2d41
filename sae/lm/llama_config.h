#pragma once
// The sizes of a Llama-family model, from GGUF metadata. Plain data.
// Errors: UNIMPLEMENTED for another architecture or a variant we do not run (RoPE scaling, experts,
// biases: names it), DATA_LOSS for sizes that contradict each other, NOT_FOUND for a missing key.

#include <cstdint>
#include <string>

#include "sae/base/status.h"
#include "sae/lm/gguf.h"

namespace sae::lm {

struct LlamaConfig {
  std::string name;
  std::int64_t blocks = 0;
  std::int64_t d = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t mlp = 0;
  std::int64_t vocabulary = 0;
  std::int64_t context = 0;
  double rope_base = 10000;
  double norm_eps = 1e-5;

  std::int64_t q_width() const { return heads * head_size; }
  std::int64_t kv_width() const { return kv_heads * head_size; }
  /// Query heads that read one key/value head.
  std::int64_t group() const { return heads / kv_heads; }
};

[[nodiscard]] absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufReader& gguf);

}  // namespace sae::lm
