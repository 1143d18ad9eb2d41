#pragma once
// Deterministic random numbers, the same on every machine and library version: none of <random>'s
// distributions, whose output the standard leaves open. Not thread-safe; copy to fork a stream.

#include <cmath>
#include <cstdint>

namespace sae {

/// The SplitMix64 finaliser: a bijection on 64 bits that mixes well.
constexpr std::uint64_t Mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// A value that depends on (seed, a, b) alone: for counters, so that order and world size do not matter.
constexpr std::uint64_t HashCounter(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0) {
  std::uint64_t h = Mix64(seed + 0x9E3779B97F4A7C15ULL);
  h = Mix64(h ^ (a + 0x9E3779B97F4A7C15ULL));
  return Mix64(h ^ (b + 0xD1B54A32D192ED03ULL));
}

/// SplitMix64 (Steele, Lea, Flood 2014): state += golden gamma, then Mix64.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed) {}
  std::uint64_t Next() { return Mix64(state_ += 0x9E3779B97F4A7C15ULL); }
  /// Uniform in [0, 1), a multiple of 2^-53.
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  /// Uniform integer in [0, n), n > 0, without bias (Lemire 2019).
  std::uint64_t Below(std::uint64_t n) {
    unsigned __int128 m = static_cast<unsigned __int128>(Next()) * n;
    if (auto low = static_cast<std::uint64_t>(m); low < n) {
      const std::uint64_t threshold = (0 - n) % n;
      while (low < threshold) {
        m = static_cast<unsigned __int128>(Next()) * n;
        low = static_cast<std::uint64_t>(m);
      }
    }
    return static_cast<std::uint64_t>(m >> 64);
  }
  /// Standard normal (Box-Muller, one value a call).
  double Normal() {
    const double u = 1.0 - Uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * Uniform());
  }
  std::uint64_t state() const { return state_; }
  void set_state(std::uint64_t state) { state_ = state; }

 private:
  std::uint64_t state_;
};

}  // namespace sae
