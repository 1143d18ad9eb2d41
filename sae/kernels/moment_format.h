#pragma once
// Adam's moments in fewer bits: bfloat16, or 8-bit codes with a float32 scale for each block of 64
// columns of a row (the last block ends with the row). Values are float32 in registers; only what
// is stored is rounded. Host and device, C++17. Pure; no errors; NaN and infinity come back as NaN.
//
// Rounding is stochastic: up or down with the probabilities that make the mean right. To nearest,
// v would stall: beta2 = 0.999 takes away less than half of a last place. The random bits depend on
// (seed, step, global latent id, column, matrix, moment) alone: not on ranks, threads or order.
//
// The 8-bit map is dynamic: dense near the block's largest magnitude, with a long tail. In units of
// that magnitude, group g = 0 .. bits - 1 spans the four octaves (16^-(g+1), 16^-g] with
// 2^(bits - 1 - g) codes, evenly spaced inside an octave where there are four or more; the largest
// code is 1 and code 0 is 0. m: a sign (bit 7) and 7 bits, down to 2^-24; v: 8 bits, down to 2^-28.
// A v that is not 0 is never stored as 0: m / (sqrt(0) + eps) would be a step without bound.
// Sources: Dettmers et al. 2022, 8-bit optimizers via block-wise quantization (dynamic map, there
// by decades); Kingma and Ba 2015.

#include <cstdint>

#include "sae/kernels/bf16.h"

