#pragma once
// Encoder problems for the tests of this folder, and the plain float64 reference of z.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "sae/kernels/encode.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels::testing {

struct Shape {
  std::int64_t tokens, latents, d, k;
};

template <class T>
struct Problem {
  std::vector<T> x, w, c;
  EncodeInput<T> input;

  Problem(const Shape& s, std::vector<T> x_in, std::vector<T> w_in, std::vector<T> c_in)
      : x(std::move(x_in)), w(std::move(w_in)), c(std::move(c_in)) {
    input.x = x.data();
    input.tokens = s.tokens;
    input.d = s.d;
    input.w = w.data();
    input.c = c.data();
    input.latents = s.latents;
  }
  Problem(const Problem&) = delete;

  static Problem Random(const Shape& s) {
    return Problem(s, Normal<T>(3, s.tokens * s.d), Normal<T>(4, s.latents * s.d),
                   Normal<T>(5, s.latents));
  }
  /// Integers: every z is exact, and there are many ties.
  static Problem Ties(const Shape& s) {
    return Problem(s, Integers<T>(3, s.tokens * s.d, 3), Integers<T>(4, s.latents * s.d, 2),
                   Integers<T>(5, s.latents, 1));
  }
};

template <class T>
double PlainZ(const EncodeInput<T>& in, std::int64_t token, std::int64_t latent) {
  double sum = 0;
  for (std::int64_t j = 0; j < in.d; ++j) {
    sum +=
        static_cast<double>(in.x[token * in.d + j]) * static_cast<double>(in.w[latent * in.d + j]);
  }
  return static_cast<double>(in.scale) * sum + static_cast<double>(in.c[latent]);
}

/// The whole order of one token by a plain sort of all pre-activations.
template <class T>
std::vector<Scored<double>> PlainOrder(const EncodeInput<T>& in, std::int64_t token) {
  std::vector<Scored<double>> all;
  for (std::int64_t i = 0; i < in.latents; ++i) {
    all.push_back({PlainZ(in, token, i), static_cast<std::int32_t>(in.first_latent + i)});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.value > b.value; });
  return all;
}

inline const Shape kShapes[] = {{1, 1, 1, 1},     {3, 7, 5, 2},     {5, 511, 3, 511},
                                {513, 20, 7, 4},  {2, 513, 4, 900}, {700, 1100, 6, 37},
                                {4, 1300, 33, 64}};

}  // namespace sae::kernels::testing
