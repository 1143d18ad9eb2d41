#include "sae/kernels/screen.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/certified_test_data.h"
#include "sae/kernels/screen_targets.h"

namespace sae::kernels {
namespace {

using testing::Kind;
using testing::kKinds;
using testing::Make;
using testing::Problem;
using testing::Shape;

// The certificate itself, for every pair: the reference lies between the ends of the interval.
TEST(Screen, IntervalsEncloseTheReference) {
  for (const Kind kind : kKinds) {
    for (const Shape& s : {Shape{40, 520, 7, 1}, Shape{513, 30, 64, 1}, Shape{20, 40, 900, 1}}) {
      for (const float scale : {1.0F, -0.3F, 1e-30F, 1e12F}) {
        const Problem<float> problem = Make(kind, s);
        ThreadPool pool(2);
        for (const bool bf16 : {true, false}) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " scale "
                                            << scale << " bf16 " << bf16);
          Screen screen(s.latents, s.d, bf16);
          screen.Prepare(problem.w.data(), pool);
          screen.PrepareTokens(problem.x.data(), s.tokens, pool);
          ScreenBounds bounds;
          screen.Bounds(scale, problem.c.data(), &bounds);
          EncodeInput<float> input = problem.input;
          input.scale = scale;
          AlignedVector<float> z(static_cast<std::size_t>(kScreenTokens * kScreenLatents));
          for (std::int64_t block = 0; block < screen.blocks(); ++block) {
            for (std::int64_t chunk = 0; chunk < screen.chunks(); ++chunk) {
              screen.Product(block, chunk, 0, z.data());
              for (std::int64_t t = block * kScreenTokens;
                   t < std::min(s.tokens, (block + 1) * kScreenTokens); ++t) {
                const float slope = bounds.slope[static_cast<std::size_t>(t)];
                if (std::isinf(slope)) continue;
                for (std::int64_t i = chunk * kScreenLatents;
                     i < std::min(s.latents, (chunk + 1) * kScreenLatents); ++i) {
                  const auto at = static_cast<std::size_t>(i);
                  const float product = z[static_cast<std::size_t>(
                      t % kScreenTokens * kScreenLatents + i % kScreenLatents)];
                  const double v = std::fma(scale, product, problem.c[at]);
                  const double m = std::fma(slope, bounds.q[at], bounds.g[at]);
                  const double z_true = testing::PlainReference(input, t, i);
                  ASSERT_LE(std::abs(v - z_true), m) << "token " << t << " latent " << i;
                }
              }
            }
          }
        }
      }
    }
  }
}

// Not vacuous: on plain data the margin is a few thousandths of |w| |x| in bf16, and near the
// accumulation bound in float32.
TEST(Screen, MarginsAreOfTheRoundingsSize) {
  const Shape s{50, 600, 256, 1};
  const Problem<float> problem = Make(Kind::kStored, s);
  ThreadPool pool(1);
  for (const bool bf16 : {true, false}) {
    Screen screen(s.latents, s.d, bf16);
    screen.Prepare(problem.w.data(), pool);
    screen.PrepareTokens(problem.x.data(), s.tokens, pool);
    ScreenBounds bounds;
    screen.Bounds(1.0F, problem.c.data(), &bounds);
    const double limit = screen.bf16() ? 0x1p-9 : 1e-4;
    for (std::int64_t i = 0; i < s.latents; ++i) {
      double norms = 0;
      for (std::int64_t j = 0; j < s.d; ++j)
        norms += std::pow(problem.w[static_cast<std::size_t>(i * s.d + j)], 2);
      double token = 0;
      for (std::int64_t j = 0; j < s.d; ++j)
        token += std::pow(problem.x[static_cast<std::size_t>(j)], 2);
      const auto at = static_cast<std::size_t>(i);
      const double margin = bounds.slope[0] * bounds.q[at] + bounds.g[at];
      EXPECT_LT(margin, limit * std::sqrt(norms * token) + 1e-5);
      EXPECT_GT(margin, 0);
    }
  }
}

TEST(Screen, TokensWithNanAndOverflowingProductsAreNotScreened) {
  const Shape s{6, 40, 8, 1};
  Problem<float> problem = Make(Kind::kRandom, s);
  problem.x[8] = std::numeric_limits<float>::quiet_NaN();
  problem.x[16] = std::numeric_limits<float>::infinity();
  problem.x[24] = 3e38F;
  problem.x[32] = 1e31F;
  ThreadPool pool(1);
  Screen screen(s.latents, s.d, true);
  screen.Prepare(problem.w.data(), pool);
  screen.PrepareTokens(problem.x.data(), s.tokens, pool);
  ScreenBounds bounds;
  screen.Bounds(1.0F, problem.c.data(), &bounds);
  EXPECT_TRUE(std::isfinite(bounds.slope[0]));
  for (std::size_t t = 1; t < 5; ++t) EXPECT_TRUE(std::isinf(bounds.slope[t])) << t;
  EXPECT_TRUE(std::isfinite(bounds.slope[5]));
}

