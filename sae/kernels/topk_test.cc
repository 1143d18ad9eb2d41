#include "sae/kernels/topk.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "sae/kernels/codes.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

TEST(Before, LargerValueThenLowerId) {
  EXPECT_TRUE(Before<float>({2, 9}, {1, 0}));
  EXPECT_TRUE(Before<float>({1, 3}, {1, 4}));
  EXPECT_FALSE(Before<float>({1, 4}, {1, 3}));
  EXPECT_TRUE(Before<float>({-0.0F, 1}, {0.0F, 2}));  // -0 equals +0: the id decides
  EXPECT_FALSE(Before<float>({0.0F, 2}, {-0.0F, 1}));
}

/// Sorted lists of `width` of `shards` shards for `tokens` tokens, ids of shard p in [100 p, 100 p
/// + 100).
std::vector<TopK<float>> Lists(std::int64_t shards, std::int64_t tokens, std::int64_t width,
                               int range) {
  std::vector<TopK<float>> out;
  for (std::int64_t p = 0; p < shards; ++p) {
    TopK<float> list{
        tokens,
        width,
        testing::Integers<float>(static_cast<std::uint64_t>(p + 1), tokens * width, range),
        {}};
    for (std::int64_t b = 0; b < tokens; ++b) {
      std::vector<Scored<float>> row;
      for (std::int64_t j = 0; j < width; ++j) {
        row.push_back({list.values[static_cast<std::size_t>(b * width + j)],
                       static_cast<std::int32_t>(100 * p + (j * 7 + b) % 100)});
      }
      std::sort(row.begin(), row.end(), Before<float>);
      for (std::int64_t j = 0; j < width; ++j) {
        list.values[static_cast<std::size_t>(b * width + j)] =
            row[static_cast<std::size_t>(j)].value;
        list.ids.push_back(row[static_cast<std::size_t>(j)].id);
      }
    }
    out.push_back(std::move(list));
  }
  return out;
}

TEST(CountWinners, EqualsASortOfTheUnion) {
  for (const int range : {1, 3, 1000}) {  // mostly ties; some; hardly any
    for (const std::int64_t k : {1, 5, 20, 60, 200}) {
      const std::int64_t tokens = 31;
      const std::vector<TopK<float>> lists = Lists(3, tokens, 20, range);
      std::vector<Candidates<float>> candidates;
      for (const TopK<float>& list : lists)
        candidates.push_back({list.values.data(), list.ids.data(), list.width});
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        for (int own = 0; own < 3; ++own) {
          std::vector<std::int32_t> counts(static_cast<std::size_t>(tokens));
          CountWinners(candidates, tokens, k, own, counts.data(), pool);
          for (std::size_t b = 0; b < counts.size(); ++b) {
            std::vector<Scored<float>> all;
            for (const TopK<float>& list : lists) {
              for (std::size_t j = 0; j < 20; ++j)
                all.push_back({list.values[b * 20 + j], list.ids[b * 20 + j]});
            }
            std::sort(all.begin(), all.end(), Before<float>);
            all.resize(std::min(all.size(), static_cast<std::size_t>(k)));
            const auto expected = std::count_if(all.begin(), all.end(),
                                                [&](const auto& s) { return s.id / 100 == own; });
            ASSERT_EQ(counts[b], expected) << "k=" << k << " range=" << range << " token " << b;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
