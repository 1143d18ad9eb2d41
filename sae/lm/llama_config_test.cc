#include "sae/lm/llama_config.h"

#include <gtest/gtest.h>

#include "sae/lm/testing/gguf_builder.h"

namespace sae::lm {
namespace {

absl::StatusOr<LlamaConfig> Read(const testing::GgufBuilder& builder) {
  auto gguf = GgufReader::Open(testing::WriteTemporary("config.gguf", builder.Build()));
  if (!gguf.ok()) return gguf.status();
  return ReadLlamaConfig(**gguf);
}

TEST(LlamaConfig, ReadsTheSizes) {
  auto c = Read(testing::TinyLlama());
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->name, "tiny");
  EXPECT_EQ(c->blocks, 2);
  EXPECT_EQ(c->head_size, 32);
  EXPECT_EQ(c->group(), 2);
  EXPECT_EQ(c->kv_width(), 32);
  EXPECT_EQ(c->vocabulary, 258);
  EXPECT_EQ(c->rope_base, 10000);
}

TEST(LlamaConfig, VariantsAreRefusedByName) {
  testing::GgufBuilder other;
  other.Text("general.architecture", "qwen2");
  EXPECT_EQ(Read(other).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(Message(Read(other).status()).find("architecture \"qwen2\""), std::string::npos);
  auto experts = testing::TinyLlama().Uint32("llama.expert_count", 8);
  EXPECT_NE(Message(Read(experts).status()).find("mixture of experts"), std::string::npos);
  auto scaled = testing::TinyLlama().Text("llama.rope.scaling.type", "yarn");
  EXPECT_NE(Message(Read(scaled).status()).find("RoPE scaling \"yarn\""), std::string::npos);
  auto biased = testing::TinyLlama().Floats("blk.0.attn_q.bias", {64}, std::vector<float>(64));
  EXPECT_NE(Message(Read(biased).status()).find("attn_q.bias"), std::string::npos);
}

TEST(LlamaConfig, MissingKeysAreNamed) {
  testing::GgufBuilder b;
  b.Text("general.architecture", "llama");
  EXPECT_NE(Message(Read(b).status()).find("llama.block_count"), std::string::npos);
}

}  // namespace
}  // namespace sae::lm
