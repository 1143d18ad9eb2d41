#include "sae/eval/dictionary_match.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "sae/base/random.h"

namespace sae::eval {
namespace {

std::vector<float> RandomRows(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> out(static_cast<std::size_t>(n * d));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

/// Row i of the result is row to[i] of `rows`, times `scale`.
std::vector<float> Permuted(const std::vector<float>& rows, std::size_t d,
                            const std::vector<std::size_t>& to, float scale = 1) {
  std::vector<float> out(to.size() * d);
  for (std::size_t i = 0; i < to.size(); ++i) {
    for (std::size_t c = 0; c < d; ++c) out[i * d + c] = scale * rows[to[i] * d + c];
  }
  return out;
}

std::vector<std::size_t> Shuffle(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::size_t> to(n);
  std::iota(to.begin(), to.end(), 0U);
  for (std::size_t i = n - 1; i > 0; --i) std::swap(to[i], to[random.Below(i + 1)]);
  return to;
}

// Property 78.
TEST(DictionaryMatch, APermutedDictionaryIsTheSame) {
  ThreadPool pool(2);
  const std::int64_t n = 700, d = 24;  // more than one block
  const std::vector<float> rows = RandomRows(n, d, 1);
  const std::vector<std::size_t> to = Shuffle(n, 2);
  const std::vector<float> other = Permuted(rows, d, to, 3);
  const Dictionary a{other, d}, b{rows, d};
  const Matching m = MatchRows(a, b, Cosine::kSigned, pool).value();
  EXPECT_EQ(m.pairs, n);
  for (std::size_t i = 0; i < to.size(); ++i) {
    EXPECT_EQ(m.partner[i], static_cast<std::int64_t>(to[i]));
    EXPECT_NEAR(m.cosine[i], 1, 1e-6);
  }
  EXPECT_NEAR(m.mean_cosine, 1, 1e-6);
  EXPECT_EQ(SharedFraction(m), 1);
  const Nearest nearest = NearestRows(a, b, Cosine::kSigned, pool);
  EXPECT_NEAR(nearest.mean(), 1, 1e-6);
  EXPECT_EQ(nearest.partner, m.partner);
  EXPECT_EQ(Uniqueness(nearest), 1);
}

// Property 78.
TEST(DictionaryMatch, AFlippedDictionaryIsTheSameOnlyWithoutSigns) {
  ThreadPool pool(1);
  const std::vector<float> rows = RandomRows(60, 16, 3);
  const std::vector<float> flipped = Permuted(rows, 16, Shuffle(60, 4), -1);
  const Dictionary a{flipped, 16}, b{rows, 16};
  EXPECT_NEAR(MatchRows(a, b, Cosine::kAbsolute, pool)->mean_cosine, 1, 1e-6);
  const Matching m = MatchRows(a, b, Cosine::kSigned, pool).value();
  EXPECT_LT(m.mean_cosine, 0.7);
  EXPECT_LT(SharedFraction(m), 0.5);
}

// Property 79.
TEST(DictionaryMatch, RandomDictionariesAreAsNearAsChanceSays) {
  ThreadPool pool(2);
  const std::int64_t n = 16384, d = 768;
  EXPECT_NEAR(ChanceCosine(n, d), 0.159, 5e-4);
  const std::vector<float> queries = RandomRows(512, d, 5), rows = RandomRows(n, d, 6);
  const double mean = NearestRows({queries, d}, {rows, d}, Cosine::kSigned, pool).mean();
  EXPECT_LT(mean, ChanceCosine(n, d));
  EXPECT_GT(mean, 0.85 * ChanceCosine(n, d));
}

// Property 81.
TEST(DictionaryMatch, DuplicatesInflateTheNearestCosineButNotTheMatching) {
  ThreadPool pool(1);
  const std::int64_t d = 8;
  std::vector<float> truth(4 * 8, 0.0F);
  for (std::size_t i = 0; i < 4; ++i) truth[i * 8 + i] = 1;
  const std::vector<float> twice = Permuted(truth, 8, {0, 0, 2, 3});
  const Dictionary a{twice, d}, b{truth, d};
  const Nearest nearest = NearestRows(a, b, Cosine::kAbsolute, pool);
  EXPECT_NEAR(nearest.mean(), 1, 1e-6);
  EXPECT_EQ(Uniqueness(nearest), 0.75);
  const Matching m = MatchRows(a, b, Cosine::kAbsolute, pool).value();
  EXPECT_NEAR(m.mean_cosine, 0.75, 1e-6);
  EXPECT_LT(m.mean_cosine, nearest.mean());
  EXPECT_EQ(SharedFraction(m), 0.75);
}

TEST(DictionaryMatch, SharedFractionCanAskTheEncoderToo) {
  ThreadPool pool(1);
  const std::vector<float> decoder = RandomRows(20, 8, 7), encoder = RandomRows(20, 8, 8);
  std::vector<std::size_t> to(20);
  std::iota(to.begin(), to.end(), 0U);
  const Matching m = MatchRows({decoder, 8}, {decoder, 8}, Cosine::kSigned, pool).value();
  std::swap(to[0], to[1]);  // the other SAE's encoder has two latents the other way around
  const std::vector<float> other = Permuted(encoder, 8, to);
  const Matching e = MatchRows({other, 8}, {encoder, 8}, Cosine::kSigned, pool).value();
  EXPECT_EQ(SharedFraction(m), 1);
  EXPECT_EQ(SharedFraction(m, 0.7, &e), 0.9);
}

TEST(DictionaryMatch, CosinesAreThoseOfTheDefinition) {
  ThreadPool pool(1);
  const std::vector<float> a = RandomRows(5, 6, 9), b = RandomRows(7, 6, 10);
  const std::vector<double> got = CosineMatrix({a, 6}, {b, 6}, Cosine::kAbsolute, pool);
  for (std::size_t i = 0; i < 5; ++i) {
    for (std::size_t j = 0; j < 7; ++j) {
      double ab = 0, aa = 0, bb = 0;
      for (std::size_t c = 0; c < 6; ++c) {
        ab += static_cast<double>(a[i * 6 + c]) * b[j * 6 + c];
        aa += static_cast<double>(a[i * 6 + c]) * a[i * 6 + c];
        bb += static_cast<double>(b[j * 6 + c]) * b[j * 6 + c];
      }
      EXPECT_NEAR(got[i * 7 + j], std::abs(ab) / std::sqrt(aa * bb), 1e-6);
    }
  }
  const Nearest others = NearestOthers({a, 6}, Cosine::kSigned, pool);
  const std::vector<double> own = CosineMatrix({a, 6}, {a, 6}, Cosine::kSigned, pool);
  for (std::size_t i = 0; i < 5; ++i) {
    double best = -1;
    for (std::size_t j = 0; j < 5; ++j) best = j == i ? best : std::max(best, own[i * 5 + j]);
    EXPECT_EQ(others.cosine[i], best);
  }
}

TEST(DictionaryMatch, ZeroRowsAreLikeNothingAndWidthsMustAgree) {
  ThreadPool pool(1);
  const std::vector<float> zero(6, 0.0F), row = {1, 2, 3};
  const Nearest n = NearestRows({zero, 3}, {row, 3}, Cosine::kAbsolute, pool);
  EXPECT_EQ(n.cosine[0], 0);
  EXPECT_EQ(n.partner[0], 0);
  EXPECT_FALSE(MatchRows({zero, 2}, {row, 3}, Cosine::kAbsolute, pool).ok());
}

}  // namespace
}  // namespace sae::eval
