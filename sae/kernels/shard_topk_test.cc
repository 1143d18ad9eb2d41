#include "sae/kernels/shard_topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"

#include "sae/base/random.h"

namespace sae::kernels {
namespace {

struct CapacityCase {
  std::int64_t shards, k, c;
};

TEST(ShardCapacity, IsTheLeastThatMissesLessThanOneTokenInTenThousand) {
  for (const CapacityCase& t : {CapacityCase{8, 32, 14}, CapacityCase{16, 32, 11},
                                CapacityCase{64, 32, 7}, CapacityCase{512, 32, 5},
                                CapacityCase{1, 32, 32}, CapacityCase{2, 4, 4},
                                CapacityCase{3, 1, 1}})
    EXPECT_EQ(ShardCapacity(t.k, t.shards), t.c) << "P " << t.shards << ", k " << t.k;
  // Against the plain sum of binomial terms, factorials and all.
  for (const std::int64_t k : {1, 2, 5, 17, 40}) {
    for (const std::int64_t shards : {2, 3, 4, 8, 16, 64}) {
      const double p = 1.0 / static_cast<double>(shards);
      const auto tail = [&](std::int64_t c) {
        double sum = 0;
        for (std::int64_t j = c; j <= k; ++j) {
          double term = 1;
          for (std::int64_t i = 0; i < j; ++i)
            term *= p * static_cast<double>(k - i) / static_cast<double>(i + 1);
          for (std::int64_t i = j; i < k; ++i) term *= 1 - p;
          sum += term;
        }
        return static_cast<double>(shards) * sum;
      };
      const std::int64_t c = ShardCapacity(k, shards);
      EXPECT_GE(c, 1);
      EXPECT_LE(c, k);
      if (c < k) {
        EXPECT_LT(tail(c), kMissRate) << k << " " << shards;
      }
      if (c > 1) {
        EXPECT_GE(tail(c - 1), kMissRate) << k << " " << shards;
      }
    }
  }
}

TEST(ShardCapacity, LargeKNeitherOverflowsNorUnderflows) {
  const std::int64_t c = ShardCapacity(16384, 8);
  EXPECT_GT(c, 2048);
  EXPECT_LT(c, 2300);
  EXPECT_LT(ShardCapacity(16384, 2), 8500);
}

std::vector<ShardList<float>> Lists(const std::vector<std::vector<float>>& values, bool whole) {
  std::vector<ShardList<float>> out;
  for (const auto& v : values)
    out.push_back({v.data(), static_cast<std::int64_t>(v.size()), whole});
  return out;
}

TEST(FindCut, CountsWinnersTiesAndPadding) {
  std::vector<float> scratch(32);
  const std::vector<std::vector<float>> v = {{5, 3, 3}, {4, 3, -1}, {}};
  const auto lists = Lists(v, true);
  const auto at = [&](std::int64_t k) {
    return FindCut<float>(lists, k, scratch.data());
  };
  EXPECT_EQ(at(2).tau, 4);
  EXPECT_EQ(at(2).above, 1);
  EXPECT_FALSE(at(2).tied(2));
  EXPECT_EQ(at(3).tau, 3);
  EXPECT_EQ(at(3).above, 2);
  EXPECT_EQ(at(3).ties, 3);
  EXPECT_TRUE(at(3).tied(3));
  EXPECT_EQ(at(3).Slots(3), 1);
  EXPECT_FALSE(at(5).tied(5));
  EXPECT_EQ(at(5).Slots(5), 3);
  EXPECT_EQ(at(6).tau, 0);  // five are positive
  EXPECT_EQ(at(6).above, 5);
  EXPECT_EQ(at(6).ties, 0);
}

TEST(FindCut, AShardWhoseLastValueReachesTheCutIsUnsafe) {
  std::vector<float> scratch(32);
  const auto certified = [&](const std::vector<std::vector<float>>& v, std::int64_t k) {
    return FindCut<float>(Lists(v, false), k, scratch.data()).certified;
  };
  EXPECT_TRUE(certified({{9, 8, 1}, {7, 6, 2}}, 4));    // tau 6
  EXPECT_FALSE(certified({{9, 8, 7}, {6, 5, 4}}, 3));   // exactly c winners
  EXPECT_FALSE(certified({{9, 8, 7}, {7, 5, 4}}, 3));   // equal to tau: another may hide
  EXPECT_TRUE(certified({{9, 8, 0}, {7, -2, -3}}, 8));  // padding: all that is positive was sent
  EXPECT_FALSE(certified({{9, 8, 1}, {7, 6, 2}}, 7));   // fewer than k, and more may hide
  EXPECT_TRUE(FindCut<float>(Lists({{9, 8, 7}}, true), 3, scratch.data()).certified);
}

// Random lists cut at c against the whole: a certificate is never wrong, by one level or by two.
TEST(FindCut, ACertifiedCutIsTheCutOfAllValues) {
  Random random(5);
  std::int64_t certified = 0, refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::int64_t shards = 4, k = 1 + static_cast<std::int64_t>(random.Below(12));
    const std::int64_t c = 1 + static_cast<std::int64_t>(random.Below(6));
    const bool coarse = round % 2 == 0;  // many equal values
    std::vector<std::vector<float>> all(shards), sent(shards);
    for (std::size_t s = 0; s < all.size(); ++s) {
      for (std::uint64_t j = random.Below(12); j > 0; --j) {
        const double z = random.Normal() + (s == 1 ? 0.5 : 0);
        all[s].push_back(static_cast<float>(coarse ? std::floor(3 * z) : z));
      }
      std::sort(all[s].rbegin(), all[s].rend());
      sent[s] = all[s];
      sent[s].resize(std::min(sent[s].size(), static_cast<std::size_t>(c)));
    }
    std::vector<float> scratch(64);
    const auto want = FindCut<float>(Lists(all, true), k, scratch.data());
    std::vector<ShardList<float>> lists = Lists(sent, false);
    for (std::size_t s = 0; s < lists.size(); ++s)
      lists[s].whole = sent[s].size() == all[s].size() || lists[s].width >= k;
    std::vector<std::vector<float>> nodes(2, std::vector<float>(static_cast<std::size_t>(c) + 2));
    for (std::size_t node = 0; node < 2; ++node)
      MergeNode<float>(std::span(lists).subspan(2 * node, 2), c + 2, scratch.data(),
                       nodes[node].data());
    for (const auto& got : {FindCut<float>(lists, k, scratch.data()),
                            FindCut<float>(Lists(nodes, false), k, scratch.data())}) {
      ++(got.certified ? certified : refused);
      if (!got.certified) continue;
      EXPECT_EQ(got.tau, want.tau);
      EXPECT_EQ(got.above, want.above);
      EXPECT_EQ(got.Slots(k), want.Slots(k));
    }
  }
  EXPECT_GT(certified, 1000);
  EXPECT_GT(refused, 1000);
}

TEST(CountAtCut, SplitsADescendingList) {
  const std::vector<float> v = {4, 3, 3, 1, -1};
  EXPECT_EQ(CountAtCut(v.data(), 5, 3.F).above, 1);
  EXPECT_EQ(CountAtCut(v.data(), 5, 3.F).ties, 2);
  EXPECT_EQ(CountAtCut(v.data(), 5, 0.F).above, 4);
  EXPECT_EQ(CountAtCut(v.data(), 5, 0.F).ties, 0);
  EXPECT_EQ(CountAtCut(v.data(), 2, 3.F).ties, 1);
}

TEST(LastWinner, IsTheHighestOfTheLowest) {
  std::vector<std::int32_t> ids = {40, 7, 19, 3};
  EXPECT_EQ(LastWinner(ids, 1), 3);
  EXPECT_EQ(LastWinner(ids, 3), 19);
  EXPECT_EQ(LastWinner(ids, 4), 40);
}

}  // namespace
}  // namespace sae::kernels
