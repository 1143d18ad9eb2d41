#include "sae/lm/gguf.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "sae/lm/testing/checksums.h"
#include "sae/lm/testing/gguf_builder.h"
#include "sae/lm/testing/golden.h"

namespace sae::lm {
namespace {

using nlohmann::json;
using testing::GgufBuilder;
using testing::WriteTemporary;

/// The array's values as golden's generator printed them with Python's str().
std::vector<std::string> Lines(const GgufValue& value) {
  std::vector<std::string> lines;
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value.value)) return *texts;
  if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&value.value)) {
    for (const auto i : *ints) lines.push_back(std::to_string(i));
  } else if (const auto* uints = std::get_if<std::vector<std::uint64_t>>(&value.value)) {
    for (const auto i : *uints) lines.push_back(std::to_string(i));
  }
  return lines;
}

void ExpectValue(const std::string& key, const GgufValue& got, const json& want) {
  ASSERT_EQ(want["type"][0], GgufValueTypeName(got.type)) << key;
  if (got.type == GgufValueType::kArray) {
    ASSERT_EQ(want["type"][1], GgufValueTypeName(got.element_type)) << key;
    const std::vector<std::string> lines = Lines(got);
    const json& value = want["value"];
    if (value.is_array()) {
      ASSERT_EQ(lines.size(), value.size()) << key;
      for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(value[i], lines[i]) << key;
      return;
    }
    ASSERT_EQ(lines.size(), value["count"]) << key;
    std::string joined;
    for (std::size_t i = 0; i < lines.size(); ++i) joined += (i > 0 ? "\n" : "") + lines[i];
    EXPECT_EQ(testing::Sha256(joined), value["sha256_of_values_joined_by_newline"]) << key;
    return;
  }
  if (const auto* text = std::get_if<std::string>(&got.value)) {
    if (want["value"].is_string()) {
      EXPECT_EQ(want["value"], *text) << key;
    } else {
      EXPECT_EQ(text->size(), want["value"]["bytes"]) << key;
      EXPECT_EQ(testing::Sha256(*text), want["value"]["sha256"]) << key;
    }
  } else if (const auto* real = std::get_if<double>(&got.value)) {
    EXPECT_EQ(want["value"].get<double>(), *real) << key;
  } else if (const auto* flag = std::get_if<bool>(&got.value)) {
    EXPECT_EQ(want["value"].get<bool>(), *flag) << key;
  } else if (const auto* u = std::get_if<std::uint64_t>(&got.value)) {
    EXPECT_EQ(want["value"].get<std::uint64_t>(), *u) << key;
  } else {
    EXPECT_EQ(want["value"].get<std::int64_t>(), std::get<std::int64_t>(got.value)) << key;
  }
}

void ExpectTensor(const GgufTensor& got, const json& want) {
  SCOPED_TRACE(got.name);
  ASSERT_EQ(want["name"], got.name);
  EXPECT_EQ(want["type"], GgmlTypeName(got.type));
  EXPECT_EQ(want["dimensions_fastest_first"].get<std::vector<std::int64_t>>(), got.dimensions);
  EXPECT_EQ(want["file_offset"], got.file_offset);
  ASSERT_EQ(want["bytes"], got.data.size());
  EXPECT_EQ(want["crc32_of_bytes"], testing::Crc32(got.data));
  std::vector<float> values(static_cast<std::size_t>(got.elements()));
  ASSERT_TRUE(Dequantise(got.type, got.data, values).ok());
  double sum = 0;
  double sum_abs = 0;
  for (const float v : values) {
    sum += v;
    sum_abs += std::fabs(v);
  }
  EXPECT_NEAR(sum, want["sum_f64"].get<double>(), 1e-9 * std::fabs(want["sum_f64"].get<double>()));
  EXPECT_NEAR(sum_abs, want["sum_abs_f64"].get<double>(), 1e-9 * sum_abs);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(values[i], want["first4"][i].get<float>());
    EXPECT_EQ(values[values.size() - 4 + i], want["last4"][i].get<float>());
  }
}

