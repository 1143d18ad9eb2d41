#pragma once
// Problems for the tests of certified top-k: near ties that bfloat16 cannot see, and what cannot be
// screened.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/prepare_test_data.h"

namespace sae::kernels::testing {

struct CertifiedProblem {
  std::string name;
  std::int64_t tokens = 0, latents = 0, d = 0, k = 0;
  std::vector<float> x, w, c;
  float scale = 1;
  bool has_lo = true;  ///< else the weights are their high halves
};

inline CertifiedProblem RandomProblem(const std::string& name, std::int64_t tokens,
                                      std::int64_t latents, std::int64_t d, std::int64_t k) {
  CertifiedProblem p;
  p.name = name;
  p.tokens = tokens;
  p.latents = latents;
  p.d = d;
  p.k = k;
  p.x = Normal<float>(21, tokens * d);
  p.w = Normal<float>(22, latents * d, 1 / std::sqrt(static_cast<double>(d)));
  p.c = Normal<float>(23, latents, 0.1);
  return p;
}

inline std::vector<CertifiedProblem> CertifiedProblems() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<CertifiedProblem> all;
  all.push_back(RandomProblem("one", 1, 1, 1, 1));
  all.push_back(RandomProblem("random", 3, 600, 37, 8));
  all.back().scale = 0.3F;
  all.push_back(RandomProblem("long chunk", 1, 1400, 5, 12));
  all.push_back(RandomProblem("more than latents", 2, 50, 17, 70));
  all.push_back(RandomProblem("long rows", 2, 40, 301, 5));
  all.push_back(RandomProblem("bfloat16 weights", 2, 300, 20, 6));
  all.back().has_lo = false;

  CertifiedProblem ulps = RandomProblem("rows a few units in the last place apart", 3, 200, 33, 10);
  for (std::size_t i = 33; i < ulps.w.size(); ++i) {
    ulps.w[i] = ulps.w[i % 33];
    for (std::size_t step = 0; step < i / 33 % 7; ++step)
      ulps.w[i] = std::nextafter(ulps.w[i], i % 2 == 0 ? 10.0F : -10.0F);
  }
  ulps.c.assign(ulps.c.size(), 0.25F);
  all.push_back(ulps);

  CertifiedProblem equal = RandomProblem("more equal rows than the list takes", 2, 400, 9, 3);
  for (std::size_t i = 9; i < equal.w.size(); ++i) equal.w[i] = equal.w[i % 9];
  equal.c.assign(equal.c.size(), -0.5F);
  all.push_back(equal);

  CertifiedProblem odd = RandomProblem("zeros, masks, huge and tiny rows", 4, 120, 18, 9);
  for (std::size_t j = 0; j < 18; ++j) {
    odd.x[j] = 0;                 // a token of zeros
    odd.x[18 + j] *= 1e16F;       // one that cannot be screened
    odd.x[2 * 18 + j] *= 1e-30F;  // and one of tiny values
    odd.w[5 * 18 + j] *= 1e16F;   // a latent that is always computed
    odd.w[6 * 18 + j] *= 1e-30F;
    odd.w[7 * 18 + j] = j == 0 ? 3.4e38F : 0;  // its high half is infinite
  }
  odd.c[3] = -kInfinity;
  odd.c[11] = 1e30F;
  odd.c[12] = 0;
  all.push_back(odd);

  CertifiedProblem nan = RandomProblem("NaN", 3, 60, 7, 4);
  nan.x[7 + 3] = std::nanf("");
  all.push_back(nan);
  CertifiedProblem nan_row = RandomProblem("NaN in a row", 2, 60, 7, 4);
  nan_row.w[30 * 7 + 2] = std::nanf("");
  all.push_back(nan_row);
  for (CertifiedProblem& p : all) {
    for (float& weight : p.w) {
      if (!p.has_lo) weight = Bf16ToFloat(Split(weight).hi);
    }
  }
  return all;
}

}  // namespace sae::kernels::testing
