#pragma once
// Problems made to fool a screen, and the plain loop over ReferenceDot that certified selection
// must equal bit for bit.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "sae/kernels/encode_test_data.h"
#include "sae/kernels/screen.h"

namespace sae::kernels::testing {

inline std::uint32_t Bits(float v) { return std::bit_cast<std::uint32_t>(v); }

/// Moves v by `steps` representable numbers.
inline float Nudge(float v, std::int32_t steps) {
  return std::bit_cast<float>(Bits(v) + static_cast<std::uint32_t>(steps));
}

enum class Kind {
  kRandom,     ///< normal; x is not representable in bf16
  kStored,     ///< x is
  kNearTies,   ///< families of rows that bf16 cannot tell apart, with exact copies among them
  kTies,       ///< small integers: exact products, many exact ties
  kSubnormal,  ///< operands and products down to the smallest numbers, zero rows and tokens
  kHuge,       ///< operands near 2^48
  kMixed,      ///< row and token norms over twelve orders of magnitude
  kBiased,     ///< biases a million times the products
  kOffset,     ///< tokens far from the origin and close together
  kSame,       ///< all rows equal but for the last bit here and there
};
inline constexpr Kind kKinds[] = {Kind::kRandom,    Kind::kStored, Kind::kNearTies, Kind::kTies,
                                  Kind::kSubnormal, Kind::kHuge,   Kind::kMixed,    Kind::kBiased,
                                  Kind::kOffset,    Kind::kSame};

inline void ScaleRows(std::vector<float>& rows, std::int64_t d, std::uint64_t seed, int low,
                      int high) {
  Random random(seed);
  for (std::size_t at = 0; at < rows.size(); at += static_cast<std::size_t>(d)) {
    const auto span = static_cast<std::uint64_t>(high - low + 1);
    const float factor = std::ldexp(1.0F, low + static_cast<int>(random.Below(span)));
    for (std::size_t j = at; j < at + static_cast<std::size_t>(d); ++j) rows[j] *= factor;
  }
}

/// Rows become copies of every eighth, some of them with last bits changed.
inline void MakeFamilies(std::vector<float>& w, std::int64_t d, std::int64_t family) {
  Random random(77);
  const std::int64_t rows = static_cast<std::int64_t>(w.size()) / d;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t parent = i / family * family;
    for (std::int64_t j = 0; j < d; ++j) {
      float v = w[static_cast<std::size_t>(parent * d + j)];
      if (i % family % 3 == 1 && random.Below(4) == 0)
        v = Nudge(v, static_cast<std::int32_t>(random.Below(7)) - 3);
      w[static_cast<std::size_t>(i * d + j)] = v;
    }
  }
}

inline Problem<float> Make(Kind kind, const Shape& s) {
  std::vector<float> x = Normal<float>(3, s.tokens * s.d);
  std::vector<float> w = Normal<float>(4, s.latents * s.d, 1.0 / 8);
  std::vector<float> c = Normal<float>(5, s.latents);
  if (kind == Kind::kStored || kind == Kind::kNearTies) {
    for (float& v : x) v = std::bit_cast<float>(Bits(v) & 0xffff0000U);
  }
  if (kind == Kind::kNearTies) {
    MakeFamilies(w, s.d, 24);
    for (std::size_t i = 0; i < c.size(); ++i) c[i] = c[i / 24 * 24];
  }
  if (kind == Kind::kTies) {
    x = Integers<float>(3, s.tokens * s.d, 3);
    w = Integers<float>(4, s.latents * s.d, 2);
    c = Integers<float>(5, s.latents, 1);
  }
  if (kind == Kind::kSubnormal) {
    ScaleRows(x, s.d, 6, -145, -60);
    ScaleRows(w, s.d, 7, -149, -2);
    for (std::int64_t j = 0; j < s.d; ++j) x[static_cast<std::size_t>(j)] = 0;
    for (std::int64_t j = 0; j < s.d; ++j) w[static_cast<std::size_t>(j)] = -0.0F;
    for (std::size_t i = 0; i < c.size(); ++i) c[i] = i % 5 == 0 ? c[i] * 1e-40F : 0.0F;
  }
  if (kind == Kind::kHuge) {
    ScaleRows(x, s.d, 6, 40, 48);
    ScaleRows(w, s.d, 7, 44, 48);
  }
  if (kind == Kind::kMixed) {
    ScaleRows(x, s.d, 6, -20, 20);
    ScaleRows(w, s.d, 7, -20, 0);
  }
  if (kind == Kind::kBiased) {
    for (float& v : c) v *= 1e6F;
  }
  if (kind == Kind::kOffset) {
    const std::vector<float> mean = Normal<float>(8, s.d, 50);
    for (std::size_t at = 0; at < x.size(); ++at)
      x[at] = mean[at % static_cast<std::size_t>(s.d)] + 0.02F * x[at];
  }
  if (kind == Kind::kSame) {
    MakeFamilies(w, s.d, s.latents);
    std::fill(c.begin(), c.end(), 0.5F);
  }
  return {s, std::move(x), std::move(w), std::move(c)};
}

inline float PlainReference(const EncodeInput<float>& in, std::int64_t token, std::int64_t latent) {
  return ReferenceZ(in.scale, ReferenceDot(in.d, in.w + latent * in.d, in.x + token * in.d),
                    in.c[latent]);
}

/// All latents of one token in order, by the reference.
inline std::vector<Scored<float>> ReferenceOrder(const EncodeInput<float>& in, std::int64_t token) {
  std::vector<Scored<float>> all;
  for (std::int64_t i = 0; i < in.latents; ++i) {
    all.push_back({PlainReference(in, token, i), static_cast<std::int32_t>(in.first_latent + i)});
  }
  std::sort(all.begin(), all.end(), Before<float>);
  return all;
}

}  // namespace sae::kernels::testing
