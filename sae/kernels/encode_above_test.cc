// The selector of everything above a bound, against a plain loop over all pre-activations.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "sae/kernels/encode.h"
#include "sae/kernels/encode_test_data.h"

namespace sae::kernels {
namespace {

using testing::kShapes;
using testing::PlainZ;
using testing::Problem;
using testing::Shape;

/// `codes` holds exactly the z > bound(i), where |z - bound| > slack; the values within slack.
template <class T, class Bound>
void ExpectAbove(const EncodeInput<T>& input, const Codes<T>& codes, double slack,
                 const Bound& bound) {
  ASSERT_EQ(codes.tokens, input.tokens);
  ASSERT_EQ(codes.latents, input.latents);
  ASSERT_EQ(codes.indptr.size(), static_cast<std::size_t>(input.tokens + 1));
  for (std::int64_t b = 0; b < input.tokens; ++b) {
    auto e = static_cast<std::size_t>(codes.indptr[static_cast<std::size_t>(b)]);
    const auto end = static_cast<std::size_t>(codes.indptr[static_cast<std::size_t>(b) + 1]);
    for (std::int64_t i = 0; i < input.latents; ++i) {
      const double z = PlainZ(input, b, i);
      const double limit = bound(i);
      const bool here = e < end && codes.ids[e] == i;
      if (std::abs(z - limit) > slack || slack == 0) {
        ASSERT_EQ(here, z > limit) << "token " << b << " latent " << i << " z " << z;
      }
      if (!here) continue;
      ASSERT_NEAR(codes.values[e], z, slack);
      ++e;
    }
    ASSERT_EQ(e, end) << "token " << b;
  }
}

template <class T>
void EqualsPlain(bool exact) {
  EncodeWorkspace<T> workspace;  // shared: shapes grow and shrink
  Codes<T> codes;
  const double slack = exact ? 0 : 2e-5;
  for (const Shape& s : kShapes) {
    Problem<T> problem = exact ? Problem<T>::Ties(s) : Problem<T>::Random(s);
    problem.input.scale = T(0.5);
    const auto lower =
        exact ? testing::Integers<T>(8, s.latents, 2) : testing::Normal<T>(8, s.latents);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      for (const T floor : {T(0), T(2), T(-1)}) {
        ASSERT_TRUE(EncodeAbove<T>(problem.input, nullptr, floor, &workspace, &codes, pool));
        ExpectAbove(problem.input, codes, slack, [=](std::int64_t) { return double(floor); });
      }
      ASSERT_TRUE(EncodeAbove(problem.input, lower.data(), T(77), &workspace, &codes, pool));
      ExpectAbove(problem.input, codes, slack, [&](std::int64_t i) {
        return static_cast<double>(lower[static_cast<std::size_t>(i)]);
      });
    }
  }
}

TEST(EncodeAbove, FloatWithTiesIsExact) { EqualsPlain<float>(true); }
TEST(EncodeAbove, DoubleWithTiesIsExact) { EqualsPlain<double>(true); }
TEST(EncodeAbove, FloatRandomIsNearTheReference) { EqualsPlain<float>(false); }

TEST(EncodeAbove, BitsDoNotDependOnThreads) {
  const Shape s{1600, 900, 40, 0};
  Problem<float> problem = Problem<float>::Random(s);
  Codes<float> first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    EncodeWorkspace<float> workspace;
    Codes<float> codes;
    ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, 0, &workspace, &codes, pool));
    if (threads == 1) first = codes;
    EXPECT_EQ(codes.indptr, first.indptr);
    EXPECT_EQ(codes.ids, first.ids);
    EXPECT_EQ(codes.values, first.values);
  }
}

TEST(EncodeAbove, InfiniteBoundsAndValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const Shape s{3, 530, 4, 0};
  Problem<float> problem = Problem<float>::Ties(s);
  problem.c[5] = -inf;
  problem.c[529] = inf;
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
  ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, -inf, &workspace, &codes, pool));
  EXPECT_EQ(codes.nnz(), 3 * 529);  // all but the -inf
  ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, inf, &workspace, &codes, pool));
  EXPECT_EQ(codes.nnz(), 0);
  ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, 1e30F, &workspace, &codes, pool));
  EXPECT_EQ(codes.ids, (std::vector<std::int32_t>{529, 529, 529}));
}

TEST(EncodeAbove, NothingToEncode) {
  Problem<float> problem = Problem<float>::Ties({4, 3, 2, 0});
  problem.input.latents = 0;
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
  ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, 0, &workspace, &codes, pool));
  EXPECT_EQ(codes.indptr, std::vector<std::int64_t>(5, 0));
  problem.input.latents = 3;
  problem.input.tokens = 0;
  ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, 0, &workspace, &codes, pool));
  EXPECT_EQ(codes.indptr, std::vector<std::int64_t>(1, 0));
}

}  // namespace
}  // namespace sae::kernels
