#pragma once
// A float32 cut into its bfloat16 and the rest, 2 bytes each: a GEMM or a gather reads `hi` alone,
// the optimizer both. hi = (bits + 0x8000) >> 16 and lo = bits - (hi << 16), modulo 2^32: hi is the
// nearest bfloat16, ties away from zero (to even would leave a lo of 32768, which int16 has not).
// Join(Split(x)) is x to the bit for every x but NaN: zeros keep their sign, infinities have lo =
// 0, a finite x that rounds past the largest finite bfloat16 has an infinite hi and still comes
// back. NaN becomes the quiet NaN of its sign, with lo = 0, so that hi alone shows it. Host and
// device, C++17. Pure; no errors.

#include <cstdint>

#include "sae/kernels/bf16.h"

namespace sae::kernels {

struct SplitFloat {
  std::uint16_t hi = 0;  ///< bits of the nearest bfloat16
  std::int16_t lo = 0;   ///< what is to be added to the bits of hi
};

SAELOOM_HOST_DEVICE inline SplitFloat Split(float value) {
  const std::uint32_t bits = FloatBits(value);
  SplitFloat out;
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    out.hi = static_cast<std::uint16_t>(((bits >> 16) & 0x8000U) | 0x7fc0U);
    return out;
  }
  out.hi = static_cast<std::uint16_t>((bits + 0x8000U) >> 16);
  // The low 16 bits are the difference already: hi << 16 has none.
  out.lo = static_cast<std::int16_t>(static_cast<std::uint16_t>(bits & 0xffffU));
  return out;
}

SAELOOM_HOST_DEVICE inline float Join(std::uint16_t hi, std::int16_t lo) {
  const auto rest = static_cast<std::uint32_t>(static_cast<std::int32_t>(lo));  // sign extended
  return FloatOfBits((static_cast<std::uint32_t>(hi) << 16) + rest);
}
SAELOOM_HOST_DEVICE inline float Join(SplitFloat split) { return Join(split.hi, split.lo); }

}  // namespace sae::kernels
