#include "sae/lm/llama_weights.h"

#include <algorithm>

namespace sae::lm {

void HalfSplitRows(std::vector<float>& rows, std::int64_t heads, std::int64_t head_size,
                   std::int64_t d) {
  std::vector<float> head_rows(static_cast<std::size_t>(head_size * d));
  for (std::int64_t head = 0; head < heads; ++head) {
    float* at = rows.data() + head * head_size * d;
    std::copy(at, at + head_size * d, head_rows.begin());
    for (std::int64_t i = 0; i < head_size; ++i) {
      const float* from = head_rows.data() + i * d;
      std::copy(from, from + d, at + (i / 2 + (i % 2) * (head_size / 2)) * d);
    }
  }
}

absl::Status DequantiseRows(const GgufTensor& tensor, std::int64_t first, std::int64_t count,
                            float* out) {
  const std::int64_t columns = tensor.dimensions[0];
  const GgmlTypeInfo* info = InfoOf(tensor.type);
  const std::int64_t row_bytes =
      info == nullptr ? 0 : columns / info->block_values * info->block_bytes;
  return Dequantise(tensor.type,
                    tensor.data.subspan(static_cast<std::size_t>(first * row_bytes),
                                        static_cast<std::size_t>(count * row_bytes)),
                    {out, static_cast<std::size_t>(count * columns)});
}

absl::StatusOr<LlamaBlock> LoadBlock(const GgufReader& gguf, const LlamaConfig& c,
                                     std::int64_t block, Compute compute) {
  const auto name = [&](const char* part) {
    return absl::StrCat("blk.", block, ".", part, ".weight");
  };
  SAE_ASSIGN_OR_RETURN(std::vector<float> attention_norm, gguf.Floats(name("attn_norm"), {c.d}));
  SAE_ASSIGN_OR_RETURN(std::vector<float> mlp_norm, gguf.Floats(name("ffn_norm"), {c.d}));

  SAE_ASSIGN_OR_RETURN(std::vector<float> rows, gguf.Floats(name("attn_q"), {c.d, c.q_width()}));
  SAE_ASSIGN_OR_RETURN(std::vector<float> k, gguf.Floats(name("attn_k"), {c.d, c.kv_width()}));
  SAE_ASSIGN_OR_RETURN(const std::vector<float> v,
                       gguf.Floats(name("attn_v"), {c.d, c.kv_width()}));
  HalfSplitRows(rows, c.heads, c.head_size, c.d);
  HalfSplitRows(k, c.kv_heads, c.head_size, c.d);
  rows.insert(rows.end(), k.begin(), k.end());
  rows.insert(rows.end(), v.begin(), v.end());
  SAE_ASSIGN_OR_RETURN(PackedWeights qkv,
                       PackedWeights::Create(rows, c.q_width() + 2 * c.kv_width(), c.d, compute));

  SAE_ASSIGN_OR_RETURN(rows, gguf.Floats(name("attn_output"), {c.q_width(), c.d}));
  SAE_ASSIGN_OR_RETURN(PackedWeights attention_out,
                       PackedWeights::Create(rows, c.d, c.q_width(), compute));

  SAE_ASSIGN_OR_RETURN(rows, gguf.Floats(name("ffn_gate"), {c.d, c.mlp}));
  SAE_ASSIGN_OR_RETURN(const std::vector<float> up, gguf.Floats(name("ffn_up"), {c.d, c.mlp}));
  rows.insert(rows.end(), up.begin(), up.end());
  SAE_ASSIGN_OR_RETURN(PackedWeights gate_up, PackedWeights::Create(rows, 2 * c.mlp, c.d, compute));

  SAE_ASSIGN_OR_RETURN(rows, gguf.Floats(name("ffn_down"), {c.mlp, c.d}));
  SAE_ASSIGN_OR_RETURN(PackedWeights down, PackedWeights::Create(rows, c.d, c.mlp, compute));
  return LlamaBlock{std::move(attention_norm), std::move(mlp_norm), std::move(qkv),
                    std::move(attention_out),  std::move(gate_up),  std::move(down)};
}

}  // namespace sae::lm