TEST(RoundRow, RoundsToNearestEvenAndPads) {
  const std::vector<float> row = {1.0F,
                                  1 + 0x1p-8F,             // half way: even is below
                                  1 + 0x1p-7F + 0x1p-8F,   // half way: even is above
                                  1 + 0x1p-8F + 0x1p-20F,  // above half
                                  -3.0F - 0x1p-6F,
                                  0x1p-130F,
                                  0.0F};
  std::vector<std::uint16_t> out(32, 0xffff);
  const RoundedNorms norms =
      RoundRow(static_cast<std::int64_t>(row.size()), row.data(), 32, out.data());
  const std::vector<float> expected = {1.0F,      1.0F, 1 + 0x1p-6F, 1 + 0x1p-7F, -3.0F - 0x1p-6F,
                                       0x1p-130F, 0.0F};
  double exact = 0;
  double residual = 0;
  for (std::size_t j = 0; j < row.size(); ++j) {
    EXPECT_EQ(out[j], testing::Bits(expected[j]) >> 16) << j;
    exact += std::pow(static_cast<double>(row[j]), 2);
    residual += std::pow(static_cast<double>(row[j]) - static_cast<double>(expected[j]), 2);
  }
  for (std::size_t j = row.size(); j < out.size(); ++j) EXPECT_EQ(out[j], 0);
  EXPECT_NEAR(norms.exact, exact, 1e-12);
  EXPECT_NEAR(norms.residual, residual, 1e-16);
}

// Integers: ends are exact, so every instruction set must find the same; sizes with tails.
TEST(Sift, EqualsAPlainLoopOnEveryInstructionSet) {
  for (const std::int64_t size : {1, 7, 16, 63, 64, 65, 200, 512}) {
    const std::int64_t padded = size + kBoundsSlack;
    const std::vector<float> z = testing::Integers<float>(1, padded, 20);
    const std::vector<float> c = testing::Integers<float>(2, padded, 5);
    std::vector<float> q = testing::Integers<float>(3, padded, 2);
    const std::vector<float> g(static_cast<std::size_t>(padded), 1.0F);
    const std::vector<float> floors = testing::Integers<float>(4, size, 40);
    for (float& v : q) v = std::abs(v);
    const ScreenedRow row{z.data(), c.data(), q.data(), g.data(), size, 2.0F, 3.0F, 1000};
    testing::ForEachTarget([&] {
      for (const bool per_latent : {false, true}) {
        std::vector<float> upper(static_cast<std::size_t>(padded));
        std::vector<float> lower(static_cast<std::size_t>(padded));
        std::vector<std::int32_t> ids(static_cast<std::size_t>(padded));
        const Bounded out{upper.data(), lower.data(), ids.data()};
        const std::int64_t found =
            per_latent ? SiftAbove(row, floors.data(), out) : SiftFrom(row, 25, out);
        std::vector<float> ends(static_cast<std::size_t>(padded));
        LowerEnds(row, ends.data());
        std::size_t e = 0;
        for (std::size_t j = 0; j < static_cast<std::size_t>(size); ++j) {
          const float v = 2 * z[j] + c[j];
          const float m = 3 * q[j] + 1;
          EXPECT_EQ(ends[j], v - m);
          if (v + m < (per_latent ? floors[j] : 25)) continue;
          ASSERT_LT(e, static_cast<std::size_t>(found));
          EXPECT_EQ(ids[e], 1000 + static_cast<std::int32_t>(j));
          EXPECT_EQ(upper[e], v + m);
          EXPECT_EQ(lower[e], v - m);
          ++e;
        }
        EXPECT_EQ(static_cast<std::int64_t>(e), found);
        const std::int64_t kept = KeepFrom(out, found, 40);
        std::int64_t expected = 0;
        for (std::size_t j = 0; j < static_cast<std::size_t>(size); ++j) {
          const float u = 2 * z[j] + c[j] + 3 * q[j] + 1;
          if (u < (per_latent ? std::max(floors[j], 40.0F) : 40)) continue;
          ASSERT_LT(expected, kept);
          EXPECT_EQ(ids[static_cast<std::size_t>(expected++)], 1000 + static_cast<std::int32_t>(j));
        }
        EXPECT_EQ(kept, expected);
      }
    });
  }
}

TEST(Comparable, FindsNanInEveryPlace) {
  std::vector<float> values(37, 1.0F);
  EXPECT_TRUE(Comparable(values.data(), 37));
  for (float& v : values) {
    v = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(Comparable(values.data(), 37));
    v = -std::numeric_limits<float>::infinity();
  }
}

TEST(ReachedBy, IsReachedByKAndByFewMore) {
  for (const std::int64_t count : {1, 5, 16, 17, 100, 512}) {
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      std::vector<float> values = testing::Normal<float>(seed, count);
      if (seed == 3) values = testing::Integers<float>(seed, count, 2);  // ties, and both zeros
      std::vector<float> sorted = values;
      std::sort(sorted.begin(), sorted.end(), std::greater<float>());
      for (std::int64_t k = 1; k <= count; k += 1 + k / 3) {
        const float kth = sorted[static_cast<std::size_t>(k - 1)];
        for (const std::int64_t surplus : {std::int64_t{0}, k / 2}) {
          const float floor =
              ReachedBy(values.data(), count, k, surplus, -std::numeric_limits<float>::infinity());
          EXPECT_LE(floor, kth);
          const auto reach =
              std::count_if(values.begin(), values.end(), [=](float v) { return v >= floor; });
          const auto ties = std::count(values.begin(), values.end(), kth);
          EXPECT_GE(reach, k);
          EXPECT_LE(reach, k + surplus + ties - 1);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
