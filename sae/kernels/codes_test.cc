#include "sae/kernels/codes.h"

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

TEST(BuildLatentIndex, EqualsASearch) {
  for (const auto& [tokens, latents, density] : {std::tuple(40, 30, 0.2), std::tuple(1, 1, 1.0),
                                                 std::tuple(5, 100, 0.9), std::tuple(9, 4, 0.0),
                                                 std::tuple(7, 500, 0.01)}) {
    const Codes<float> codes = testing::RandomCodes<float>(2, tokens, latents, density);
    LatentIndex index;
    BuildLatentIndex(codes, &index);
    for (const int threads : {1, 2, 3, 5}) {
      ThreadPool pool(threads);
      LatentIndex parallel;
      BuildLatentIndex(codes, &parallel, pool);
      EXPECT_EQ(parallel.indptr, index.indptr) << threads;
      EXPECT_EQ(parallel.tokens, index.tokens) << threads;
      EXPECT_EQ(parallel.entries, index.entries) << threads;
    }
    ASSERT_EQ(index.latents, latents);
    std::size_t q = 0;
    for (std::int32_t i = 0; i < latents; ++i) {
      ASSERT_EQ(index.indptr[static_cast<std::size_t>(i)], static_cast<std::int64_t>(q));
      for (std::size_t b = 0; b < static_cast<std::size_t>(tokens);
           ++b) {  // tokens ascend inside a latent
        for (std::int64_t e = codes.indptr[b]; e < codes.indptr[b + 1]; ++e) {
          if (codes.ids[static_cast<std::size_t>(e)] != i) continue;
          ASSERT_EQ(index.entries[q], e);
          ASSERT_EQ(index.tokens[q], static_cast<std::int32_t>(b));
          ++q;
        }
      }
      EXPECT_EQ(index.empty(i),
                index.indptr[static_cast<std::size_t>(i)] == static_cast<std::int64_t>(q));
    }
    ASSERT_EQ(index.indptr.back(), static_cast<std::int64_t>(q));
    ASSERT_EQ(codes.nnz(), static_cast<std::int64_t>(q));
  }
}

TEST(BuildLatentIndex, ReusedForOtherShapes) {
  LatentIndex index;
  BuildLatentIndex(testing::RandomCodes<float>(2, 50, 40, 0.5), &index);
  const Codes<float> small = testing::RandomCodes<float>(3, 4, 3, 1.0);
  BuildLatentIndex(small, &index);
  LatentIndex fresh;
  BuildLatentIndex(small, &fresh);
  EXPECT_EQ(index.indptr, fresh.indptr);
  EXPECT_EQ(index.tokens, fresh.tokens);
  EXPECT_EQ(index.entries, fresh.entries);
}

TEST(BuildLatentIndex, NothingAtAll) {
  Codes<double> codes;
  codes.Clear(0, 0);
  LatentIndex index;
  BuildLatentIndex(codes, &index);
  EXPECT_EQ(index.indptr, (std::vector<std::int64_t>{0}));
}

TEST(CodesFromTopK, AppliesReluAndSortsById) {
  TopK<float> top;
  top.tokens = 3;
  top.width = 3;
  top.values = {5, 2, 1, 3, 0, -1, -2, -3, -4};
  top.ids = {107, 101, 103, 109, 100, 102, 100, 101, 102};
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Codes<float> codes;
    CodesFromTopK<float>(top, nullptr, 100, 10, &codes, pool);
    EXPECT_EQ(codes.indptr, (std::vector<std::int64_t>{0, 3, 4, 4}));
    EXPECT_EQ(codes.ids, (std::vector<std::int32_t>{1, 3, 7, 9}));
    EXPECT_EQ(codes.values, (std::vector<float>{2, 1, 5, 3}));
    const std::vector<std::int32_t> counts = {1, 2, 0};
    CodesFromTopK(top, counts.data(), 100, 10, &codes, pool);
    EXPECT_EQ(codes.indptr, (std::vector<std::int64_t>{0, 1, 2, 2}));
    EXPECT_EQ(codes.ids, (std::vector<std::int32_t>{7, 9}));
    EXPECT_EQ(codes.values, (std::vector<float>{5, 3}));
  }
}

TEST(CodesFromTopK, WinnersByIdNeedNoSorting) {
  TopK<float> top;
  top.tokens = 2;
  top.width = 3;
  top.order = TopKOrder::kById;
  top.values = {2, -1, 5, -3, 0, 4};
  top.ids = {101, 103, 107, 100, 101, 109};
  ThreadPool pool(2);
  Codes<float> codes;
  CodesFromTopK<float>(top, nullptr, 100, 10, &codes, pool);
  EXPECT_EQ(codes.indptr, (std::vector<std::int64_t>{0, 2, 3}));
  EXPECT_EQ(codes.ids, (std::vector<std::int32_t>{1, 7, 9}));
  EXPECT_EQ(codes.values, (std::vector<float>{2, 5, 4}));
}

// Long rows take another way to the same result.
TEST(CodesFromTopK, SortsRowsOfAnyLength) {
  for (const std::int64_t width : {1, 2, 40, 1024, 1025, 3000}) {
    TopK<double> top;
    top.tokens = 2;
    top.width = width;
    for (std::int64_t j = 0; j < 2 * width; ++j) {
      top.values.push_back(static_cast<double>(2 * width - j));
      const std::int64_t id = (j % width * 7919 + j / width) % width;
      top.ids.push_back(static_cast<std::int32_t>(50 + id));
    }
    ThreadPool pool(2);
    Codes<double> codes;
    CodesFromTopK<double>(top, nullptr, 50, width, &codes, pool);
    ASSERT_EQ(codes.nnz(), 2 * width);
    for (std::size_t j = 0; j < top.ids.size(); ++j) {
      const std::size_t row = j / static_cast<std::size_t>(width) * static_cast<std::size_t>(width);
      const auto at = row + static_cast<std::size_t>(top.ids[j] - 50);
      EXPECT_EQ(codes.ids[at], top.ids[j] - 50);
      EXPECT_EQ(codes.values[at], top.values[j]);
    }
  }
}

}  // namespace
}  // namespace sae::kernels
