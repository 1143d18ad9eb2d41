#include "sae/kernels/batch_topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

#include <gtest/gtest.h>

#include "sae/kernels/encode.h"
#include "sae/kernels/encode_test_data.h"

namespace sae::kernels {
namespace {

using testing::PlainZ;
using testing::Problem;
using testing::Shape;

/// The cut and how many of its ties win, by the passes over the values of several ranks.
template <class T>
T RadixCut(const std::vector<std::vector<T>>& ranks, std::int64_t* count) {
  std::uint64_t prefix = 0;
  for (int pass = 0; pass < kRadixPasses<T>; ++pass) {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(RadixBins<T>(pass)), 0);
    for (const std::vector<T>& values : ranks) {
      RadixHistogram(values.data(), static_cast<std::int64_t>(values.size()), pass, prefix,
                     counts.data());
    }
    std::int64_t above = 0;
    const std::int64_t bin = RadixBin(counts.data(), RadixBins<T>(pass), *count, &above);
    *count -= above;
    prefix = RadixExtend<T>(pass, prefix, bin);
  }
  return RadixValue<T>(prefix);
}

template <class T>
void RadixEqualsASort() {
  for (int kind = 0; kind < 4; ++kind) {
    std::vector<std::vector<T>> ranks(3);
    std::vector<T> all;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      for (const T v : testing::Normal<T>(r + 1, 200)) {
        T value = std::abs(v);
        if (kind == 1) value = std::ceil(2 * value);            // ties
        if (kind == 2) value = T(0.25);                         // nothing but ties
        if (kind == 3) value *= std::numeric_limits<T>::min();  // subnormals among them
        if (value > 0) ranks[r].push_back(value);
      }
      if (kind == 3) ranks[r].push_back(std::numeric_limits<T>::infinity());
      all.insert(all.end(), ranks[r].begin(), ranks[r].end());
    }
    std::sort(all.begin(), all.end(), std::greater<>());
    for (const std::size_t k :
         {std::size_t{1}, std::size_t{2}, std::size_t{77}, std::size_t{300}, all.size()}) {
      auto left = static_cast<std::int64_t>(k);
      const T cut = RadixCut(ranks, &left);
      EXPECT_EQ(cut, all[k - 1]) << kind << " " << k;
      EXPECT_EQ(left, static_cast<std::int64_t>(k) -
                          std::count_if(all.begin(), all.end(), [=](T v) { return v > cut; }));
    }
  }
}

TEST(Radix, FloatCutEqualsASort) { RadixEqualsASort<float>(); }
TEST(Radix, DoubleCutEqualsASort) { RadixEqualsASort<double>(); }

TEST(Radix, BitsOfAllPassesAreThoseOfTheType) {
  int bits = 0;
  for (int pass = 0; pass < kRadixPasses<float>; ++pass) bits += RadixBits<float>(pass);
  EXPECT_EQ(bits, 32);
  bits = 0;
  for (int pass = 0; pass < kRadixPasses<double>; ++pass) bits += RadixBits<double>(pass);
  EXPECT_EQ(bits, 64);
}

TEST(KeepFromCut, EqualsAPlainLoop) {
  for (const std::int64_t tokens : {1, 3, 40, 333}) {
    Codes<float> codes = testing::RandomCodes<float>(7, tokens, 60, 0.4);
    for (float& v : codes.values) v = std::ceil(v * 5) / 5;
    const float cut = 0.6F;
    Codes<float> expected;
    expected.Clear(tokens, 60);
    std::vector<std::uint8_t> keep;
    for (std::size_t b = 0; b < static_cast<std::size_t>(tokens); ++b) {
      for (auto e = static_cast<std::size_t>(codes.indptr[b]);
           e < static_cast<std::size_t>(codes.indptr[b + 1]); ++e) {
        bool in = codes.values[e] > cut;
        if (codes.values[e] == cut) {
          keep.push_back(keep.size() % 3 == 1 ? 1 : 0);
          in = keep.back() != 0;
        }
        if (!in) continue;
        expected.ids.push_back(codes.ids[e]);
        expected.values.push_back(codes.values[e]);
      }
      expected.indptr[b + 1] = static_cast<std::int64_t>(expected.ids.size());
    }
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Codes<float> cut_codes = codes;
      KeepFromCut(&cut_codes, cut, keep, pool);
      EXPECT_EQ(cut_codes.indptr, expected.indptr);
      EXPECT_EQ(cut_codes.ids, expected.ids);
      EXPECT_EQ(cut_codes.values, expected.values);
    }
  }
}

template <class T>
struct Entry {
  T value;
  std::int64_t token, latent;
  bool operator<(const Entry& o) const {
    return std::tuple(-value, token, latent) < std::tuple(-o.value, o.token, o.latent);
  }
  bool operator==(const Entry&) const = default;
};

