#pragma once
// bfloat16 as its 16 bits, for host and device. C++17, no other header of the project: .cu files
// include it. Pure functions; no errors.

#include <cstdint>
#include <cstring>

/// Marks a function that host and device call.
#ifndef SAELOOM_HOST_DEVICE
#if defined(__CUDACC__)
#define SAELOOM_HOST_DEVICE __host__ __device__
#else
#define SAELOOM_HOST_DEVICE
#endif
#endif

/// The same, and part of its caller: so a loop over it becomes vectors of the caller's instruction
/// set.
#ifndef SAELOOM_HOST_DEVICE_INLINE
#if defined(__CUDACC__)
#define SAELOOM_HOST_DEVICE_INLINE __host__ __device__ __forceinline__
#else
#define SAELOOM_HOST_DEVICE_INLINE inline __attribute__((always_inline))
#endif
#endif

namespace sae::kernels {

using bf16 = std::uint16_t;

SAELOOM_HOST_DEVICE_INLINE std::uint32_t FloatBits(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
SAELOOM_HOST_DEVICE_INLINE float FloatOfBits(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Rounds to nearest, ties to even; NaN stays NaN.
SAELOOM_HOST_DEVICE_INLINE std::uint16_t FloatToBf16(float value) {
  const std::uint32_t bits = FloatBits(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
SAELOOM_HOST_DEVICE_INLINE float Bf16ToFloat(std::uint16_t half) {
  return FloatOfBits(static_cast<std::uint32_t>(half) << 16);
}

}  // namespace sae::kernels
