#pragma once
// The deterministic inputs of the golden vectors (SplitMix64 from 1234, values 2u - 1): x [6, 4], y
// [6, 4] and parameters n = 10, d = 4, of every architecture. For tests.

#include <cmath>
#include <vector>

#include "sae/base/random.h"
#include "sae/model/reference.h"

namespace sae::model {

struct GoldenCase {
  std::vector<double> x;
  ReferenceParameters p;          ///< decoder rows of unit norm; no skip
  std::vector<double> y;          ///< a transcoder's targets
  std::vector<double> raw_w_dec;  ///< decoder rows before normalisation
  std::vector<double> w_skip;     ///< [4, 4]
};

inline GoldenCase MakeGoldenCase() {
  Random random(1234);
  const auto draw = [&](int count, double scale) {
    std::vector<double> out(static_cast<std::size_t>(count));
    for (double& v : out) v = scale * (2 * random.Uniform() - 1);
    return out;
  };
  GoldenCase g;
  g.x = draw(24, 1);
  g.p.n = 10;
  g.p.d = 4;
  g.p.w_enc = draw(40, 1);
  g.p.b_enc = draw(10, 0.1);
  g.p.w_dec = draw(40, 1);
  g.p.b_dec = draw(4, 0.1);
  g.p.r_mag = draw(10, 0.2);
  g.p.b_mag = draw(10, 0.1);
  g.p.threshold = draw(10, 1);
  for (double& v : g.p.threshold) v = 0.2 + 0.1 * std::abs(v);
  g.w_skip = draw(16, 0.3);
  g.y = draw(24, 1);
  g.raw_w_dec = g.p.w_dec;
  for (std::size_t i = 0; i < 10; ++i) {
    double norm = 0;
    for (std::size_t j = 0; j < 4; ++j) norm += g.p.w_dec[4 * i + j] * g.p.w_dec[4 * i + j];
    for (std::size_t j = 0; j < 4; ++j) g.p.w_dec[4 * i + j] /= std::sqrt(norm);
  }
  return g;
}

}  // namespace sae::model