namespace sae::kernels {

enum class MomentFormat { kF32, kBf16, kInt8 };
enum class MomentRounding { kStochastic, kNearest };
enum class MomentMatrix { kEncoder = 0, kDecoder = 1 };
enum class Moment { kFirst, kSecond };  ///< m, v >= 0

inline constexpr int kMomentBlock = 64;  ///< columns that share a scale

/// Scales of a row of d columns.
SAELOOM_HOST_DEVICE_INLINE std::int64_t MomentBlocks(std::int64_t d) {
  return (d + kMomentBlock - 1) / kMomentBlock;
}

/// What the random bits of one row of one matrix come from, at one step.
struct RoundingKey {
  std::uint32_t a = 0;
  std::uint32_t b = 0;
};

/// The SplitMix64 finaliser.
SAELOOM_HOST_DEVICE_INLINE std::uint64_t MixBits(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

/// Once a row. `step` is Adam's, from 1; `latent` a global id.
SAELOOM_HOST_DEVICE_INLINE RoundingKey RoundingKeyOf(std::uint64_t seed, std::uint64_t step,
                                                     std::uint64_t latent, MomentMatrix matrix) {
  std::uint64_t h = MixBits(seed + 0x9e3779b97f4a7c15ULL);
  h = MixBits(h ^ (step + 0xd1b54a32d192ed03ULL));
  h = MixBits(h ^ (2 * latent + static_cast<std::uint64_t>(matrix) + 0x8cb92ba72f3d8dd7ULL));
  return {static_cast<std::uint32_t>(h), static_cast<std::uint32_t>(h >> 32)};
}

/// 32 random bits of one column: the lower half is m's, the upper v's.
SAELOOM_HOST_DEVICE_INLINE std::uint32_t RandomBits(RoundingKey key, std::uint32_t column) {
  std::uint32_t h = key.a + column * 0x9e3779b9U;
  h = (h ^ (h >> 16)) * 0x7feb352dU;
  h = (h ^ (h >> 15) ^ key.b) * 0x846ca68bU;
  return h ^ (h >> 16);
}
/// What the encoders below take as `random`: 16 bits, or the middle, which rounds to nearest.
SAELOOM_HOST_DEVICE_INLINE std::uint32_t RandomOf(RoundingKey key, std::uint32_t column,
                                                  Moment moment, MomentRounding rounding) {
  if (rounding == MomentRounding::kNearest) return 0x8000U;
  const std::uint32_t bits = RandomBits(key, column);
  return moment == Moment::kFirst ? bits & 0xffffU : bits >> 16;
}

/// Mean over all `random` in [0, 2^16) = value. Finite stays finite.
SAELOOM_HOST_DEVICE_INLINE std::uint16_t EncodeBf16(float value, std::uint32_t random) {
  constexpr std::uint32_t kExponent = 0x7f800000U;
  const std::uint32_t bits = FloatBits(value);
  if ((bits & kExponent) == kExponent) return FloatToBf16(value);
  const std::uint32_t sum = bits + random;
  return static_cast<std::uint16_t>(((sum & kExponent) == kExponent ? bits : sum) >> 16);
}
SAELOOM_HOST_DEVICE_INLINE float DecodeBf16(std::uint16_t code) { return Bf16ToFloat(code); }

/// The scale of a block from the largest of its values' MagnitudeBits: that magnitude; 0 where it
/// is not a normal number, NaN where one of them is not finite.
SAELOOM_HOST_DEVICE_INLINE std::uint32_t MagnitudeBits(float value) {
  return FloatBits(value) & 0x7fffffffU;
}
SAELOOM_HOST_DEVICE_INLINE float BlockScale(std::uint32_t largest) {
  if (largest < 0x00800000U) return 0.0F;
  return FloatOfBits(largest < 0x7f800000U ? largest : 0x7fc00000U);
}
/// What Encode8 multiplies by; once a block.
SAELOOM_HOST_DEVICE_INLINE float InverseScale(float scale) {
  return scale == 0.0F ? 0.0F : 1.0F / scale;
}

SAELOOM_HOST_DEVICE_INLINE int CodeBits(Moment moment) { return moment == Moment::kFirst ? 7 : 8; }

/// |value| in a block whose InverseScale is given; mean over all `random` = |value|, within 2^-15
/// of the distance of neighbours, but for v below the smallest code. What DecodeMagnitude times the
/// scale gives comes back as its code for every `random`.
SAELOOM_HOST_DEVICE_INLINE std::uint32_t EncodeMagnitude(float value, float inverse, Moment moment,
                                                         std::uint32_t random) {
  constexpr std::uint32_t kOne = 0x3f800000U;
  const auto bits = static_cast<std::uint32_t>(CodeBits(moment));
  // Everything here is 0 or more: bits compare as values do, and without branches.
  const std::uint32_t product = FloatBits(FloatOfBits(MagnitudeBits(value)) * inverse);
  const std::uint32_t below_one = product < kOne ? product : kOne;  // NaN too: its scale is NaN
  const float ratio = FloatOfBits(below_one);
  // Down from 1 in bits of a float: 25 of them are four octaves.
  const std::uint32_t last = (bits - 1) << 25;
  const std::uint32_t given = kOne - below_one;
  const std::uint32_t down = given < last ? given : last;
  const std::uint32_t group = down >> 25;
  const std::uint32_t shift = 26 - bits + group;
  const std::uint32_t place = (down - (group << 25)) >> shift;
  const std::uint32_t code = (1U << (bits - group)) - 1 - place;
  const std::uint32_t above = kOne - (group << 25) - (place << shift);
  const float high = FloatOfBits(above);
  const float low = FloatOfBits(code == 1 ? 0U : above - (1U << shift));
  const float cut =
      (static_cast<float>(static_cast<std::int32_t>(random)) + 0.5F) * 0x1.0p-16F * (high - low);
  const std::uint32_t lowered = FloatBits(cut) < FloatBits(high - ratio) ? 1U : 0U;
  const std::uint32_t rounded = code - lowered;
  if (moment == Moment::kFirst) return rounded;
  const std::uint32_t least = (MagnitudeBits(value) != 0 ? 1U : 0U) & (FloatBits(inverse) != 0);
  return rounded > least ? rounded : least;
}
/// The inverse, in units of the block's scale.
SAELOOM_HOST_DEVICE_INLINE float DecodeMagnitude(std::uint32_t code, Moment moment) {
  constexpr std::uint32_t kOne = 0x3f800000U;
  const auto bits = static_cast<std::uint32_t>(CodeBits(moment));
  const std::uint32_t top =
      (FloatBits(static_cast<float>(static_cast<std::int32_t>(code == 0 ? 1 : code))) >> 23) - 127;
  const std::uint32_t group = bits - 1 - top;
  const std::uint32_t place = (2U << top) - 1 - code;
  const std::uint32_t value = kOne - (group << 25) - (place << (26 - bits + group));
  return FloatOfBits(code == 0 ? 0U : value);
}

/// One value of a block.
SAELOOM_HOST_DEVICE_INLINE std::uint8_t Encode8(float value, float inverse, Moment moment,
                                                std::uint32_t random) {
  const std::uint32_t code = EncodeMagnitude(value, inverse, moment, random);
  if (moment == Moment::kSecond) return static_cast<std::uint8_t>(code);
  const std::uint32_t sign = (FloatBits(value) >> 24) & 0x80U;
  return static_cast<std::uint8_t>(code == 0 ? 0U : code | sign);
}
SAELOOM_HOST_DEVICE_INLINE float Decode8(std::uint8_t code, float scale, Moment moment) {
  if (moment == Moment::kSecond) return DecodeMagnitude(code, moment) * scale;
  const float magnitude = DecodeMagnitude(code & 0x7fU, moment) * scale;
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80U) << 24;
  return FloatOfBits(FloatBits(magnitude) | sign);
}

/// A segment of a row, `count` columns from `first` on. 8 bits: `first` is a multiple of 64 and the
/// segment ends at one or with the row; `scales` are those of its blocks.
SAELOOM_HOST_DEVICE_INLINE void EncodeBf16Row(std::int64_t first, std::int64_t count,
                                              const float* values, RoundingKey key, Moment moment,
                                              MomentRounding rounding, std::uint16_t* codes) {
  for (std::int64_t j = 0; j < count; ++j) {
    codes[j] = EncodeBf16(values[j],
                          RandomOf(key, static_cast<std::uint32_t>(first + j), moment, rounding));
  }
}
SAELOOM_HOST_DEVICE_INLINE void DecodeBf16Row(std::int64_t count, const std::uint16_t* codes,
                                              float* values) {
  for (std::int64_t j = 0; j < count; ++j) values[j] = DecodeBf16(codes[j]);
}
template <Moment kMoment>
SAELOOM_HOST_DEVICE_INLINE void Encode8Row(std::int64_t first, std::int64_t count,
                                           const float* values, RoundingKey key,
                                           MomentRounding rounding,
                                           std::uint8_t* __restrict__ codes,
                                           float* __restrict__ scales) {
  for (std::int64_t begin = 0; begin < count; begin += kMomentBlock) {
    const std::int64_t rest = count - begin;
    const int size = rest < kMomentBlock ? static_cast<int>(rest) : kMomentBlock;
    const float* const block = values + begin;
    std::uint32_t largest = 0;
    for (int j = 0; j < size; ++j) {
      const std::uint32_t bits = MagnitudeBits(block[j]);
      largest = bits > largest ? bits : largest;
    }
    const float scale = BlockScale(largest);
    const float inverse = InverseScale(scale);
    scales[begin / kMomentBlock] = scale;
    const auto column = static_cast<std::uint32_t>(first + begin);
    for (int j = 0; j < size; ++j) {
      const std::uint32_t random =
          RandomOf(key, column + static_cast<std::uint32_t>(j), kMoment, rounding);
      codes[begin + j] = Encode8(block[j], inverse, kMoment, random);
    }
  }
}
template <Moment kMoment>
SAELOOM_HOST_DEVICE_INLINE void Decode8Row(std::int64_t count, const std::uint8_t* codes,
                                           const float* scales, float* __restrict__ values) {
  for (std::int64_t begin = 0; begin < count; begin += kMomentBlock) {
    const std::int64_t rest = count - begin;
    const int size = rest < kMomentBlock ? static_cast<int>(rest) : kMomentBlock;
    const float scale = scales[begin / kMomentBlock];
    for (int j = 0; j < size; ++j) values[begin + j] = Decode8(codes[begin + j], scale, kMoment);
  }
}
/// The same, for a moment known later.
SAELOOM_HOST_DEVICE_INLINE void Encode8Row(std::int64_t first, std::int64_t count,
                                           const float* values, RoundingKey key, Moment moment,
                                           MomentRounding rounding, std::uint8_t* codes,
                                           float* scales) {
  if (moment == Moment::kFirst) {
    Encode8Row<Moment::kFirst>(first, count, values, key, rounding, codes, scales);
  } else {
    Encode8Row<Moment::kSecond>(first, count, values, key, rounding, codes, scales);
  }
}
SAELOOM_HOST_DEVICE_INLINE void Decode8Row(std::int64_t count, const std::uint8_t* codes,
                                           const float* scales, Moment moment, float* values) {
  if (moment == Moment::kFirst) {
    Decode8Row<Moment::kFirst>(count, codes, scales, values);
  } else {
    Decode8Row<Moment::kSecond>(count, codes, scales, values);
  }
}

}  // namespace sae::kernels
