#include "sae/optim/adam.h"

#include <cmath>

#include "gtest/gtest.h"

#include "sae/base/random.h"
#include "sae/model/golden.h"

namespace sae::optim {
namespace {

using model::GoldenCase;
using model::Parameters;
using model::ReferenceParameters;

Parameters<double> From(const ReferenceParameters& r) {
  Parameters<double> p({r.n, r.d, r.d});
  std::copy(r.w_enc.begin(), r.w_enc.end(), p.w_enc.begin());
  std::copy(r.w_dec.begin(), r.w_dec.end(), p.w_dec.begin());
  std::copy(r.b_enc.begin(), r.b_enc.end(), p.b_enc.begin());
  std::copy(r.b_dec.begin(), r.b_dec.end(), p.b_dec.begin());
  return p;
}

TEST(UpdateFromDense, MatchesTheReferenceOverFiveSteps) {
  GoldenCase g = model::MakeGoldenCase();
  Parameters<double> p = From(g.p);
  Moments<double> moments({g.p.n, g.p.d, g.p.d});
  ReferenceParameters m = ZerosLike(g.p), v = ZerosLike(g.p);
  ThreadPool pool(2);
  for (std::int64_t t = 1; t <= 5; ++t) {
    const ReferenceParameters gradient = ReferenceReluL1(g.p, g.x, 0.3).gradient;
    Parameters<double> dense = From(gradient);
    const kernels::Adam adam = kernels::Adam::At(t, 1e-2, 0.9, 0.999, 1e-8);
    UpdateFromDense(adam, t, true, dense.w_enc.data(), dense.w_dec.data(), p, moments, pool);
    UpdateVector(adam, 1, p.b_enc, moments.m.b_enc, moments.v.b_enc, dense.b_enc.data(), pool);
    UpdateVector(adam, 1, p.b_dec, moments.m.b_dec, moments.v.b_dec, dense.b_dec.data(), pool);
    ReferenceUpdate(g.p, gradient, m, v, {1e-2, 0.9, 0.999, 1e-8}, t);
    for (std::size_t i = 0; i < g.p.w_enc.size(); ++i) {
      EXPECT_NEAR(p.w_enc[i], g.p.w_enc[i], 1e-12);
      EXPECT_NEAR(p.w_dec[i], g.p.w_dec[i], 1e-12);
    }
    for (std::size_t i = 0; i < g.p.b_enc.size(); ++i) EXPECT_NEAR(p.b_enc[i], g.p.b_enc[i], 1e-12);
    for (std::size_t i = 0; i < g.p.b_dec.size(); ++i) EXPECT_NEAR(p.b_dec[i], g.p.b_dec[i], 1e-12);
  }
}

TEST(UpdateFromDense, KeepsDecoderRowsOnTheSphere) {
  const std::int64_t n = 7, d = 33;
  Parameters<float> p({n, d, d});
  Parameters<float> gradient({n, d, d});
  model::InitialiseParameters<float>(3, {n, 0, n},
                                     std::vector<double>(static_cast<std::size_t>(d), 0.0), true,
                                     &p);
  Moments<float> moments({n, d, d});
  ThreadPool pool(1);
  Random random(5);
  for (std::int64_t t = 1; t <= 4; ++t) {
    for (float& x : gradient.w_dec) x = static_cast<float>(random.Normal());
    UpdateFromDense(kernels::Adam::At(t, 0.05, 0.9, 0.999, 1e-8), t, true, gradient.w_enc.data(),
                    gradient.w_dec.data(), p, moments, pool);
    for (std::int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(std::sqrt(kernels::SumOfSquares(d, p.w_dec.data() + i * d)), 1, 2e-7);
    }
  }
}

TEST(UpdateFromDense, FirstStepMovesByTheLearningRateTimesTheSign) {
  Parameters<double> p({1, 3, 3}), gradient({1, 3, 3});
  p.w_dec[0] = 1;
  gradient.w_enc = {2.0, -0.5, 1e-3};
  Moments<double> moments({1, 3, 3});
  ThreadPool pool(1);
  UpdateFromDense(kernels::Adam::At(1, 0.1, 0.9, 0.999, 1e-12), 1, true, gradient.w_enc.data(),
                  gradient.w_dec.data(), p, moments, pool);
  EXPECT_NEAR(p.w_enc[0], -0.1, 1e-8);
  EXPECT_NEAR(p.w_enc[1], 0.1, 1e-8);
  EXPECT_NEAR(p.w_enc[2], -0.1, 1e-8);
  // No gradient, no momentum: the decoder row keeps its bits.
  EXPECT_EQ(p.w_dec[0], 1);
}

// Property 5: with beta1 = 0 the first step is a step of the sign.
TEST(UpdateVector, FirstStepWithoutMomentumIsTheSign) {
  kernels::AlignedVector<double> p = {1, 1, 1}, m(3), v(3);
  std::vector<double> gradient = {4.0, -1e-3, 0.0};
  ThreadPool pool(1);
  UpdateVector(kernels::Adam::At(1, 0.1, 0, 0.999, 1e-14), 1, p, m, v, gradient.data(), pool);
  EXPECT_NEAR(p[0], 0.9, 1e-9);
  EXPECT_NEAR(p[1], 1.1, 1e-9);
  EXPECT_EQ(p[2], 1);
}

}  // namespace
}  // namespace sae::optim
