// Rows that are left alone and caught up with later against rows that are updated every step: equal
// bits, whatever the pattern of touches, catches-up and learning rates.
#include <algorithm>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "sae/kernels/row_step.h"
#include "sae/kernels/row_step_reference.h"

namespace sae::kernels {
namespace {

using namespace row_step_reference;  // NOLINT: the tests' own data
using Rows = RowUpdateOptions::Rows;

constexpr DecoderRule kRules[] = {DecoderRule::kUnit, DecoderRule::kUnitBefore, DecoderRule::kFree,
                                  DecoderRule::kOnTheFly};
constexpr int kSteps = 200;

template <class T>
class RowStepLazyTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowStepLazyTest, Types);

/// A warm-up and a wave: no two steps have the same learning rate.
Adam AdamAt(std::int64_t t, double beta1) {
  const auto step = static_cast<double>(t);
  const double lr = 0.01 * std::min(1.0, step / 50) * (1.5 + std::sin(step));
  return Adam::At(t, lr, beta1, 0.99, 1e-8);
}

RowUpdateOptions OptionsAt(std::int64_t t, double beta1, DecoderRule rule, Rows rows) {
  RowUpdateOptions options;
  options.adam = AdamAt(t, beta1);
  options.adam_at = [beta1](std::int64_t step) { return AdamAt(step, beta1); };
  options.decoder = rule;
  options.gradient_scale = t % 5 == 0 ? 0.5 : 1;
  options.rows = rows;
  options.t = t;
  return options;
}

/// Few latents a step; from step 90 to 170 next to none, so that some rows rest for long.
template <class T>
Batch<T> BatchAt(std::int64_t t, std::uint64_t seed, bool extras) {
  Random random(seed * 1000 + static_cast<std::uint64_t>(t));
  const double density = t > 90 && t < 170 ? 0.0003 : 0.01 * random.Uniform();
  return Batch<T>(seed * 7919 + static_cast<std::uint64_t>(t), density, extras && t % 9 == 0,
                  /*dense_parts=*/false);
}

template <class T>
std::vector<std::int32_t> TouchedDecoders(const Batch<T>& batch) {
  std::vector<std::int32_t> ids;
  for (const auto& part : batch.parts) {
    for (const std::int32_t i : part->codes.ids) {
      if (part->has_f && i >= part->first && i < part->last) ids.push_back(i);
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

template <class T>
void ExpectSameBits(State<T> a, const State<T>& b) {
  a.last_step = b.last_step;
  EXPECT_EQ(a.w_enc, b.w_enc);
  EXPECT_EQ(a.w_enc_m, b.w_enc_m);
  EXPECT_EQ(a.w_enc_v, b.w_enc_v);
  EXPECT_EQ(a.w_dec, b.w_dec);
  EXPECT_EQ(a.w_dec_m, b.w_dec_m);
  EXPECT_EQ(a.w_dec_v, b.w_dec_v);
  EXPECT_EQ(a.row_scale, b.row_scale);
}

TYPED_TEST(RowStepLazyTest, LazyRowsEqualDenseRowsBitForBitWithoutMomentum) {
  using T = TypeParam;
  for (const DecoderRule rule : kRules) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      SCOPED_TRACE("rule " + std::to_string(static_cast<int>(rule)) + " seed " +
                   std::to_string(seed));
      State<T> dense(rule);
      State<T> lazy(rule);
      RowWorkspace<T> workspace;
      ThreadPool pool(1 + static_cast<int>(seed) % 3);
      Random random(seed);
      std::int64_t left_alone = 0;
      for (std::int64_t t = 1; t <= kSteps; ++t) {
        const Batch<T> batch = BatchAt<T>(t, seed, true);
        const RowUpdateOptions options = OptionsAt(t, 0, rule, Rows::kLazy);
        const double norm2 = RowUpdate(batch.input(), OptionsAt(t, 0, rule, Rows::kDense),
                                       dense.view(), &workspace, pool);
        EXPECT_EQ(RowUpdate(batch.input(), options, lazy.view(), &workspace, pool), norm2);
        // What the next step's forward reads needs no catching up.
        ASSERT_EQ(lazy.w_enc, dense.w_enc) << t;
        ASSERT_EQ(lazy.w_dec, dense.w_dec) << t;
        ASSERT_EQ(lazy.row_scale, dense.row_scale) << t;
        left_alone += std::count_if(lazy.last_step.begin(), lazy.last_step.end(),
                                    [t](std::int64_t last) { return last < t; });
        if (random.Uniform() < 0.05) {
          CatchUp<T>(nullptr, kLatents, kIn, kOut, options, lazy.view(), pool);
          ExpectSameBits(lazy, dense);
        }
      }
      EXPECT_GT(left_alone, kSteps * kLatents / 2);  // else this proves nothing
      CatchUp<T>(nullptr, kLatents, kIn, kOut, OptionsAt(kSteps, 0, rule, Rows::kLazy), lazy.view(),
                 pool);
      ExpectSameBits(lazy, dense);
    }
  }
}

// With momentum decoder rows are replayed before they are read; encoder rows are current always.
// beta1 = 0.5 forgets a gradient within the long rest, so that the tail without motion is seen too.
TYPED_TEST(RowStepLazyTest, DeferredDecoderRowsEqualDenseRowsBitForBit) {
  using T = TypeParam;
  for (const DecoderRule rule : kRules) {
    for (const double beta1 : {0.9, 0.5}) {
      SCOPED_TRACE("rule " + std::to_string(static_cast<int>(rule)) + " beta1 " +
                   std::to_string(beta1));
      const std::uint64_t seed = beta1 == 0.9 ? 4 : 5;
      State<T> dense(rule);
      State<T> deferred(rule);
      RowWorkspace<T> workspace;
      ThreadPool pool(2);
      Random random(seed);
      std::int64_t left_alone = 0;
      for (std::int64_t t = 1; t <= kSteps; ++t) {
        const Batch<T> batch = BatchAt<T>(t, seed, true);
        const auto touched = TouchedDecoders(batch);
        if (t % 3 != 0) {  // else RowUpdate itself brings them up to step t - 1
          CatchUp(touched.data(), static_cast<std::int64_t>(touched.size()), kIn, kOut,
                  OptionsAt(t - 1, beta1, rule, Rows::kDeferred), deferred.view(), pool);
          for (const std::int32_t i : touched) {
            const auto row = static_cast<std::ptrdiff_t>(i) * kOut;
            ASSERT_TRUE(std::equal(dense.w_dec.begin() + row, dense.w_dec.begin() + row + kOut,
                                   deferred.w_dec.begin() + row));
          }
        }
        const double norm2 = RowUpdate(batch.input(), OptionsAt(t, beta1, rule, Rows::kDense),
                                       dense.view(), &workspace, pool);
        const RowUpdateOptions options = OptionsAt(t, beta1, rule, Rows::kDeferred);
        EXPECT_EQ(RowUpdate(batch.input(), options, deferred.view(), &workspace, pool), norm2);
        ASSERT_EQ(deferred.w_enc, dense.w_enc) << t;
        left_alone += std::count_if(deferred.last_step.begin(), deferred.last_step.end(),
                                    [t](std::int64_t last) { return last < t; });
        if (random.Uniform() < 0.03) {
          CatchUp<T>(nullptr, kLatents, kIn, kOut, options, deferred.view(), pool);
          ExpectSameBits(deferred, dense);
        }
      }
      EXPECT_GT(left_alone, kSteps * kLatents / 2);
      CatchUp<T>(nullptr, kLatents, kIn, kOut, OptionsAt(kSteps, beta1, rule, Rows::kDeferred),
                 deferred.view(), pool);
      ExpectSameBits(deferred, dense);
    }
  }
}

// A row that rests long enough loses its second moment altogether, densely and lazily.
TYPED_TEST(RowStepLazyTest, SecondMomentsReachZeroAtTheSameStep) {
  using T = TypeParam;
  const Adam adam = Adam::At(1, 0.01, 0, 0.5, 1e-8);
  std::vector<T> v = testing::Normal<T>(1, kOut);
  for (T& value : v) value *= value;
  std::vector<T> p(kOut, T(1));
  std::vector<T> m(kOut, T(0));
  for (const std::int64_t steps : {1, 3, 100, 126, 127, 200, 1100}) {
    std::vector<T> plain = v;
    for (std::int64_t s = 0; s < steps; ++s) {
      AdamRowWithoutGradient(kOut, adam, p.data(), m.data(), plain.data());
    }
    std::vector<T> decayed = v;
    DecayRow(kOut, adam, steps, decayed.data());
    EXPECT_EQ(decayed, plain) << steps;
    EXPECT_EQ(plain == std::vector<T>(kOut, T(0)),
              steps == 1100 || (steps == 200 && sizeof(T) == 4));
  }
}

TYPED_TEST(RowStepLazyTest, DenseRowsNeedNoCatchingUp) {
  using T = TypeParam;
  State<T> state(DecoderRule::kUnit);
  state.w_dec_m.assign(state.w_dec_m.size(), T(1));
  const State<T> before = state;
  ThreadPool pool(2);
  CatchUp<T>(nullptr, kLatents, kIn, kOut, OptionsAt(9, 0.9, DecoderRule::kUnit, Rows::kDense),
             state.view(), pool);
  EXPECT_TRUE(state == before);
}

}  // namespace
}  // namespace sae::kernels