TEST(Gguf, EveryValueAndTensorOfTheModel) {
  const std::string path = testing::ModelPath();
  if (path.empty()) GTEST_SKIP() << testing::NoModelReason();
  auto reader = GgufReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const json want = json::parse(testing::ReadFileOrDie(testing::GoldenPath("gguf.json")));
  EXPECT_EQ(want["alignment"], (*reader)->alignment());
  EXPECT_EQ(want["data_offset"], (*reader)->data_offset());
  std::size_t keys = 0;
  for (const auto& [key, value] : want["metadata"].items()) {
    if (key.starts_with("GGUF.")) continue;  // the fixed header, below
    ASSERT_TRUE((*reader)->Has(key)) << key;
    ExpectValue(key, (*reader)->metadata().at(key), value);
    ++keys;
  }
  EXPECT_EQ(want["metadata"]["GGUF.version"]["value"], (*reader)->version());
  EXPECT_EQ(want["metadata"]["GGUF.kv_count"]["value"], keys);
  EXPECT_EQ((*reader)->metadata().size(), keys);
  ASSERT_EQ(want["tensors"].size(), (*reader)->tensors().size());
  for (std::size_t i = 0; i < want["tensors"].size(); ++i)
    ExpectTensor((*reader)->tensors()[i], want["tensors"][i]);
}

GgufBuilder Small() {
  GgufBuilder b;
  b.Text("general.name", "small").Uint32("n", 7).Float32("x", 0.5F);
  b.Texts("words", {"a", "bc"}).Int32s("ints", {-1, 2});
  b.Floats("w", {2, 3}, {1, 2, 3, 4, 5, 6}).Floats("b", {2}, {7, 8});
  return b;
}

TEST(Gguf, ReadsWhatTheBuilderWrote) {
  auto reader = GgufReader::Open(WriteTemporary("small.gguf", Small().Build()));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(*(*reader)->Text("general.name"), "small");
  EXPECT_EQ(*(*reader)->Integer("n"), 7);
  EXPECT_EQ(*(*reader)->Real("x"), 0.5);
  EXPECT_EQ(*(*reader)->Texts("words"), (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(*(*reader)->Integers("ints"), (std::vector<std::int64_t>{-1, 2}));
  EXPECT_EQ(*(*reader)->Floats("w", {2, 3}), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ((*reader)->Floats("w", {3, 2}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*reader)->Floats("v", {2}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*reader)->Integer("x").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*reader)->Text("absent").status().code(), absl::StatusCode::kNotFound);
}

TEST(Gguf, EveryTruncationIsDataLoss) {
  const std::string whole = Small().Build();
  // The last tensor's 8 bytes end 24 before the padded end.
  const std::size_t needed = whole.size() - 24;
  for (std::size_t length = 4; length < needed; ++length) {
    auto reader = GgufReader::Open(WriteTemporary("cut.gguf", whole.substr(0, length)));
    ASSERT_EQ(reader.status().code(), absl::StatusCode::kDataLoss)
        << length << ": " << reader.status();
  }
  EXPECT_TRUE(GgufReader::Open(WriteTemporary("cut.gguf", whole.substr(0, needed))).ok());
}

TEST(Gguf, FlippedBytesNeverCrash) {
  const std::string whole = Small().Build();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char mask : {'\xFF', '\x80', '\x01'}) {
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      auto reader = GgufReader::Open(WriteTemporary("flip.gguf", bad));
      if (!reader.ok()) continue;
      for (const GgufTensor& tensor : (*reader)->tensors()) {
        std::vector<float> out(tensor.data.empty() ? 0
                                                   : static_cast<std::size_t>(tensor.elements()));
        (void)Dequantise(tensor.type, tensor.data, out);
      }
    }
  }
}

TEST(Gguf, WhatIsNotGgufIsRefused) {
  for (const std::string& bytes :
       {std::string("PK\3\4 a zip file"), std::string("GG"), std::string()}) {
    const auto status = GgufReader::Open(WriteTemporary("bad.gguf", bytes)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(Message(status).find("not a GGUF file"), std::string::npos) << status;
  }
  std::string old = Small().Build();
  old[4] = 1;
  EXPECT_NE(Message(GgufReader::Open(WriteTemporary("bad.gguf", old)).status()).find("version 1"),
            std::string::npos);
  EXPECT_EQ(GgufReader::Open("/nonexistent/model.gguf").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(Gguf, AnUnsupportedTensorTypeIsNamedWhenItIsRead) {
  GgufBuilder b;
  b.Tensor("w", {256}, GgmlType::kQ2_K, std::string(84, '\0'));
  auto reader = GgufReader::Open(WriteTemporary("q2.gguf", b.Build()));
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto status = (*reader)->Floats("w", {256}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(Message(status).find("tensor w: quantisation Q2_K"), std::string::npos) << status;
}

}  // namespace
}  // namespace sae::lm