template <class T>
std::vector<Entry<T>> Entries(const Codes<T>& codes) {
  std::vector<Entry<T>> out;
  for (std::size_t b = 0; b < static_cast<std::size_t>(codes.tokens); ++b) {
    for (auto e = static_cast<std::size_t>(codes.indptr[b]);
         e < static_cast<std::size_t>(codes.indptr[b + 1]); ++e) {
      if (e > static_cast<std::size_t>(codes.indptr[b])) {
        EXPECT_LT(codes.ids[e - 1], codes.ids[e]);
      }
      out.push_back({codes.values[e], static_cast<std::int64_t>(b), codes.ids[e]});
    }
  }
  return out;
}

/// Everything above `floor` and 0 in the order of BatchTopK, by a plain sort.
template <class T>
std::vector<Entry<T>> PlainLargest(const EncodeInput<T>& input, T floor) {
  std::vector<Entry<T>> all;
  for (std::int64_t b = 0; b < input.tokens; ++b) {
    for (std::int64_t i = 0; i < input.latents; ++i) {
      const T z = static_cast<T>(PlainZ(input, b, i));
      if (z > std::max(floor, T(0))) all.push_back({z, b, i});
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

template <class T>
void HoldsTheFirst(bool equal_rows) {
  EncodeWorkspace<T> workspace;
  Codes<T> codes;
  for (const Shape& s : testing::kShapes) {
    Problem<T> problem = Problem<T>::Ties(s);
    if (equal_rows) {
      std::fill(problem.w.begin(), problem.w.end(), T(0));
      std::fill(problem.c.begin(), problem.c.end(), T(3));
    }
    for (const T floor : {T(-5), T(2)}) {
      const std::vector<Entry<T>> all = PlainLargest(problem.input, floor);
      for (const std::int64_t count :
           {std::int64_t{1}, std::int64_t{7}, s.tokens * s.k, s.tokens * s.latents}) {
        for (const int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          ASSERT_TRUE(EncodeLargest(problem.input, count, floor, &workspace, &codes, pool));
          std::vector<Entry<T>> got = Entries(codes);
          ASSERT_LE(static_cast<std::int64_t>(got.size()), 2 * count * threads + 512);
          std::sort(got.begin(), got.end());
          const std::size_t first = std::min(all.size(), static_cast<std::size_t>(count));
          ASSERT_GE(got.size(), first);
          for (std::size_t j = 0; j < first; ++j) {
            ASSERT_EQ(got[j], all[j]) << "count " << count << " of n=" << s.latents << " " << j;
          }
          if (all.size() <= static_cast<std::size_t>(count)) {
            ASSERT_EQ(got.size(), all.size());
          }
        }
      }
    }
  }
}

TEST(EncodeLargest, FloatHoldsTheFirstOfAPlainSort) { HoldsTheFirst<float>(false); }
TEST(EncodeLargest, DoubleHoldsTheFirstOfAPlainSort) { HoldsTheFirst<double>(false); }
TEST(EncodeLargest, AllEqualHoldsTheFirstTokens) { HoldsTheFirst<float>(true); }

TEST(EncodeLargest, NanIsReported) {
  Problem<float> problem = Problem<float>::Random({10, 600, 4, 3});
  problem.w[599 * 4] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(2);
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
  EXPECT_FALSE(EncodeLargest(problem.input, 30, 0.0F, &workspace, &codes, pool));
}

/// BatchTopK of one process, from candidates to codes.
Codes<float> BatchTopK(const EncodeInput<float>& input, std::int64_t count, int threads) {
  ThreadPool pool(threads);
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
  EXPECT_TRUE(EncodeLargest(input, count, 0.0F, &workspace, &codes, pool));
  if (codes.nnz() <= count) return codes;
  std::int64_t left = count;
  const float cut = RadixCut<float>({codes.values}, &left);
  std::vector<std::uint8_t> keep(
      static_cast<std::size_t>(std::count(codes.values.begin(), codes.values.end(), cut)), 0);
  std::fill_n(keep.begin(), left, std::uint8_t{1});
  KeepFromCut(&codes, cut, keep, pool);
  return codes;
}

// The cut is exact whatever the threads, though their candidates differ.
TEST(EncodeLargest, BatchTopKHasTheSameBitsForAnyThreads) {
  for (const bool ties : {false, true}) {
    const Shape s{1200, 700, 8, 5};
    Problem<float> problem = ties ? Problem<float>::Ties(s) : Problem<float>::Random(s);
    const Codes<float> first = BatchTopK(problem.input, 6000, 1);
    EXPECT_EQ(first.nnz(), 6000);
    for (const int threads : {2, 3}) {
      const Codes<float> codes = BatchTopK(problem.input, 6000, threads);
      EXPECT_EQ(codes.indptr, first.indptr);
      EXPECT_EQ(codes.ids, first.ids);
      EXPECT_EQ(codes.values, first.values);
    }
    if (!ties) continue;
    const std::vector<Entry<float>> all = PlainLargest(problem.input, 0.0F);
    std::vector<Entry<float>> got = Entries(first);
    std::sort(got.begin(), got.end());
    for (std::size_t j = 0; j < got.size(); ++j) ASSERT_EQ(got[j], all[j]);
  }
}

}  // namespace
}  // namespace sae::kernels
