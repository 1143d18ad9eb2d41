#include "sae/model/shard.h"

#include <cmath>

#include "gtest/gtest.h"

namespace sae::model {
namespace {

TEST(Deal, IsABijectionOfAnySize) {
  for (const std::int64_t n : {1, 2, 3, 12, 64, 96, 1000, 4096, 12288}) {
    std::vector<int> seen(static_cast<std::size_t>(n), 0);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t place = DealPlace(n, i);
      ASSERT_GE(place, 0);
      ASSERT_LT(place, n);
      ++seen[static_cast<std::size_t>(place)];
      EXPECT_EQ(LatentAtPlace(n, place), i);
    }
    EXPECT_EQ(seen, std::vector<int>(static_cast<std::size_t>(n), 1)) << n;
  }
}

// Written down once: a checkpoint's fixed reductions depend on it.
TEST(Deal, StaysWhatItIs) {
  const auto first = [](std::int64_t n, std::int64_t seed) {
    std::vector<std::int64_t> out;
    for (std::int64_t i = 0; i < 6; ++i) out.push_back(DealPlace(n, i, seed));
    return out;
  };
  EXPECT_EQ(first(1 << 24, kDealSeed), (std::vector<std::int64_t>{15411984, 9739190, 16207679,
                                                                  14757025, 14065743, 15828524}));
  EXPECT_EQ(first(96, kDealSeed), (std::vector<std::int64_t>{71, 49, 51, 27, 30, 88}));
  EXPECT_NE(first(96, kDealSeed), first(96, kDealSeed + 1));
}

TEST(LatentShard, EveryLatentIsOnOneRankInAscendingOrder) {
  for (const int ranks : {1, 2, 3, 4, 8, 12}) {
    std::vector<int> seen(96, 0);
    for (int rank = 0; rank < ranks; ++rank) {
      const LatentShard s = ShardOf(96, ranks, rank);
      ASSERT_EQ(s.count, 96 / ranks);
      for (std::int64_t i = 0; i < s.count; ++i) {
        ++seen[static_cast<std::size_t>(s.Global(i))];
        if (i > 0) {
          EXPECT_LT(s.Global(i - 1), s.Global(i));
        }
        EXPECT_EQ(DealPlace(96, s.Global(i)) / s.count, ranks == 1 ? 0 : rank);
        EXPECT_EQ(s.LocalBelow(s.Global(i)), i);
        EXPECT_EQ(s.LocalBelow(s.Global(i) + 1), i + 1);
      }
      EXPECT_EQ(s.LocalBelow(0), 0);
      EXPECT_EQ(s.LocalBelow(96), s.count);
    }
    EXPECT_EQ(seen, std::vector<int>(96, 1)) << ranks;
  }
}

TEST(LatentShard, APartKeepsItsIds) {
  for (const int ranks : {1, 4}) {
    const LatentShard s = ShardOf(96, ranks, ranks - 1);
    const LatentShard part = s.Part(5, 17);
    ASSERT_EQ(part.count, 12);
    EXPECT_EQ(part.latents, 96);
    for (std::int64_t i = 0; i < 12; ++i) EXPECT_EQ(part.Global(i), s.Global(5 + i));
    EXPECT_EQ(part.LocalBelow(s.Global(5)), 0);
    EXPECT_EQ(s.Part(0, s.count).ids, s.ids);
  }
}

// Neighbours spread over ranks as chance has it: 512 of them on 8 ranks, each within 5 deviations.
TEST(LatentShard, NeighboursDoNotCrowd) {
  constexpr std::int64_t n = 1 << 14;
  constexpr double expected = 512.0 / 8;
  const double deviation = std::sqrt(expected * 7 / 8);
  for (std::int64_t first = 0; first < n; first += 2048) {
    for (int rank = 0; rank < 8; ++rank) {
      const LatentShard s = ShardOf(n, 8, rank);
      const auto here = static_cast<double>(s.LocalBelow(first + 512) - s.LocalBelow(first));
      EXPECT_NEAR(here, expected, 5 * deviation) << first << " " << rank;
    }
  }
}

TEST(VirtualBlocks, NestInRanks) {
  constexpr std::int64_t n = 192;
  const std::vector<std::uint8_t> all = VirtualBlocks(ShardOf(n, 1, 0), 16);
  std::vector<int> size(16, 0);
  for (const std::uint8_t b : all) ++size[b];
  EXPECT_EQ(size, std::vector<int>(16, 12));
  for (const int ranks : {2, 4, 8, 16}) {
    for (int rank = 0; rank < ranks; ++rank) {
      const LatentShard s = ShardOf(n, ranks, rank);
      const std::vector<std::uint8_t> own = VirtualBlocks(s, 16);
      for (std::int64_t i = 0; i < s.count; ++i) {
        const std::uint8_t block = own[static_cast<std::size_t>(i)];
        EXPECT_EQ(block, all[static_cast<std::size_t>(s.Global(i))]);
        EXPECT_EQ(block / (16 / ranks), rank);
      }
    }
  }
}

}  // namespace
}  // namespace sae::model
