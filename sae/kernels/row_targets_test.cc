// The row kernels on every instruction set that this processor has: fused ones equal their parts
// bit for bit on each, and AVX2 equals AVX-512.
#include <cmath>
#include <cstdint>
#include <functional>
#include <hwy/detect_targets.h>
#include <hwy/targets.h>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/row_step.h"
#include "sae/kernels/row_step_reference.h"
#include "sae/kernels/test_data.h"
#include "sae/kernels/token_pass.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kWidths[] = {1, 15, 16, 33, 192, 200, 577};

/// Calls body(target, has fused multiply-add) on each; restores the processor's own choice.
void OnEachTarget(const std::function<void(std::int64_t, bool)>& body) {
  // What a library built without further switches is compiled for.
  constexpr std::int64_t kCompiled = HWY_AVX3 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3 | HWY_NEON;
  const auto supported = static_cast<std::uint64_t>(hwy::SupportedTargets() & kCompiled);
  for (std::uint64_t rest = supported; rest != 0; rest &= rest - 1) {
    const auto target = static_cast<std::int64_t>(rest & (~rest + 1));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body(target, target <= HWY_AVX2);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

template <class T>
class RowTargets : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowTargets, Types);

template <class T>
struct Rows {
  std::vector<std::vector<T>> values;
  std::vector<const T*> pointers;
  std::vector<T> a;
  Rows(std::uint64_t seed, std::int64_t count, std::int64_t d) {
    a = testing::Normal<T>(seed, count);
    for (std::int64_t q = 0; q < count; ++q)
      values.push_back(testing::Normal<T>(seed + 1 + static_cast<std::uint64_t>(q), d));
    for (const auto& row : values) pointers.push_back(row.data());
  }
  RowList<T> list() const {
    return {static_cast<std::int64_t>(a.size()), a.data(), pointers.data()};
  }
};

TYPED_TEST(RowTargets, ManyRowsAreOneAfterTheOther) {
  using T = TypeParam;
  OnEachTarget([](std::int64_t, bool) {
    for (const std::int64_t d : kWidths) {
      for (const std::int64_t count : {0, 1, 3, 4, 9}) {
        const Rows<T> rows(7, count, d);
        const Rows<T> next(70, 5, d);
        const auto y = testing::Normal<T>(3, d);
        std::vector<T> together = y;
        AddRows(d, rows.list(), next.list(), together.data());
        std::vector<T> apart = y;
        std::vector<T> dots(static_cast<std::size_t>(count) + 1, T(5));
        std::vector<T> dots_apart = dots;
        DotRows(d, count, rows.pointers.data(), y.data(), dots.data());
        for (std::size_t q = 0; q < rows.a.size(); ++q) {
          Axpy(d, rows.a[q], rows.pointers[q], apart.data());
          dots_apart[q] = Dot(d, rows.pointers[q], y.data());
        }
        EXPECT_EQ(together, apart) << d << " x " << count;
        EXPECT_EQ(dots, dots_apart) << d << " x " << count;
      }
    }
  });
}

TYPED_TEST(RowTargets, AStepIsItsParts) {
  using T = TypeParam;
  const Adam adam = Adam::At(3, 0.01, 0.9, 0.999, 1e-8);
  OnEachTarget([&adam](std::int64_t, bool) {
    for (const std::int64_t d : kWidths) {
      const auto g = testing::Normal<T>(1, d);
      const auto w = testing::Normal<T>(2, d);
      const auto m = testing::Normal<T>(3, d);
      auto v = testing::Normal<T>(4, d);
      for (T& value : v) value *= value;
      const RowStep<T> step{T(0.3), T(0.7), T(0.25), true};
      auto w1 = w, m1 = m, v1 = v;
      const RowNorms norms = StepRow(d, step, adam, g.data(), w1.data(), m1.data(), v1.data(), 0);
      auto g2 = g, w2 = w, m2 = m, v2 = v;
      Axpy(d, step.radial, w.data(), g2.data());
      Scale(d, step.factor, g2.data());
      EXPECT_EQ(norms.gradient2, SumOfSquares(d, g2.data()));
      Scale(d, step.scale, g2.data());
      AdamRow(d, adam, g2.data(), w2.data(), m2.data(), v2.data());
      EXPECT_EQ(norms.row2, SumOfSquares(d, w2.data()));
      EXPECT_EQ(w1, w2);
      EXPECT_EQ(m1, m2);
      EXPECT_EQ(v1, v2);
      EXPECT_EQ(RadialFactor(d, w.data(), g.data()),
                -DotDouble(d, g.data(), w.data()) / SumOfSquares(d, w.data()));
    }
  });
}

template <class T>
std::vector<T> ThreeSteps(DecoderRule rule) {
  using namespace row_step_reference;  // NOLINT: its data
  State<T> state(rule);
  RowWorkspace<T> workspace;
  ThreadPool pool(2);
  std::vector<T> out;
  for (int t = 1; t <= 3; ++t) {
    const Batch<T> batch(static_cast<std::uint64_t>(t), 0.3 / t, t == 2);
    RowUpdateOptions options;
    options.adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
    options.decoder = rule;
    options.t = t;
    out.push_back(
        static_cast<T>(RowUpdate(batch.input(), options, state.view(), &workspace, pool)));
  }
  for (const auto* v : {&state.w_enc, &state.w_dec, &state.w_enc_m, &state.w_enc_v, &state.w_dec_m,
                        &state.w_dec_v, &state.row_scale})
    out.insert(out.end(), v->begin(), v->end());
  return out;
}

template <class T>
std::vector<T> OnePass(std::int64_t d) {
  const Codes<T> codes = testing::RandomCodes<T>(3, 40, 30, 0.3);
  const auto decoder = testing::Normal<T>(4, 30 * d);
  const auto target = testing::Normal<T>(5, 40 * d);
  std::vector<T> x_hat = testing::Normal<T>(6, 40 * d);
  std::vector<T> g(x_hat.size());
  std::vector<T> u(codes.values.size());
  ThreadPool pool(2);
  const TokenPassInput<T> input{
      &codes, codes.values.data(), decoder.data(), nullptr, target.data(), T(0.5), T(0.1), d};
  std::vector<T> out = {static_cast<T>(TokenPass(input, x_hat.data(), g.data(), u.data(), pool))};
  for (const auto* v : {&x_hat, &g, &u}) out.insert(out.end(), v->begin(), v->end());
  return out;
}

TYPED_TEST(RowTargets, EveryWidthOfVectorGivesTheSameBits) {
  using T = TypeParam;
  const double tolerance = std::is_same_v<T, float> ? 1e-3 : 1e-10;
  std::vector<std::function<std::vector<T>()>> cases;
  for (const DecoderRule rule :
       {DecoderRule::kUnit, DecoderRule::kUnitBefore, DecoderRule::kFree, DecoderRule::kOnTheFly})
    cases.push_back([rule] { return ThreeSteps<T>(rule); });
  for (const std::int64_t d : kWidths) cases.push_back([d] { return OnePass<T>(d); });
  for (std::size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE("case " + std::to_string(c));
    const std::vector<T> best = cases[c]();
    const bool best_fuses = (hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3)) != 0;
    OnEachTarget([&](std::int64_t, bool fuses) {
      const std::vector<T> out = cases[c]();
      ASSERT_EQ(out.size(), best.size());
      if (fuses == best_fuses) {
        EXPECT_EQ(out, best);
      } else {  // products are rounded before they are added
        for (std::size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(out[i], best[i],
                      tolerance * std::max(1.0, std::abs(static_cast<double>(best[i]))));
      }
    });
  }
}

// Rows of reduced moments hold what the loops of moment_format.h make, on every target.
TYPED_TEST(RowTargets, ReducedMomentsAreThoseOfTheFormat) {
  using T = TypeParam;
  for (const std::int64_t d : kWidths) {
    const auto m = testing::Normal<T>(3, d);
    auto v = testing::Normal<T>(4, d);
    for (T& value : v) value *= value * static_cast<T>(1e-9);
    std::vector<float> m32(m.begin(), m.end()), v32(v.begin(), v.end());
    const auto size = static_cast<std::size_t>(d);
    const auto blocks = static_cast<std::size_t>(MomentBlocks(d));
    for (const MomentRounding rounding : {MomentRounding::kStochastic, MomentRounding::kNearest}) {
      const RoundingKey key = RoundingKeyOf(5, 17, 3, MomentMatrix::kDecoder);
      std::vector<std::uint16_t> want16(size), have16(size), other16(size);
      std::vector<std::uint8_t> want8(size), have8(size), other8(size);
      std::vector<float> want_scale(blocks), have_scale(blocks), other_scale(blocks);
      EncodeBf16Row(0, d, v32.data(), key, Moment::kSecond, rounding, want16.data());
      Encode8Row(0, d, m32.data(), key, Moment::kFirst, rounding, want8.data(), want_scale.data());
      OnEachTarget([&](std::int64_t, bool) {
        ReducedMoments moments;
        moments.rounding = rounding;
        moments.seed = 5;
        moments.global_id = [](std::int64_t latent) { return latent + 3; };
        moments.decoder = {d, other16.data(), have16.data(), nullptr, nullptr};
        StoreMoments(moments, MomentMatrix::kDecoder, 0, 17, m.data(), v.data());
        EXPECT_EQ(have16, want16) << d;
        std::vector<T> m_back(size), v_back(size);
        LoadMoments(moments, MomentMatrix::kDecoder, 0, m_back.data(), v_back.data());
        for (std::size_t j = 0; j < size; ++j)
          EXPECT_EQ(v_back[j], static_cast<T>(DecodeBf16(want16[j])));
        moments.format = MomentFormat::kInt8;
        moments.decoder = {d, have8.data(), other8.data(), have_scale.data(), other_scale.data()};
        StoreMoments(moments, MomentMatrix::kDecoder, 0, 17, m.data(), v.data());
        EXPECT_EQ(have8, want8) << d;
        EXPECT_EQ(have_scale, want_scale) << d;
        LoadMoments(moments, MomentMatrix::kDecoder, 0, m_back.data(), v_back.data());
        for (std::size_t j = 0; j < size; ++j) {
          EXPECT_EQ(m_back[j], static_cast<T>(Decode8(want8[j], want_scale[j / kMomentBlock],
                                                      Moment::kFirst)));
        }
      });
    }
  }
}

}  // namespace
}  // namespace sae::kernels
