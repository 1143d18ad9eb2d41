#pragma once
// Data for the tests of this folder: seeded, and small integers where sums must be exact.

#include <cstdint>
#include <vector>

#include "sae/base/random.h"
#include "sae/kernels/codes.h"

namespace sae::kernels::testing {

template <class T>
std::vector<T> Normal(std::uint64_t seed, std::int64_t count, double scale = 1) {
  Random random(seed);
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& value : out) value = static_cast<T>(scale * random.Normal());
  return out;
}

/// Integers in [-range, range]: dot products of short rows are exact in float32, so ties are real
/// ties.
template <class T>
std::vector<T> Integers(std::uint64_t seed, std::int64_t count, int range) {
  Random random(seed);
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& value : out)
    value = static_cast<T>(
        static_cast<int>(random.Below(static_cast<std::uint64_t>(2 * range + 1))) - range);
  return out;
}

/// About `density` of all (token, latent) pairs, values in (0, 1]; some tokens and latents stay
/// empty.
template <class T>
Codes<T> RandomCodes(std::uint64_t seed, std::int64_t tokens, std::int64_t latents,
                     double density) {
  Random random(seed);
  Codes<T> codes;
  codes.Clear(tokens, latents);
  for (std::int64_t b = 0; b < tokens; ++b) {
    for (std::int64_t i = 0; i < latents; ++i) {
      if (b % 7 == 3 || i % 5 == 2 || random.Uniform() >= density) continue;
      codes.ids.push_back(static_cast<std::int32_t>(i));
      codes.values.push_back(static_cast<T>(1 - random.Uniform()));
    }
    codes.indptr[static_cast<std::size_t>(b) + 1] = static_cast<std::int64_t>(codes.ids.size());
  }
  return codes;
}

}  // namespace sae::kernels::testing
