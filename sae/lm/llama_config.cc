#include "sae/lm/llama_config.h"

namespace sae::lm {
namespace {

absl::Status Unsupported(const GgufReader& gguf, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(
      gguf.path(), ": ", what, " is not supported; a Llama-family model without it is needed"));
}

absl::Status RefuseVariants(const GgufReader& gguf, const LlamaConfig& c) {
  if (gguf.Has("llama.rope.scaling.type")) {
    const auto scaling = gguf.Text("llama.rope.scaling.type");
    if (!scaling.ok()) return scaling.status();
    if (*scaling != "none")
      return Unsupported(gguf, absl::StrCat("RoPE scaling \"", *scaling, "\""));
  }
  if (gguf.Tensor("rope_freqs.weight").ok())
    return Unsupported(gguf, "a table of RoPE frequencies");
  if (gguf.Has("llama.rope.dimension_count")) {
    SAE_ASSIGN_OR_RETURN(const std::int64_t turned, gguf.Integer("llama.rope.dimension_count"));
    if (turned != c.head_size)
      return Unsupported(gguf,
                         absl::StrCat("RoPE over ", turned, " of ", c.head_size, " dimensions"));
  }
  if (gguf.Has("llama.expert_count")) {
    SAE_ASSIGN_OR_RETURN(const std::int64_t experts, gguf.Integer("llama.expert_count"));
    if (experts > 0) return Unsupported(gguf, "a mixture of experts");
  }
  for (const char* name : {"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"}) {
    if (gguf.Tensor(absl::StrCat("blk.0.", name)).ok()) return Unsupported(gguf, name);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufReader& gguf) {
  const auto architecture = gguf.Text("general.architecture");
  if (!architecture.ok()) return architecture.status();
  if (*architecture != "llama")
    return Unsupported(gguf, absl::StrCat("architecture \"", *architecture, "\""));
  LlamaConfig c;
  if (gguf.Has("general.name")) {
    SAE_ASSIGN_OR_RETURN(c.name, gguf.Text("general.name"));
  }
  SAE_ASSIGN_OR_RETURN(c.blocks, gguf.Integer("llama.block_count"));
  SAE_ASSIGN_OR_RETURN(c.d, gguf.Integer("llama.embedding_length"));
  SAE_ASSIGN_OR_RETURN(c.heads, gguf.Integer("llama.attention.head_count"));
  c.kv_heads = c.heads;
  if (gguf.Has("llama.attention.head_count_kv")) {
    SAE_ASSIGN_OR_RETURN(c.kv_heads, gguf.Integer("llama.attention.head_count_kv"));
  }
  SAE_ASSIGN_OR_RETURN(c.mlp, gguf.Integer("llama.feed_forward_length"));
  SAE_ASSIGN_OR_RETURN(c.context, gguf.Integer("llama.context_length"));
  if (gguf.Has("llama.rope.freq_base")) {
    SAE_ASSIGN_OR_RETURN(c.rope_base, gguf.Real("llama.rope.freq_base"));
  }
  SAE_ASSIGN_OR_RETURN(c.norm_eps, gguf.Real("llama.attention.layer_norm_rms_epsilon"));
  SAE_ASSIGN_OR_RETURN(const GgufTensor* embedding, gguf.Tensor("token_embd.weight"));
  const auto sane = [](std::int64_t x) { return x > 0 && x <= (1 << 24); };
  if (!sane(c.blocks) || !sane(c.d) || !sane(c.heads) || !sane(c.kv_heads) || !sane(c.mlp) ||
      !sane(c.context) || c.heads % c.kv_heads != 0 || embedding->dimensions.size() != 2 ||
      embedding->dimensions[0] != c.d) {
    return absl::DataLossError(
        absl::StrCat(gguf.path(), ": sizes contradict each other: ", c.blocks, " blocks, d ", c.d,
                     ", ", c.heads, " heads, ", c.kv_heads, " key/value heads, MLP ", c.mlp));
  }
  c.vocabulary = embedding->dimensions[1];
  c.head_size = c.d / c.heads;
  if (gguf.Has("llama.attention.key_length")) {
    SAE_ASSIGN_OR_RETURN(c.head_size, gguf.Integer("llama.attention.key_length"));
  }
  if (c.head_size < 2 || c.head_size % 2 != 0 || c.head_size > c.d) {
    return absl::DataLossError(
        absl::StrCat(gguf.path(), ": head size ", c.head_size, " is not an even number up to d"));
  }
  SAE_RETURN_IF_ERROR(RefuseVariants(gguf, c));
  return c;
}

}  // namespace sae::lm
