#pragma once
// What the benchmarks share: time of a piece of work, medians, random rows, and the threshold for a wanted share
// of firing latents. Functions without state.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <vector>

#include "sae/base/random.h"

namespace sae::bench {

/// Milliseconds; processor: of all threads of the process, which others on the machine disturb less.
struct Cost {
  double wall = 0;
  double processor = 0;
};

template <class Work>
Cost Measure(const Work& work) {
  const std::clock_t used = std::clock();
  const auto start = std::chrono::steady_clock::now();
  work();
  const auto end = std::chrono::steady_clock::now();
  return {std::chrono::duration<double, std::milli>(end - start).count(),
          1e3 * static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC};
}

inline double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

/// Standard normal values, the same in every run.
inline std::vector<float> Normals(std::int64_t count) {
  Random random(1);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

/// The bound that a standard normal exceeds with probability p, by bisection.
inline double NormalQuantile(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > p ? low : high) = middle;
  }
  return low;
}

/// b_enc with which l0 of `latents` fire, of fresh weights.
inline double BiasFor(double l0, std::int64_t latents, std::int64_t width) {
  return -NormalQuantile(l0 / static_cast<double>(latents)) / std::sqrt(static_cast<double>(width));
}

}  // namespace sae::bench
