#include "sae/kernels/encode.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>

#include <gtest/gtest.h>

#include "sae/kernels/encode_test_data.h"

namespace sae::kernels {
namespace {

using testing::kShapes;
using testing::PlainOrder;
using testing::PlainZ;
using testing::Problem;
using testing::Shape;

template <class T>
void TopKEqualsPlainSort() {
  for (const Shape& s : kShapes) {
    Problem<T> problem = Problem<T>::Ties(s);
    problem.input.scale = T(0.5);  // exact
    problem.input.first_latent = 4000;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      EncodeWorkspace<T> workspace;
      TopK<T> top;
      ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &top, pool));
      ASSERT_EQ(top.width, std::min(s.k, s.latents));
      for (std::int64_t b = 0; b < s.tokens; ++b) {
        const std::vector<Scored<double>> expected = PlainOrder(problem.input, b);
        for (std::int64_t j = 0; j < top.width; ++j) {
          const auto at = static_cast<std::size_t>(b * top.width + j);
          ASSERT_EQ(static_cast<double>(top.values[at]),
                    expected[static_cast<std::size_t>(j)].value)
              << b << " " << j;
          ASSERT_EQ(top.ids[at], expected[static_cast<std::size_t>(j)].id)
              << b << " " << j << " of n=" << s.latents;
        }
      }
    }
  }
}

TEST(EncodeTopK, FloatWithTiesEqualsPlainSort) { TopKEqualsPlainSort<float>(); }
TEST(EncodeTopK, DoubleWithTiesEqualsPlainSort) { TopKEqualsPlainSort<double>(); }

TEST(EncodeTopK, RandomFloatIsNearTheReference) {
  const Shape s{100, 1500, 64, 16};
  Problem<float> problem = Problem<float>::Random(s);
  problem.input.scale = 0.37F;
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &top, pool));
  for (std::int64_t b = 0; b < s.tokens; ++b) {
    const std::vector<Scored<double>> expected = PlainOrder(problem.input, b);
    for (std::int64_t j = 0; j < s.k; ++j) {
      const auto at = static_cast<std::size_t>(b * s.k + j);
      EXPECT_NEAR(top.values[at], expected[static_cast<std::size_t>(j)].value, 2e-5);
      EXPECT_NEAR(top.values[at], PlainZ(problem.input, b, top.ids[at]), 2e-5);
    }
  }
}

/// Value of every latent of a full selection, by id.
std::vector<float> ById(const TopK<float>& top, std::int64_t token, std::int64_t latents) {
  std::vector<float> out(static_cast<std::size_t>(latents),
                         std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t j = 0; j < top.width; ++j) {
    const auto at = static_cast<std::size_t>(token * top.width + j);
    out[static_cast<std::size_t>(top.ids[at])] = top.values[at];
  }
  return out;
}

// numerics 2: with one fixed chunk shape a value does not depend on where its latent lies.
TEST(EncodeTopK, PermutingLatentsChangesNoBit) {
  const Shape s{70, 1200, 48, 1200};
  Problem<float> plain = Problem<float>::Random(s);
  std::vector<std::int64_t> order(static_cast<std::size_t>(s.latents));
  std::iota(order.begin(), order.end(), 0);
  Random random(9);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  std::vector<float> w(plain.w.size());
  std::vector<float> c(plain.c.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(plain.w.begin() + order[i] * s.d, s.d,
                w.begin() + static_cast<std::int64_t>(i) * s.d);
    c[i] = plain.c[static_cast<std::size_t>(order[i])];
  }
  Problem<float> moved(s, plain.x, w, c);
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  TopK<float> a;
  TopK<float> b;
  ASSERT_TRUE(EncodeTopK(plain.input, s.k, &workspace, &a, pool));
  ASSERT_TRUE(EncodeTopK(moved.input, s.k, &workspace, &b, pool));
  for (std::int64_t token = 0; token < s.tokens; ++token) {
    const std::vector<float> za = ById(a, token, s.latents);
    const std::vector<float> zb = ById(b, token, s.latents);
    for (std::size_t i = 0; i < order.size(); ++i) {
      ASSERT_EQ(zb[i], za[static_cast<std::size_t>(order[i])])
          << "token " << token << " latent " << order[i];
    }
  }
}

