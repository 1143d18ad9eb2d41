#include "sae/base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sae {
namespace {

TEST(Float16, EveryValueComesBack) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const float f = F16ToFloat(static_cast<std::uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(f))));
    } else {
      ASSERT_EQ(FloatToF16(f), h) << f;
    }
  }
}

TEST(Float16, KnownValues) {
  EXPECT_EQ(F16ToFloat(0x3c00), 1.0F);
  EXPECT_EQ(F16ToFloat(0x0001), 0x1p-24F);
  EXPECT_EQ(F16ToFloat(0xfbff), -65504.0F);
  EXPECT_EQ(FloatToF16(65520.0F), 0x7c00);  // halfway to the next power rounds to infinity
  EXPECT_EQ(FloatToF16(65519.0F), 0x7bff);
  EXPECT_EQ(FloatToF16(1.0F + 0x1p-11F), 0x3c00);  // tie to even
  EXPECT_EQ(FloatToF16(1.0F + 3 * 0x1p-11F), 0x3c02);
}

TEST(Bfloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(FloatToBf16(1.0F), 0x3f80);
  EXPECT_EQ(FloatToBf16(1.0F + 0x1p-8F), 0x3f80);      // tie, even below
  EXPECT_EQ(FloatToBf16(1.0F + 3 * 0x1p-8F), 0x3f82);  // tie, even above
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::numeric_limits<float>::quiet_NaN()))));
  for (std::uint32_t h = 0; h < 0x7f80; ++h) {
    ASSERT_EQ(FloatToBf16(Bf16ToFloat(static_cast<std::uint16_t>(h))), h);
  }
}

}  // namespace
}  // namespace sae
