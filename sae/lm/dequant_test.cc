#include "sae/lm/dequant.h"

#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "sae/base/safetensors.h"
#include "sae/lm/testing/golden.h"

namespace sae::lm {
namespace {

const std::map<std::string, GgmlType>& TypesByName() {
  static const auto* const kTypes = new std::map<std::string, GgmlType>{
      {"F32", GgmlType::kF32},   {"F16", GgmlType::kF16},       {"BF16", GgmlType::kBF16},
      {"Q4_0", GgmlType::kQ4_0}, {"Q4_1", GgmlType::kQ4_1},     {"Q5_0", GgmlType::kQ5_0},
      {"Q5_1", GgmlType::kQ5_1}, {"Q8_0", GgmlType::kQ8_0},     {"Q4_K", GgmlType::kQ4_K},
      {"Q5_K", GgmlType::kQ5_K}, {"Q6_K", GgmlType::kQ6_K},     {"Q2_K", GgmlType::kQ2_K},
      {"Q3_K", GgmlType::kQ3_K}, {"IQ4_NL", GgmlType::kIQ4_NL}, {"IQ4_XS", GgmlType::kIQ4_XS}};
  return *kTypes;
}

TEST(Dequantise, EveryGoldenBlockBitForBit) {
  auto file = SafetensorsReader::Open(testing::GoldenPath("dequant.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  int supported = 0;
  int refused = 0;
  for (const auto& [name, raw] : (*file)->tensors()) {
    if (!name.ends_with("/raw")) continue;
    const GgmlType type = TypesByName().at(name.substr(0, name.find('/')));
    auto want = (*file)->Get(name.substr(0, name.size() - 3) + "f32");
    ASSERT_TRUE(want.ok()) << want.status();
    const GgmlTypeInfo& info = *InfoOf(type);
    ASSERT_EQ(raw.shape[1] * info.block_values, want->shape[1] * info.block_bytes) << name;
    std::vector<float> got(static_cast<std::size_t>(want->elements()));
    const absl::Status status = Dequantise(type, raw.data, got);
    if (!CanDequantise(type)) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << name;
      ++refused;
      continue;
    }
    ASSERT_TRUE(status.ok()) << status;
    ++supported;
    const auto* expected = reinterpret_cast<const float*>(want->data.data());
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], expected[i]) << name << " value " << i;
  }
  EXPECT_EQ(supported, 12);  // two real, ten synthetic
  EXPECT_EQ(refused, 4);
}

TEST(Dequantise, Float32IsCopied) {
  const float values[2] = {1.5F, -3e-41F};
  float out[2];
  ASSERT_TRUE(Dequantise(GgmlType::kF32, std::as_bytes(std::span(values)), out).ok());
  EXPECT_EQ(std::memcmp(values, out, sizeof(out)), 0);
}

TEST(Dequantise, UnsupportedTypeNamesItselfAndTheRemedy) {
  std::byte raw[84] = {};
  float out[256];
  const absl::Status status = Dequantise(GgmlType::kQ2_K, raw, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(Message(status).find("Q2_K is not supported; convert the model"), std::string::npos)
      << status;
  EXPECT_EQ(GgmlTypeName(static_cast<GgmlType>(77)), "type 77");
}

TEST(Dequantise, WrongSizesAreRefused) {
  std::byte raw[18] = {};
  float out[64];
  EXPECT_EQ(Dequantise(GgmlType::kQ4_0, raw, out).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Dequantise(GgmlType::kQ4_0, raw, std::span(out, 31)).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sae::lm