// Aligned matrices are read in place, others through a padded copy: the same bits.
TEST(EncodeTopK, AlignmentChangesNoBit) {
  const Shape s{1030, 1024, 40, 32};
  Problem<float> problem = Problem<float>::Random(s);
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  std::vector<TopK<float>> results;
  for (const std::size_t offset :
       {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{8}}) {
    AlignedVector<float> x(problem.x.size() + offset);
    AlignedVector<float> w(problem.w.size() + offset);
    std::copy(problem.x.begin(), problem.x.end(), x.begin() + static_cast<std::int64_t>(offset));
    std::copy(problem.w.begin(), problem.w.end(), w.begin() + static_cast<std::int64_t>(offset));
    EncodeInput<float> input = problem.input;
    input.x = x.data() + offset;
    input.w = w.data() + offset;
    ASSERT_TRUE(EncodeTopK(input, s.k, &workspace, &results.emplace_back(), pool));
    EXPECT_EQ(results.back().values, results.front().values) << offset;
    EXPECT_EQ(results.back().ids, results.front().ids) << offset;
  }
}

TEST(EncodeTopK, ShardsTogetherSelectWhatOneDoes) {
  for (const std::int64_t d : {16, 33, 576}) {
    const Shape s{50, 1260, d, 40};
    Problem<float> whole = Problem<float>::Random(s);
    ThreadPool pool(2);
    EncodeWorkspace<float> workspace;
    TopK<float> expected;
    ASSERT_TRUE(EncodeTopK(whole.input, s.k, &workspace, &expected, pool));
    for (const std::int64_t shards : {2, 3, 4}) {
      std::vector<TopK<float>> parts(static_cast<std::size_t>(shards));
      std::vector<Candidates<float>> candidates;
      for (std::int64_t p = 0; p < shards; ++p) {
        EncodeInput<float> input = whole.input;
        input.latents = s.latents / shards;
        input.first_latent = p * input.latents;
        input.w += input.first_latent * s.d;
        input.c += input.first_latent;
        TopK<float>& part = parts[static_cast<std::size_t>(p)];
        ASSERT_TRUE(EncodeTopK(input, s.k, &workspace, &part, pool));
        candidates.push_back({part.values.data(), part.ids.data(), part.width});
      }
      std::vector<std::vector<Scored<float>>> selected(static_cast<std::size_t>(s.tokens));
      for (int p = 0; p < shards; ++p) {
        std::vector<std::int32_t> counts(static_cast<std::size_t>(s.tokens));
        CountWinners(candidates, s.tokens, s.k, p, counts.data(), pool);
        const TopK<float>& part = parts[static_cast<std::size_t>(p)];
        for (std::size_t b = 0; b < counts.size(); ++b) {
          for (std::int32_t j = 0; j < counts[b]; ++j) {
            const std::size_t at =
                b * static_cast<std::size_t>(part.width) + static_cast<std::size_t>(j);
            selected[b].push_back({part.values[at], part.ids[at]});
          }
        }
      }
      for (std::size_t b = 0; b < selected.size(); ++b) {
        std::sort(selected[b].begin(), selected[b].end(), Before<float>);
        ASSERT_EQ(selected[b].size(), static_cast<std::size_t>(s.k));
        for (std::size_t j = 0; j < selected[b].size(); ++j) {
          ASSERT_EQ(selected[b][j].id, expected.ids[b * static_cast<std::size_t>(s.k) + j])
              << "d=" << d;
          ASSERT_EQ(selected[b][j].value, expected.values[b * static_cast<std::size_t>(s.k) + j])
              << "d=" << d;
        }
      }
    }
  }
}

