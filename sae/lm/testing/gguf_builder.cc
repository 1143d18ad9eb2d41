#include "sae/lm/testing/gguf_builder.h"

#include <cstring>
#include <fstream>

#include "sae/base/check.h"
#include "sae/base/random.h"
#include "sae/lm/gguf.h"
#include "tests/support/temp_dir.h"

namespace sae::lm::testing {
namespace {

template <class T>
std::string Raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

std::string Counted(const std::string& text) { return Raw<std::uint64_t>(text.size()) + text; }

std::uint32_t Number(GgufValueType type) { return static_cast<std::uint32_t>(type); }

constexpr std::size_t kAlignment = 32;
std::string Padded(std::string bytes) {
  bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
  return bytes;
}

}  // namespace

GgufBuilder& GgufBuilder::Key(const std::string& key, std::uint32_t type,
                              const std::string& bytes) {
  keys_ += Counted(key) + Raw(type) + bytes;
  ++key_count_;
  return *this;
}

GgufBuilder& GgufBuilder::Text(const std::string& key, const std::string& value) {
  return Key(key, Number(GgufValueType::kString), Counted(value));
}
GgufBuilder& GgufBuilder::Uint32(const std::string& key, std::uint32_t value) {
  return Key(key, Number(GgufValueType::kUint32), Raw(value));
}
GgufBuilder& GgufBuilder::Float32(const std::string& key, float value) {
  return Key(key, Number(GgufValueType::kFloat32), Raw(value));
}
GgufBuilder& GgufBuilder::Texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = Raw(Number(GgufValueType::kString)) + Raw<std::uint64_t>(values.size());
  for (const auto& value : values) bytes += Counted(value);
  return Key(key, Number(GgufValueType::kArray), bytes);
}
GgufBuilder& GgufBuilder::Int32s(const std::string& key, const std::vector<std::int32_t>& values) {
  std::string bytes = Raw(Number(GgufValueType::kInt32)) + Raw<std::uint64_t>(values.size());
  for (const auto value : values) bytes += Raw(value);
  return Key(key, Number(GgufValueType::kArray), bytes);
}

GgufBuilder& GgufBuilder::Tensor(const std::string& name,
                                 const std::vector<std::int64_t>& dimensions, GgmlType type,
                                 const std::string& bytes) {
  std::string header =
      Counted(name) + Raw<std::uint32_t>(static_cast<std::uint32_t>(dimensions.size()));
  for (const auto size : dimensions) header += Raw<std::uint64_t>(static_cast<std::uint64_t>(size));
  header += Raw(static_cast<std::uint32_t>(type));
  tensors_.push_back({header, Padded(bytes)});
  return *this;
}

GgufBuilder& GgufBuilder::Floats(const std::string& name,
                                 const std::vector<std::int64_t>& dimensions,
                                 const std::vector<float>& values) {
  return Tensor(name, dimensions, GgmlType::kF32,
                std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
}

std::string GgufBuilder::Build() const {
  std::string header = "GGUF" + Raw<std::uint32_t>(3) + Raw<std::uint64_t>(tensors_.size()) +
                       Raw(key_count_) + keys_;
  std::string data;
  for (const Entry& tensor : tensors_) {
    header += tensor.header + Raw<std::uint64_t>(data.size());
    data += tensor.data;
  }
  return Padded(header) + data;
}

std::string WriteTemporary(const std::string& name, const std::string& bytes) {
  static const sae::testing::TempDir folder;  // removed when the test program ends
  const std::string path = folder / name;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  SAE_CHECK_MSG(file.good(), "cannot write %s", path.c_str());
  return path;
}

GgufBuilder TinyLlama(std::uint64_t seed, GgmlType down_type) {
  constexpr std::int64_t kD = 64, kKv = 32, kMlp = 96, kVocabulary = 258;
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_end|>"};
  std::vector<std::int32_t> types = {3, 3};
  std::uint32_t next = 0x100;
  for (std::uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    const std::uint32_t c = printable ? b : next++;
    tokens.push_back(c < 0x80 ? std::string(1, static_cast<char>(c))
                              : std::string{static_cast<char>(0xC0 | (c >> 6)),
                                            static_cast<char>(0x80 | (c & 0x3F))});
    types.push_back(1);
  }
  GgufBuilder b;
  b.Text("general.architecture", "llama").Text("general.name", "tiny");
  b.Uint32("llama.block_count", 2)
      .Uint32("llama.context_length", 512)
      .Uint32("llama.embedding_length", kD);
  b.Uint32("llama.feed_forward_length", kMlp).Uint32("llama.attention.head_count", 2);
  b.Uint32("llama.attention.head_count_kv", 1).Float32("llama.rope.freq_base", 10000.0F);
  b.Float32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  b.Text("tokenizer.ggml.model", "gpt2").Text("tokenizer.ggml.pre", "smollm");
  b.Texts("tokenizer.ggml.tokens", tokens).Int32s("tokenizer.ggml.token_type", types);
  b.Texts("tokenizer.ggml.merges", {});
  Random random(seed);
  const auto weights = [&](const std::string& name, const std::vector<std::int64_t>& dimensions,
                           float scale, float mean) {
    std::int64_t n = 1;
    for (const auto size : dimensions) n *= size;
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& v : values) v = mean + scale * static_cast<float>(random.Normal());
    b.Floats(name, dimensions, values);
  };
  weights("token_embd.weight", {kD, kVocabulary}, 0.5F, 0.0F);
  weights("output_norm.weight", {kD}, 0.1F, 1.0F);
  for (int block = 0; block < 2; ++block) {
    const std::string p = "blk." + std::to_string(block) + ".";
    weights(p + "attn_norm.weight", {kD}, 0.1F, 1.0F);
    weights(p + "attn_q.weight", {kD, kD}, 0.15F, 0.0F);
    weights(p + "attn_k.weight", {kD, kKv}, 0.15F, 0.0F);
    weights(p + "attn_v.weight", {kD, kKv}, 0.15F, 0.0F);
    weights(p + "attn_output.weight", {kD, kD}, 0.15F, 0.0F);
    weights(p + "ffn_norm.weight", {kD}, 0.1F, 1.0F);
    weights(p + "ffn_gate.weight", {kD, kMlp}, 0.15F, 0.0F);
    weights(p + "ffn_up.weight", {kD, kMlp}, 0.15F, 0.0F);
    if (down_type == GgmlType::kF32) {
      weights(p + "ffn_down.weight", {kMlp, kD}, 0.1F, 0.0F);
    } else {
      const std::int64_t blocks = kMlp * kD / InfoOf(down_type)->block_values;
      b.Tensor(
          p + "ffn_down.weight", {kMlp, kD}, down_type,
          std::string(static_cast<std::size_t>(blocks * InfoOf(down_type)->block_bytes), '\0'));
    }
  }
  return b;
}

}  // namespace sae::lm::testing
