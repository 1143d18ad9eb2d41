// Top-k of rows that are hard to cut: ties, infinities, more winners than positive values; and the
// places of tokens.
#include <algorithm>
#include <functional>
#include <limits>
#include <type_traits>

#include <gtest/gtest.h>

#include "sae/kernels/encode.h"
#include "sae/kernels/encode_test_data.h"

namespace sae::kernels {
namespace {

using testing::kShapes;
using testing::PlainOrder;
using testing::Problem;
using testing::Shape;

/// Every row of a selection against a plain sort of values that are exact.
template <class T>
void ExpectPlain(const EncodeInput<T>& input, const TopK<T>& top) {
  for (std::int64_t b = 0; b < input.tokens; ++b) {
    std::vector<Scored<double>> expected = PlainOrder(input, b);
    expected.resize(static_cast<std::size_t>(top.width));
    if (top.order == TopKOrder::kById) {
      std::sort(expected.begin(), expected.end(),
                [](const auto& l, const auto& r) { return l.id < r.id; });
    }
    for (std::size_t j = 0; j < expected.size(); ++j) {
      const std::size_t at = static_cast<std::size_t>(b * top.width) + j;
      ASSERT_EQ(top.ids[at], expected[j].id) << b << " " << j << " of n=" << input.latents;
      ASSERT_EQ(static_cast<double>(top.values[at]), expected[j].value) << b << " " << j;
    }
  }
}

/// One workspace and one output for all: they grow and shrink.
template <class T>
void HardRows(const std::function<void(Problem<T>&)>& change) {
  ThreadPool pool(2);
  EncodeWorkspace<T> workspace;
  TopK<T> top;
  for (const Shape& s : kShapes) {
    Problem<T> problem = Problem<T>::Ties(s);
    problem.input.first_latent = 9;
    change(problem);
    for (const std::int64_t k : {std::int64_t{1}, s.k, s.latents / 2 + 1, s.latents}) {
      for (const TopKOrder order : {TopKOrder::kByValue, TopKOrder::kById}) {
        ASSERT_TRUE(EncodeTopK(problem.input, k, &workspace, &top, pool, order));
        ExpectPlain(problem.input, top);
      }
    }
  }
}

TEST(EncodeTopK, AllEqualRowsKeepTheLowestIds) {
  const auto equal = [](auto& problem) {
    std::fill(problem.w.begin(), problem.w.end(), 0);
    std::fill(problem.c.begin(), problem.c.end(), -2);
  };
  HardRows<float>(equal);
  HardRows<double>(equal);
}

TEST(EncodeTopK, RisingAndFallingRows) {
  for (const int sign : {-1, 1}) {
    HardRows<float>([=](Problem<float>& problem) {
      std::fill(problem.w.begin(), problem.w.end(), 0.0F);
      for (std::size_t i = 0; i < problem.c.size(); ++i)
        problem.c[i] = static_cast<float>(sign * static_cast<int>(i / 3));
    });
  }
}

TEST(EncodeTopK, InfinitiesAreInOrder) {
  const auto infinite = [](auto& problem) {
    using T = std::decay_t<decltype(problem.c[0])>;
    for (std::size_t i = 0; i < problem.c.size(); i += 2)
      problem.c[i] = (i % 4 == 0 ? -1 : 1) * std::numeric_limits<T>::infinity();
  };
  HardRows<float>(infinite);
  HardRows<double>(infinite);
  HardRows<float>([](Problem<float>& problem) {
    std::fill(problem.c.begin(), problem.c.end(), -std::numeric_limits<float>::infinity());
  });
}

// More winners than positive values: the rest come by value too, and no code is made of them.
TEST(EncodeTopK, NegativeWinnersMakeNoCodes) {
  const Shape s{20, 700, 5, 600};
  Problem<float> problem = Problem<float>::Ties(s);
  for (float& c : problem.c) c -= 3;
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  for (const TopKOrder order : {TopKOrder::kByValue, TopKOrder::kById}) {
    TopK<float> top;
    ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &top, pool, order));
    Codes<float> codes;
    CodesFromTopK<float>(top, nullptr, 0, s.latents, &codes, pool);
    Codes<float> positive;
    ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, 0, &workspace, &positive, pool));
    EXPECT_LT(positive.nnz(), s.tokens * s.k);
    EXPECT_EQ(codes.indptr, positive.indptr);
    EXPECT_EQ(codes.ids, positive.ids);
    EXPECT_EQ(codes.values, positive.values);
  }
}

// A value does not depend on its token's place in the batch either.
TEST(EncodeTopK, PermutingTokensChangesNoBit) {
  const Shape s{1100, 300, 48, 20};
  Problem<float> plain = Problem<float>::Random(s);
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  TopK<float> all;
  ASSERT_TRUE(EncodeTopK(plain.input, s.k, &workspace, &all, pool));
  for (const std::int64_t first : {1, 5, 511, 700}) {
    EncodeInput<float> input = plain.input;
    input.x += first * s.d;
    input.tokens = s.tokens - first;
    TopK<float> some;
    ASSERT_TRUE(EncodeTopK(input, s.k, &workspace, &some, pool));
    EXPECT_TRUE(
        std::equal(some.values.begin(), some.values.end(), all.values.begin() + first * s.k));
    EXPECT_TRUE(std::equal(some.ids.begin(), some.ids.end(), all.ids.begin() + first * s.k));
  }
}

}  // namespace
}  // namespace sae::kernels