TEST(EncodeTopK, SubsetIsTheSameValuesOfFewerLatents) {
  const Shape s{600, 1100, 24, 1100};
  Problem<float> problem = Problem<float>::Random(s);
  problem.input.first_latent = 0;
  ThreadPool pool(3);
  EncodeWorkspace<float> workspace;
  TopK<float> all;
  ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &all, pool));
  std::vector<std::int32_t> subset;
  for (std::int32_t i = 1; i < s.latents; i += (i % 3) + 1) subset.push_back(i);
  problem.input.subset = subset.data();
  problem.input.subset_size = static_cast<std::int64_t>(subset.size());
  TopK<float> few;
  ASSERT_TRUE(EncodeTopK(problem.input, 25, &workspace, &few, pool));
  ASSERT_EQ(few.width, 25);
  for (std::int64_t b = 0; b < s.tokens; ++b) {
    const std::vector<float> z = ById(all, b, s.latents);
    std::vector<Scored<float>> expected;
    for (const std::int32_t i : subset) expected.push_back({z[static_cast<std::size_t>(i)], i});
    std::sort(expected.begin(), expected.end(), Before<float>);
    for (std::size_t j = 0; j < 25; ++j) {
      ASSERT_EQ(few.ids[static_cast<std::size_t>(b) * 25 + j], expected[j].id);
      ASSERT_EQ(few.values[static_cast<std::size_t>(b) * 25 + j], expected[j].value);
    }
  }
  problem.input.subset_size = 0;  // no latent is dead
  ASSERT_TRUE(EncodeTopK(problem.input, 25, &workspace, &few, pool));
  EXPECT_EQ(few.width, 0);
  EXPECT_TRUE(few.values.empty());
}

TEST(EncodeTopK, NanIsReported) {
  const Shape s{10, 600, 4, 3};
  for (const bool first : {true, false}) {
    Problem<float> problem = Problem<float>::Random(s);
    problem.w[first ? 0 : 599 * 4] = std::numeric_limits<float>::quiet_NaN();
    ThreadPool pool(1);
    EncodeWorkspace<float> workspace;
    TopK<float> top;
    Codes<float> codes;
    EXPECT_FALSE(EncodeTopK(problem.input, s.k, &workspace, &top, pool));
    EXPECT_FALSE(EncodeAbove<float>(problem.input, nullptr, 0, &workspace, &codes, pool));
  }
}

TEST(FoldBias, SubtractsThePreBiasInFloat64) {
  const std::int64_t n = 37;
  const std::int64_t d = 129;
  const auto w = testing::Normal<float>(1, n * d);
  const auto b_enc = testing::Normal<float>(2, n);
  const auto b_dec = testing::Normal<float>(3, d);
  ThreadPool pool(2);
  std::vector<float> c(static_cast<std::size_t>(n));
  FoldBias(w.data(), b_enc.data(), b_dec.data(), n, d, c.data(), pool);
  for (std::int64_t i = 0; i < n; ++i) {
    double expected = b_enc[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < d; ++j) {
      expected -= static_cast<double>(w[static_cast<std::size_t>(i * d + j)]) *
                  static_cast<double>(b_dec[static_cast<std::size_t>(j)]);
    }
    EXPECT_FLOAT_EQ(c[static_cast<std::size_t>(i)], static_cast<float>(expected));
  }
  FoldBias<float>(w.data(), b_enc.data(), nullptr, n, d, c.data(), pool);
  EXPECT_EQ(c, b_enc);
  FoldBias<float>(w.data(), nullptr, nullptr, n, d, c.data(), pool);
  EXPECT_EQ(c, std::vector<float>(b_enc.size(), 0.0F));
  std::vector<float> shifted(c.size());
  std::vector<float> zero(c.size(), 0.0F);
  FoldBias<float>(w.data(), nullptr, b_dec.data(), n, d, c.data(), pool);
  FoldBias(w.data(), zero.data(), b_dec.data(), n, d, shifted.data(), pool);
  EXPECT_EQ(c, shifted);
}

}  // namespace
}  // namespace sae::kernels
