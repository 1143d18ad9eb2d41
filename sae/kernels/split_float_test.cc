#include "sae/kernels/split_float.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

namespace sae::kernels {
namespace {

// Every low half, under high halves even and odd, of both signs, subnormal to the largest.
TEST(SplitFloat, BringsEveryLowHalfBack) {
  for (const std::uint32_t high :
       {0x0000U, 0x0001U, 0x007fU, 0x0080U, 0x3f80U, 0x3f81U, 0x4049U, 0x7f7eU, 0x7f7fU}) {
    for (const std::uint32_t sign : {0x0000U, 0x8000U}) {
      for (std::uint32_t low = 0; low < 65536; ++low) {
        const std::uint32_t bits = ((high | sign) << 16) | low;
        const SplitFloat split = Split(FloatOfBits(bits));
        ASSERT_EQ(FloatBits(Join(split)), bits) << std::hex << bits;
        // The definition: halves round away from zero.
        ASSERT_EQ(split.hi, (high | sign) + (low >= 0x8000U ? 1 : 0)) << std::hex << bits;
        ASSERT_EQ(split.lo, static_cast<std::int32_t>(low) - (low >= 0x8000U ? 65536 : 0));
      }
    }
  }
}

TEST(SplitFloat, HighHalfIsTheNearestBf16) {
  for (std::uint32_t low = 0; low < 65536; ++low) {
    if (low == 0x8000U) continue;  // a tie: away here, to even there
    for (const std::uint32_t high : {0x3f80U, 0x3f81U, 0xbf80U, 0xc2f7U}) {
      const float value = FloatOfBits((high << 16) | low);
      ASSERT_EQ(Split(value).hi, FloatToBf16(value));
    }
  }
}

TEST(SplitFloat, KeepsInfinitiesAndZeros) {
  for (const std::uint32_t bits : {0x00000000U, 0x80000000U, 0x7f800000U, 0xff800000U}) {
    const SplitFloat split = Split(FloatOfBits(bits));
    EXPECT_EQ(split.hi, bits >> 16);
    EXPECT_EQ(split.lo, 0);
    EXPECT_EQ(FloatBits(Join(split)), bits);
  }
}

TEST(SplitFloat, LargestFiniteValuesComeBackFromAnInfiniteHighHalf) {
  const float largest = std::numeric_limits<float>::max();
  for (const float value : {largest, -largest}) {
    const SplitFloat split = Split(value);
    EXPECT_TRUE(std::isinf(Bf16ToFloat(split.hi)));
    EXPECT_EQ(split.lo, -1);
    EXPECT_EQ(Join(split), value);
  }
}

TEST(SplitFloat, NanStaysNanInItsHighHalfToo) {
  for (const std::uint32_t sign : {0U, 0x80000000U}) {
    for (const std::uint32_t payload :
         {1U, 0x8000U, 0x3fffffU, 0x400000U, 0x7f8000U & 0x7fffffU, 0x7fffffU}) {
      const SplitFloat split = Split(FloatOfBits(sign | 0x7f800000U | payload));
      EXPECT_TRUE(std::isnan(Bf16ToFloat(split.hi)));
      EXPECT_TRUE(std::isnan(Join(split)));
      EXPECT_EQ(FloatBits(Join(split)), sign | 0x7fc00000U);
    }
  }
}

}  // namespace
}  // namespace sae::kernels
