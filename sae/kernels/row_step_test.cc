#include "sae/kernels/row_step.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "sae/kernels/row_step_reference.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

using namespace row_step_reference;  // NOLINT: this test's own reference
using Rows = RowUpdateOptions::Rows;

constexpr DecoderRule kRules[] = {DecoderRule::kUnit, DecoderRule::kUnitBefore, DecoderRule::kFree,
                                  DecoderRule::kOnTheFly};

template <class T>
class RowStepTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 3e-5 : 1e-12;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowStepTest, Types);

// Each rule, with and without every optional part, for six steps on which fewer and fewer latents
// have entries; the squared norm equals the separate pass's to the bit.
TYPED_TEST(RowStepTest, SixStepsMatchTheDenseOptimizer) {
  using T = TypeParam;
  for (const DecoderRule rule : kRules) {
    for (const bool extras : {false, true}) {
      SCOPED_TRACE("rule " + std::to_string(static_cast<int>(rule)) + (extras ? " extras" : ""));
      State<T> state(rule);
      Reference reference(state);
      RowWorkspace<T> workspace;
      ThreadPool pool(2);
      for (int t = 1; t <= 6; ++t) {
        const Batch<T> batch(static_cast<std::uint64_t>(100 * t), 0.4 / t, extras);
        RowUpdateOptions options;
        options.adam = Adam::At(t, 0.003, 0.9, 0.999, 1e-8);
        options.decoder = rule;
        options.gradient_scale = t == 3 ? 0.25 : 1;
        options.t = t;
        const double measured =
            RowGradientSquaredNorm(batch.input(), state.view(), options, &workspace, pool);
        const double norm2 = RowUpdate(batch.input(), options, state.view(), &workspace, pool);
        EXPECT_EQ(norm2, measured);
        const double expected = reference.Step(batch, options);
        EXPECT_NEAR(norm2 / expected, 1, this->kTolerance);
        reference.ExpectNear(state, this->kTolerance);
      }
    }
  }
}

TYPED_TEST(RowStepTest, GradientRowsMatchTheFormulas) {
  using T = TypeParam;
  for (const bool extras : {false, true}) {
    State<T> state(DecoderRule::kFree);
    const Batch<T> batch(7, 0.3, extras);
    const Gradient plain = PlainGradient(batch, state.w_dec);
    for (std::int64_t i = 0; i < kLatents; ++i) {
      std::vector<T> g_dec(kOut, T(9));
      std::vector<T> g_enc(kIn, T(9));
      const RowsWithGradient with =
          RowGradient(batch.input(), state.w_dec.data(), i, g_dec.data(), g_enc.data());
      EXPECT_EQ(with.dec, plain.has_dec[static_cast<std::size_t>(i)] != 0);
      EXPECT_EQ(with.enc, plain.has_enc[static_cast<std::size_t>(i)] != 0);
      for (std::int64_t j = 0; j < kOut; ++j) {
        EXPECT_NEAR(g_dec[static_cast<std::size_t>(j)],
                    plain.dec[static_cast<std::size_t>(i * kOut + j)], this->kTolerance);
      }
      for (std::int64_t j = 0; j < kIn; ++j) {
        EXPECT_NEAR(g_enc[static_cast<std::size_t>(j)],
                    plain.enc[static_cast<std::size_t>(i * kIn + j)], 3 * this->kTolerance);
      }
    }
  }
}

// A term whose g is one of Matryoshka's groups reaches its own range of latents only.
TYPED_TEST(RowStepTest, RangesOfLatentsCutATermExactly) {
  using T = TypeParam;
  State<T> state(DecoderRule::kFree);
  Batch<T> batch(7, 0.3, false);
  GradientTerm<T> whole = batch.terms[0];
  GradientTerm<T> low = whole;
  GradientTerm<T> high = whole;
  low.last_latent = 13;
  high.first_latent = 13;
  for (std::int64_t i = 0; i < kLatents; ++i) {
    std::vector<T> rows[2];
    int round = 0;
    for (const std::vector<GradientTerm<T>>& terms :
         {std::vector<GradientTerm<T>>{whole}, std::vector<GradientTerm<T>>{low, high}}) {
      batch.terms = terms;
      std::vector<T>& out = rows[round++];
      out.resize(kOut + kIn);
      RowGradient(batch.input(), state.w_dec.data(), i, out.data(), out.data() + kOut);
    }
    EXPECT_EQ(rows[0], rows[1]) << i;
  }
  batch.terms = {low};
  std::vector<T> out(kOut + kIn);
  EXPECT_FALSE(
      RowGradient(batch.input(), state.w_dec.data(), 13, out.data(), out.data() + kOut).dec);
  EXPECT_EQ(out, std::vector<T>(kOut + kIn, T(0)));
}

TYPED_TEST(RowStepTest, BitsDoNotDependOnThreads) {
  using T = TypeParam;
  for (const DecoderRule rule : kRules) {
    State<T> first(rule);
    double first_norm = 0;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      State<T> state(rule);
      RowWorkspace<T> workspace;
      double norm = 0;
      for (int t = 1; t <= 3; ++t) {
        const Batch<T> batch(static_cast<std::uint64_t>(t), 0.3, t == 2);
        RowUpdateOptions options;
        options.adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
        options.decoder = rule;
        options.t = t;
        norm = RowUpdate(batch.input(), options, state.view(), &workspace, pool);
      }
      if (threads == 1) {
        first = state;
        first_norm = norm;
      }
      EXPECT_TRUE(state == first) << threads << " threads";
      EXPECT_EQ(norm, first_norm);
    }
  }
}

