#include "sae/eval/firing_statistics.h"

#include <numeric>

#include <gtest/gtest.h>

#include "sae/eval/eval_testing.h"

namespace sae::eval {
namespace {

/// 200 rows; latent i of `alive` fires on every (i + 1)-th; latents beyond never do.
kernels::Codes<float> Rows(int alive, std::int64_t latents) {
  std::vector<testing::Row> rows(200);
  for (int r = 0; r < 200; ++r) {
    for (int i = 0; i < alive; ++i) {
      if (r % (i + 1) == 0) rows[static_cast<std::size_t>(r)].emplace_back(i, 1.0F);
    }
  }
  return testing::CodesOf(rows, latents);
}

TEST(FiringStatistics, L0AndDensities) {
  FiringStatistics s(4);
  s.Add(Rows(3, 4));
  EXPECT_EQ(s.rows(), 200);
  EXPECT_DOUBLE_EQ(s.L0(), (200 + 100 + 67) / 200.0);
  EXPECT_EQ(s.fires()[2], 67);
  EXPECT_DOUBLE_EQ(s.DeadFraction(), 0.25);
  EXPECT_DOUBLE_EQ(s.Denser(0.5), 0.25);  // exactly a half is not more than a half
  EXPECT_DOUBLE_EQ(s.Denser(0.1), 0.75);
  const std::vector<std::int64_t> bins = s.Histogram(0.25);
  EXPECT_EQ(bins.size(), 40U);
  EXPECT_EQ(std::accumulate(bins.begin(), bins.end(), std::int64_t{0}), 4);
  EXPECT_EQ(bins.front(), 1);
  EXPECT_EQ(bins.back(), 1);  // density 1
}

// Property 83.
TEST(FiringStatistics, InjectingDeadLatentsRaisesTheDeadFractionExactly) {
  for (const std::int64_t injected : {0, 1, 7, 40}) {
    const std::int64_t latents = 12 + injected;
    FiringStatistics s(latents);
    s.Add(Rows(10, latents));
    EXPECT_EQ(s.DeadFraction(), static_cast<double>(2 + injected) / static_cast<double>(latents));
    EXPECT_EQ(s.Histogram(0.1).front(), 2 + injected);
  }
}

TEST(FiringStatistics, ACodeOfZeroIsNotFiring) {
  FiringStatistics s(2);
  s.Add(testing::CodesOf({{{0, 0.0F}}, {{1, 2.0F}}}, 2));
  EXPECT_EQ(s.DeadFraction(), 0.5);
  EXPECT_EQ(s.L0(), 0.5);
}

}  // namespace
}  // namespace sae::eval
