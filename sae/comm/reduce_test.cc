#include "sae/comm/reduce.h"

#include <array>

#include <gtest/gtest.h>

namespace sae::comm {
namespace {

TEST(ReduceInto, IntegersWrapAndOrder) {
  std::array<std::int32_t, 3> a{2147483647, -5, 7};
  const std::array<std::int32_t, 3> b{1, -6, 7};
  ReduceInto(a.data(), b.data(), 3, DType::kI32, ReduceOp::kSum);
  EXPECT_EQ(a, (std::array<std::int32_t, 3>{-2147483647 - 1, -11, 14}));
  ReduceInto(a.data(), b.data(), 3, DType::kI32, ReduceOp::kMax);
  EXPECT_EQ(a, (std::array<std::int32_t, 3>{1, -6, 14}));
  ReduceInto(a.data(), b.data(), 3, DType::kI32, ReduceOp::kMin);
  EXPECT_EQ(a, (std::array<std::int32_t, 3>{1, -6, 7}));
}

TEST(ReduceInto, HalvesRoundAfterEachAddition) {
  // 256 + 1 is not a bfloat16: nearest even is 256.
  std::uint16_t a = FloatToBf16(256);
  const std::uint16_t one = FloatToBf16(1);
  ReduceInto(&a, &one, 1, DType::kBf16, ReduceOp::kSum);
  EXPECT_EQ(Bf16ToFloat(a), 256.0F);
  std::uint16_t h = FloatToF16(2048);
  const std::uint16_t three = FloatToF16(3);
  ReduceInto(&h, &three, 1, DType::kF16, ReduceOp::kSum);
  EXPECT_EQ(F16ToFloat(h), 2052.0F);
}

}  // namespace
}  // namespace sae::comm
