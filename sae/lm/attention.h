#pragma once
// Causal grouped-query attention on the CPU for one thread, float32. Spans do not see each other,
// and keys after the last query of a block of queries are never touched. Caller-owned memory,
// thread-safe for distinct workspaces.

#include <cstdint>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/elementwise.h"
#include "sae/lm/llama_config.h"

namespace sae::lm {

/// Memory of one thread, reused between calls; grows to the largest batch and span seen.
struct AttentionWorkspace {
  float* q = nullptr;       ///< [kv_heads, tokens, group, head_size]
  float* k = nullptr;       ///< [kv_heads, tokens, head_size]
  float* v = nullptr;       ///< [kv_heads, tokens, head_size]
  float* scores = nullptr;  ///< [kQueryBlock * group, longest span, rounded up to 16]
  float* mixed = nullptr;   ///< [kQueryBlock * group, head_size]
};

/// Queries handled together: scores of a block against 256 keys stay in a 2 MiB second-level cache.
inline constexpr std::int64_t kQueryBlock = 64;
inline std::int64_t ScoreStride(std::int64_t span) { return (span + 15) / 16 * 16; }

/// `qkv` is [tokens, q_width + 2 kv_width], not yet turned by RoPE. `out` is [tokens, q_width].
/// `begins` are the offsets of the spans, with `tokens` as a last element.
[[nodiscard]] absl::Status Attend(const LlamaConfig& config, const RopeTable& rope,
                                  const float* qkv, const std::vector<std::int64_t>& begins,
                                  AttentionWorkspace& workspace, Destination out);

}  // namespace sae::lm
