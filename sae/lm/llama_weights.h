#pragma once
// The weights of a Llama model, dequantised, fused and packed: q, k and v are one product, gate and
// up another; rows of q and k are put in half-split RoPE order (the file has pairs side by side).
// Immutable after loading, thread-safe.

#include <cstdint>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/llama_config.h"
#include "sae/lm/matmul.h"

namespace sae::lm {

struct LlamaBlock {
  std::vector<float> attention_norm;  ///< [d]
  std::vector<float> mlp_norm;        ///< [d]
  PackedWeights qkv;                  ///< [q_width + 2 kv_width, d]
  PackedWeights attention_out;        ///< [d, q_width]
  PackedWeights gate_up;              ///< [2 mlp, d]
  PackedWeights down;                 ///< [d, mlp]
};

[[nodiscard]] absl::StatusOr<LlamaBlock> LoadBlock(const GgufReader& gguf,
                                                   const LlamaConfig& config, std::int64_t block,
                                                   Compute compute);

/// Rows `first` .. `first + count` of a matrix of the file, as float32 [count, columns].
[[nodiscard]] absl::Status DequantiseRows(const GgufTensor& tensor, std::int64_t first,
                                          std::int64_t count, float* out);

/// Moves row 2i of each head to i and row 2i + 1 to i + head_size / 2; `rows` is [heads *
/// head_size, d].
void HalfSplitRows(std::vector<float>& rows, std::int64_t heads, std::int64_t head_size,
                   std::int64_t d);

}  // namespace sae::lm
