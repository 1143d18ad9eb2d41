#include "sae/base/random.h"

#include <gtest/gtest.h>

#include <array>

namespace sae {
namespace {

TEST(Random, IsSplitMix64) {
  Random random(1234567);  // the reference sequence of Vigna's splitmix64.c
  EXPECT_EQ(random.Next(), 6457827717110365317ULL);
  EXPECT_EQ(random.Next(), 3203168211198807973ULL);
  EXPECT_EQ(random.Next(), 9817491932198370423ULL);
}

TEST(Random, BelowIsUniformAndInRange) {
  Random random(7);
  std::array<int, 6> count{};
  for (int i = 0; i < 60000; ++i) ++count[random.Below(6)];
  for (const int c : count) EXPECT_NEAR(c, 10000, 400);
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  Random random(3);
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.Normal();
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
  EXPECT_NEAR(fourth / kDraws, 3, 0.15);
}

TEST(HashCounter, DependsOnEachArgument) {
  EXPECT_NE(HashCounter(1, 2, 3), HashCounter(2, 2, 3));
  EXPECT_NE(HashCounter(1, 2, 3), HashCounter(1, 3, 2));
  EXPECT_NE(HashCounter(1, 2, 3), HashCounter(1, 2, 4));
  EXPECT_EQ(HashCounter(1, 2, 3), HashCounter(1, 2, 3));
}

}  // namespace
}  // namespace sae
