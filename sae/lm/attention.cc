#include "sae/lm/attention.h"

#include <algorithm>
#include <cmath>

#include "sae/lm/matmul.h"

namespace sae::lm {
namespace {

/// Cuts qkv into heads, turns q and k.
void SplitHeads(const LlamaConfig& c, const RopeTable& rope, const float* qkv,
                const std::vector<std::int64_t>& begins, AttentionWorkspace& w) {
  const std::int64_t tokens = begins.back();
  const std::int64_t size = c.head_size;
  const std::int64_t width = c.q_width() + 2 * c.kv_width();
  for (std::size_t span = 0; span + 1 < begins.size(); ++span) {
    for (std::int64_t t = begins[span]; t < begins[span + 1]; ++t) {
      const std::int64_t position = t - begins[span];
      const float* row = qkv + t * width;
      for (std::int64_t head = 0; head < c.heads; ++head) {
        const std::int64_t kv = head / c.group();
        ApplyRope(row + head * size, rope, position,
                  w.q + ((kv * tokens + t) * c.group() + head % c.group()) * size);
      }
      for (std::int64_t kv = 0; kv < c.kv_heads; ++kv) {
        ApplyRope(row + c.q_width() + kv * size, rope, position, w.k + (kv * tokens + t) * size);
        const float* value = row + c.q_width() + c.kv_width() + kv * size;
        std::copy(value, value + size, w.v + (kv * tokens + t) * size);
      }
    }
  }
}

Destination Offset(Destination out, std::int64_t by) {
  return {out.f32 == nullptr ? nullptr : out.f32 + by,
          out.bf16 == nullptr ? nullptr : out.bf16 + by};
}

}  // namespace

absl::Status Attend(const LlamaConfig& c, const RopeTable& rope, const float* qkv,
                    const std::vector<std::int64_t>& begins, AttentionWorkspace& w,
                    Destination out) {
  SplitHeads(c, rope, qkv, begins, w);
  const std::int64_t tokens = begins.back();
  const std::int64_t size = c.head_size;
  const std::int64_t group = c.group();
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  for (std::size_t span = 0; span + 1 < begins.size(); ++span) {
    const std::int64_t begin = begins[span];
    const std::int64_t length = begins[span + 1] - begin;
    const std::int64_t stride = ScoreStride(length);
    for (std::int64_t kv = 0; kv < c.kv_heads; ++kv) {
      const float* k = w.k + (kv * tokens + begin) * size;
      const float* v = w.v + (kv * tokens + begin) * size;
      for (std::int64_t first = 0; first < length; first += kQueryBlock) {
        const std::int64_t queries = std::min(kQueryBlock, length - first);
        const std::int64_t keys = first + queries;  // causal: none beyond the last query
        const float* q = w.q + (kv * tokens + begin + first) * group * size;
        SAE_RETURN_IF_ERROR(
            Sgemm(true, queries * group, keys, size, q, size, k, size, w.scores, stride));
        for (std::int64_t r = 0; r < queries * group; ++r) {
          SoftmaxRow(w.scores + r * stride, first + r / group + 1, keys, scale);
        }
        SAE_RETURN_IF_ERROR(
            Sgemm(false, queries * group, size, keys, w.scores, stride, v, size, w.mixed, size));
        for (std::int64_t i = 0; i < queries; ++i) {
          CopyTo(w.mixed + i * group * size, group * size,
                 Offset(out, (begin + first + i) * c.q_width() + kv * group * size));
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace sae::lm
