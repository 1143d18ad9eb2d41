#pragma once
// Element types of tensors on disk and on the wire, and conversion to float32.

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

namespace sae {

enum class DType { kF32, kF64, kF16, kBf16, kI32, kI64, kU8 };

constexpr std::int64_t SizeOf(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBf16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

template <class T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() { return DType::kF32; }
template <>
constexpr DType DTypeOf<double>() { return DType::kF64; }
template <>
constexpr DType DTypeOf<std::int32_t>() { return DType::kI32; }
template <>
constexpr DType DTypeOf<std::int64_t>() { return DType::kI64; }
template <>
constexpr DType DTypeOf<std::uint8_t>() { return DType::kU8; }

/// bfloat16 of a float32: round to nearest, ties to even; NaN stays NaN.
inline std::uint16_t FloatToBf16(float f) {
  const auto bits = std::bit_cast<std::uint32_t>(f);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
inline float Bf16ToFloat(std::uint16_t h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16);
}
/// float16 conversions, exact and round to nearest even, subnormals and infinities included.
float F16ToFloat(std::uint16_t h);
std::uint16_t FloatToF16(float f);

}  // namespace sae
