#include "sae/lm/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "sae/lm/testing/gguf_builder.h"
#include "sae/lm/testing/golden.h"
#include "sae/lm/unicode.h"

namespace sae::lm {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> FromModel() {
  auto gguf = GgufReader::Open(testing::ModelPath());
  EXPECT_TRUE(gguf.ok()) << gguf.status();
  auto tokenizer = Tokenizer::FromGguf(**gguf);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::string FromHex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

TEST(Tokenizer, EveryGoldenText) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  const auto tokenizer = FromModel();
  const json cases = json::parse(testing::ReadFileOrDie(testing::GoldenPath("tokens.json")));
  EXPECT_EQ(cases.size(), 282U);
  for (const json& c : cases) {
    const auto text = c["text"].get<std::string>();
    const Ids ids = tokenizer->Encode(text);
    EXPECT_EQ(ids, c["ids"].get<Ids>()) << c.dump();
    EXPECT_EQ(tokenizer->EncodeWithControl(text), c["ids_special"].get<Ids>()) << c.dump();
    auto decoded = tokenizer->Decode(ids);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded == text, c["round_trips"].get<bool>()) << c.dump();
  }
}

TEST(Tokenizer, EveryGoldenSequenceOfInvalidBytes) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  const auto tokenizer = FromModel();
  const json cases =
      json::parse(testing::ReadFileOrDie(testing::GoldenPath("tokens_invalid_utf8.json")));
  EXPECT_EQ(cases.size(), 16U);
  for (const json& c : cases) {
    EXPECT_EQ(tokenizer->Encode(FromHex(c["bytes_hex"].get<std::string>())), c["ids"].get<Ids>())
        << c.dump();
  }
}

TEST(Tokenizer, SeparatorAndControlTokensOfTheModel) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  const auto tokenizer = FromModel();
  EXPECT_EQ(tokenizer->size(), 49152);
  EXPECT_EQ(tokenizer->separator(), 0);
  EXPECT_EQ(tokenizer->ControlId("<|im_end|>"), 2);
  EXPECT_TRUE(tokenizer->IsControl(16));
  EXPECT_FALSE(tokenizer->IsControl(17));
  EXPECT_EQ(tokenizer->Decode(Ids{49152}).status().code(), absl::StatusCode::kInvalidArgument);
}

// The textbook algorithm: find the pair of lowest rank, leftmost first, and merge it, until none is
// left.
std::vector<std::string> SlowMerge(const std::string& piece,
                                   const std::vector<std::string>& merges) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best = merges.size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const std::string pair = parts[i] + " " + parts[i + 1];
      const auto rank =
          static_cast<std::size_t>(std::find(merges.begin(), merges.end(), pair) - merges.begin());
      if (rank < best) {
        best = rank;
        at = i;
      }
    }
    if (best == merges.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(Tokenizer, MergesAsTheTextbookDoesOnRandomWords) {
  const std::vector<std::string> merges = {"a b",    "b a", "a a",   "ab a",  "aa b", "c ab",
                                           "cab aa", "b b", "bb bb", "ba ba", "c c"};
  TokenizerData data;
  data.tokens = {"a", "b", "c"};
  for (std::string merge : merges) {
    merge.erase(merge.find(' '), 1);
    if (std::find(data.tokens.begin(), data.tokens.end(), merge) == data.tokens.end())
      data.tokens.push_back(merge);
  }
  data.types.assign(data.tokens.size(), 1);
  data.merges = merges;
  const auto tokens = data.tokens;
  auto tokenizer = Tokenizer::Create(std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  Random random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string word;
    for (std::uint64_t n = 1 + random.Below(24); n > 0; --n) word += "abc"[random.Below(3)];
    std::vector<std::string> got;
    for (const auto id : (*tokenizer)->Encode(word))
      got.push_back(tokens[static_cast<std::size_t>(id)]);
    ASSERT_EQ(got, SlowMerge(word, merges)) << word;
  }
}

TEST(Tokenizer, PartsWithoutATokenVanishAndEndsSkipThem) {
  TokenizerData data;
  data.tokens = {"a", "ab"};
  data.types = {1, 1};
  data.merges = {"a b", "ab b"};  // "b" and "abb" are no tokens
  auto tokenizer = Tokenizer::Create(std::move(data));
  ASSERT_TRUE(tokenizer.ok());
  Ids ids;
  Ids ends;
  (*tokenizer)->EncodeInto("aab", ids, &ends);
  EXPECT_EQ(ids, (Ids{0, 1}));
  EXPECT_EQ(ends, (Ids{1, 3}));
  EXPECT_EQ((*tokenizer)->Encode("b"), Ids{});
  EXPECT_EQ((*tokenizer)->Encode("abb"), Ids{});
}

TEST(Tokenizer, EndsCoverTheText) {
  auto gguf = GgufReader::Open(testing::WriteTemporary("tiny.gguf", testing::TinyLlama().Build()));
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  auto tokenizer = Tokenizer::FromGguf(**gguf);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  Ids ids;
  Ids ends;
  (*tokenizer)->EncodeInto("né 1", ids, &ends);
  EXPECT_EQ(ends, (Ids{1, 2, 3, 4, 5}));
  EXPECT_EQ(ids[0], 2 + 'n');
  EXPECT_EQ(*(*tokenizer)->Decode(ids), "né 1");
}

TEST(Tokenizer, ContradictionsAndOtherKindsAreRefused) {
  TokenizerData data;
  data.tokens = {"a"};
  EXPECT_EQ(Tokenizer::Create(data).status().code(), absl::StatusCode::kDataLoss);
  data.types = {1};
  data.merges = {"ab"};
  EXPECT_EQ(Tokenizer::Create(data).status().code(), absl::StatusCode::kDataLoss);
  testing::GgufBuilder b;
  b.Text("tokenizer.ggml.model", "llama").Text("tokenizer.ggml.pre", "default");
  auto gguf = GgufReader::Open(testing::WriteTemporary("spm.gguf", b.Build()));
  const auto status = Tokenizer::FromGguf(**gguf).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(Message(status).find("tokenizer llama with pre-tokenizer default"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace sae::lm
