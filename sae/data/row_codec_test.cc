#include "sae/data/row_codec.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/base/random.h"

namespace sae::data {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// The rounding of one value, by the scalar conversions of sae/base.
float Rounded(float v, DType dtype) {
  if (dtype == DType::kBf16) return Bf16ToFloat(FloatToBf16(v));
  return dtype == DType::kF16 ? F16ToFloat(FloatToF16(v)) : v;
}

TEST(RowCodecTest, RoundsAsTheScalarConversionsAtAnyLengthAndAlignment) {
  Random random(2);
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (const std::size_t n : {1U, 7U, 64U, 577U}) {
      std::vector<float> values(n), back(n);
      for (float& v : values) {
        v = static_cast<float>(random.Normal() * std::pow(10.0, 4 * random.Uniform() - 2));
      }
      std::vector<std::byte> bytes(n * 4 + 1);
      std::byte* odd = bytes.data() + 1;
      EXPECT_EQ(EncodeValues(values, dtype, odd), -1);
      EXPECT_EQ(DecodeValues(odd, dtype, back), -1);
      for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(back[i], Rounded(values[i], dtype));
    }
  }
}

TEST(RowCodecTest, ReportsTheFirstValueThatIsNotFinite) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> values(100, 1.0F), back(100);
      values[41] = values[77] = bad;
      std::vector<std::byte> bytes(400);
      EXPECT_EQ(EncodeValues(values, dtype, bytes.data()), 41);
      EXPECT_EQ(DecodeValues(bytes.data(), dtype, back), 41);
    }
  }
}

TEST(RowCodecTest, LargestFiniteValuesFitAndTheNextDoNot) {
  std::byte bytes[4];
  const auto bad = [&](float v, DType t) { return EncodeValues({&v, 1}, t, bytes) == 0; };
  EXPECT_FALSE(bad(65504.0F, DType::kF16));
  EXPECT_FALSE(bad(65519.0F, DType::kF16));
  EXPECT_TRUE(bad(65520.0F, DType::kF16));
  EXPECT_FALSE(bad(Bf16ToFloat(0x7f7f), DType::kBf16));
  EXPECT_TRUE(bad(std::numeric_limits<float>::max(), DType::kBf16));
  EXPECT_FALSE(bad(std::numeric_limits<float>::max(), DType::kF32));
}

}  // namespace
}  // namespace sae::data