// Unit rows stay on the sphere; what OpenAI's order leaves off it is the last step alone.
TYPED_TEST(RowStepTest, RowsLieOnTheSphereWhereTheRuleSaysSo) {
  using T = TypeParam;
  for (const DecoderRule rule : {DecoderRule::kUnit, DecoderRule::kUnitBefore}) {
    State<T> state(rule);
    RowWorkspace<T> workspace;
    ThreadPool pool(1);
    for (int t = 1; t <= 5; ++t) {
      const Batch<T> batch(static_cast<std::uint64_t>(t), 0.9, false);
      RowUpdateOptions options;
      options.adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
      options.decoder = rule;
      options.t = t;
      RowUpdate(batch.input(), options, state.view(), &workspace, pool);
    }
    const double bound = 0.01 * std::sqrt(static_cast<double>(kOut)) * 2;  // one step's length
    double farthest = 0;
    for (std::int64_t i = 0; i < kLatents; ++i) {
      farthest = std::max(
          farthest, std::abs(std::sqrt(SumOfSquares(kOut, state.w_dec.data() + i * kOut)) - 1));
    }
    if (rule == DecoderRule::kUnit) {
      EXPECT_LT(farthest, 1e-6);
    } else {
      EXPECT_GT(farthest, 1e-5);
      EXPECT_LT(farthest, bound);
    }
  }
}

TYPED_TEST(RowStepTest, OnTheFlyStepsAreOrthogonalToTheirRows) {
  using T = TypeParam;
  State<T> state(DecoderRule::kOnTheFly);
  const State<T> before = state;
  RowWorkspace<T> workspace;
  ThreadPool pool(1);
  const Batch<T> batch(3, 0.9, false);
  RowUpdateOptions options;
  options.adam = Adam::At(1, 1e-3, 0.9, 0.999, 1e-8);
  options.decoder = DecoderRule::kOnTheFly;
  RowUpdate(batch.input(), options, state.view(), &workspace, pool);
  for (std::int64_t i = 0; i < kLatents; ++i) {
    const T* v = before.w_dec.data() + i * kOut;
    const T* m = state.w_dec_m.data() + i * kOut;  // 0.1 times the gradient
    const double length = std::sqrt(SumOfSquares(kOut, m) * SumOfSquares(kOut, v));
    EXPECT_NEAR(DotDouble(kOut, m, v), 0, 1e-6 * std::max(length, 1e-9)) << i;
    EXPECT_NEAR(state.row_scale[static_cast<std::size_t>(i)] *
                    std::sqrt(SumOfSquares(kOut, state.w_dec.data() + i * kOut)),
                1, 1e-6);
  }
}

// Without a gradient and without momentum a row keeps its bits; it is not renormalised either. What
// momentum beta1 = 0 forgets is no momentum.
TYPED_TEST(RowStepTest, ARowAtRestKeepsItsBits) {
  using T = TypeParam;
  for (const double beta1 : {0.9, 0.0}) {
    for (const DecoderRule rule : {DecoderRule::kUnit, DecoderRule::kUnitBefore}) {
      const Batch<T> batch(7, 0.0, false);
      State<T> state(rule);
      for (std::size_t j = 0; j < kOut; ++j) state.w_dec[j] *= T(3);  // off the sphere, and at rest
      const std::size_t moving = 4 * kOut;
      for (std::size_t j = 0; j < kOut; ++j) state.w_dec_m[moving + j] = T(0.5);
      state.w_dec_v.assign(state.w_dec_v.size(), T(1));
      const State<T> before = state;
      RowUpdateOptions options;
      options.adam = Adam::At(5, 0.01, beta1, 0.999, 1e-8);
      options.decoder = rule;
      options.t = 5;
      RowWorkspace<T> workspace;
      ThreadPool pool(2);
      EXPECT_EQ(RowUpdate(batch.input(), options, state.view(), &workspace, pool), 0);
      EXPECT_EQ(state.w_enc, before.w_enc);
      for (std::size_t at = 0; at < before.w_dec.size(); ++at) {
        const bool moves = beta1 != 0 && at >= moving && at < moving + kOut;
        EXPECT_EQ(state.w_dec[at] == before.w_dec[at], !moves) << at;
        EXPECT_EQ(state.w_dec_v[at], static_cast<T>(0.999) * T(1));  // v decays as dense Adam's
        EXPECT_EQ(state.w_dec_m[at] == T(0), !moves);
      }
    }
  }
}

TYPED_TEST(RowStepTest, NoTermsAtAll) {
  using T = TypeParam;
  State<T> state(DecoderRule::kUnit);
  const State<T> before = state;
  RowWorkspace<T> workspace;
  ThreadPool pool(1);
  RowGradientInput<T> input;
  input.latents = kLatents;
  input.d = kIn;
  input.d_out = kOut;
  EXPECT_EQ(RowUpdate(input, {}, state.view(), &workspace, pool), 0);
  EXPECT_TRUE(state == before);
}

TYPED_TEST(RowStepTest, SumByLatentAddsInFloat64) {
  using T = TypeParam;
  const Batch<T> batch(7, 0.3, false);
  const LatentIndex& index = *batch.terms[0].index;
  std::vector<double> expected(kLatents, 0.0);
  for (std::int64_t i = 0; i < kLatents; ++i) {
    for (std::int64_t q = index.indptr[static_cast<std::size_t>(i)];
         q < index.indptr[static_cast<std::size_t>(i) + 1]; ++q) {
      expected[static_cast<std::size_t>(i)] +=
          static_cast<double>(batch.terms[0].delta[index.entries[static_cast<std::size_t>(q)]]);
    }
  }
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<T> out(kLatents, T(5));
    SumByLatent(index, batch.terms[0].delta, out.data(), pool);
    for (std::size_t i = 0; i < kLatents; ++i) EXPECT_EQ(out[i], static_cast<T>(expected[i])) << i;
  }
}

}  // namespace
}  // namespace sae::kernels
