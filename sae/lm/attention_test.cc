#include "sae/lm/attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/base/random.h"

namespace sae::lm {
namespace {

LlamaConfig Sizes(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_size) {
  LlamaConfig c;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.head_size = head_size;
  return c;
}

/// One output element in float64, straight from the definition.
double Reference(const LlamaConfig& c, const std::vector<float>& qkv, std::int64_t begin,
                 std::int64_t t, std::int64_t head, std::int64_t column) {
  const std::int64_t width = c.q_width() + 2 * c.kv_width();
  const std::int64_t kv = head / c.group();
  const std::int64_t half = c.head_size / 2;
  const auto at = [&](std::int64_t row, std::int64_t j) {
    return double{qkv[static_cast<std::size_t>(row * width + j)]};
  };
  const auto turned = [&](std::int64_t row, std::int64_t offset, std::int64_t i) {
    const double angle =
        static_cast<double>(row - begin) *
        std::pow(10000.0, -2.0 * static_cast<double>(i % half) / static_cast<double>(c.head_size));
    const double a = at(row, offset + i % half);
    const double b = at(row, offset + i % half + half);
    return i < half ? a * std::cos(angle) - b * std::sin(angle)
                    : a * std::sin(angle) + b * std::cos(angle);
  };
  double sum = 0;
  double mixed = 0;
  for (std::int64_t s = begin; s <= t; ++s) {
    double score = 0;
    for (std::int64_t i = 0; i < c.head_size; ++i) {
      score += turned(t, head * c.head_size, i) * turned(s, c.q_width() + kv * c.head_size, i);
    }
    const double weight = std::exp(score / std::sqrt(static_cast<double>(c.head_size)));
    sum += weight;
    mixed += weight * at(s, c.q_width() + c.kv_width() + kv * c.head_size + column);
  }
  return mixed / sum;
}

void ExpectAttention(const LlamaConfig& c, const std::vector<std::int64_t>& begins) {
  const std::int64_t tokens = begins.back();
  std::int64_t longest = 0;
  for (std::size_t i = 0; i + 1 < begins.size(); ++i)
    longest = std::max(longest, begins[i + 1] - begins[i]);
  Random random(9);
  std::vector<float> qkv(static_cast<std::size_t>(tokens * (c.q_width() + 2 * c.kv_width())));
  for (float& x : qkv) x = static_cast<float>(random.Normal());
  std::vector<float> q(static_cast<std::size_t>(tokens * c.q_width())),
      k(static_cast<std::size_t>(tokens * c.kv_width())), v = k;
  std::vector<float> scores(
      static_cast<std::size_t>(kQueryBlock * c.group() * ScoreStride(longest)));
  std::vector<float> mixed(static_cast<std::size_t>(kQueryBlock * c.group() * c.head_size));
  AttentionWorkspace workspace{q.data(), k.data(), v.data(), scores.data(), mixed.data()};
  const RopeTable rope(longest, c.head_size, 10000);
  std::vector<float> out(q.size());
  ASSERT_TRUE(Attend(c, rope, qkv.data(), begins, workspace, {out.data(), nullptr}).ok());
  for (std::size_t span = 0; span + 1 < begins.size(); ++span) {
    for (std::int64_t t = begins[span]; t < begins[span + 1]; t += 1 + t % 5) {
      for (std::int64_t head = 0; head < c.heads; ++head) {
        const std::int64_t column = (t * 7 + head) % c.head_size;
        EXPECT_NEAR(out[static_cast<std::size_t>((t * c.heads + head) * c.head_size + column)],
                    Reference(c, qkv, begins[span], t, head, column), 2e-6)
            << "token " << t << " head " << head;
      }
    }
  }
}

TEST(Attention, GroupedHeadsAndSpansAgainstFloat64) {
  ExpectAttention(Sizes(9, 3, 64), {0, 1, 65, 129, 130, 200});
  ExpectAttention(Sizes(4, 4, 16), {0, 64, 192});
  ExpectAttention(Sizes(2, 1, 6), {0, 77});
}

}  // namespace
}  // namespace sae::lm
