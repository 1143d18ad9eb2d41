#include "sae/kernels/screen_dot.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/screen_targets.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

// The definition, one operation after the other.
float PlainDot(std::int64_t d, const float* w, const float* x) {
  float lanes[16] = {};
  for (std::int64_t j = 0; j < (d + 15) / 16 * 16; ++j) {
    const float a = j < d ? w[j] : 0.0F;
    const float b = j < d ? x[j] : 0.0F;
    lanes[j % 16] = std::fma(a, b, lanes[j % 16]);
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

std::uint32_t Bits(float v) { return std::bit_cast<std::uint32_t>(v); }

TEST(ReferenceDot, SameBitsOnEveryInstructionSet) {
  for (const std::int64_t d : {1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 100, 576, 1023}) {
    std::vector<float> w = testing::Normal<float>(1, d);
    std::vector<float> x = testing::Normal<float>(2, d);
    for (std::int64_t j = 0; j < d; j += 3) x[static_cast<std::size_t>(j)] *= 1e-30F;
    const float expected = PlainDot(d, w.data(), x.data());
    testing::ForEachTarget([&] {
      EXPECT_EQ(Bits(ReferenceDot(d, w.data(), x.data())), Bits(expected)) << d;
      EXPECT_EQ(Bits(ReferenceDot(d, x.data(), w.data())), Bits(expected)) << d;
    });
  }
}

TEST(ReferenceDot, BlockedFormsAreItBitForBit) {
  for (const std::int64_t d : {5, 16, 33, 576}) {
    const std::int64_t m = 7;
    const std::int64_t n = 13;
    const std::vector<float> x = testing::Normal<float>(3, m * d);
    const std::vector<float> w = testing::Normal<float>(4, n * d);
    testing::ForEachTarget([&] {
      std::vector<float> z(static_cast<std::size_t>(m * (n + 2)), -1.0F);
      ReferenceTile(m, n, d, x.data(), w.data(), z.data(), n + 2);
      for (std::int64_t t = 0; t < m; ++t) {
        for (std::int64_t i = 0; i < n + 2; ++i) {
          const float expected = i < n ? PlainDot(d, w.data() + i * d, x.data() + t * d) : -1.0F;
          ASSERT_EQ(Bits(z[static_cast<std::size_t>(t * (n + 2) + i)]), Bits(expected));
        }
      }
      const std::vector<std::int32_t> rows = {3, 12, 0, 0, 7, 11, 1, 2, 5};
      for (std::size_t count = 0; count <= rows.size(); ++count) {
        std::vector<float> out(count);
        ReferenceDots(d, x.data(), w.data(), rows.data(), static_cast<std::int64_t>(count),
                      out.data());
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_EQ(Bits(out[i]), Bits(PlainDot(d, w.data() + rows[i] * d, x.data())));
        }
      }
    });
  }
}

TEST(ReferenceDot, ZIsRoundedOnceOnEveryInstructionSet) {
  const std::vector<float> c = testing::Normal<float>(5, 37);
  const std::vector<float> z = testing::Normal<float>(6, 37);
  testing::ForEachTarget([&] {
    std::vector<float> out = z;
    ReferenceZ(37, 0.3F, c.data(), out.data());
    for (std::size_t j = 0; j < out.size(); ++j) {
      EXPECT_EQ(Bits(out[j]), Bits(ReferenceZ(0.3F, z[j], c[j])));
      const double exact =
          static_cast<double>(0.3F) * static_cast<double>(z[j]) + static_cast<double>(c[j]);
      EXPECT_EQ(out[j], static_cast<float>(exact));
    }
  });
}

TEST(ReferenceDot, StaysWithinItsErrorBound) {
  const std::int64_t d = 777;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> w = testing::Normal<float>(10 + seed, d);
    const std::vector<float> x = testing::Normal<float>(90 + seed, d);
    double exact = 0;
    double magnitude = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      const double product = static_cast<double>(w[j]) * static_cast<double>(x[j]);
      exact += product;
      magnitude += std::abs(product);
    }
    const double bound = static_cast<double>(ReferenceDepth(d)) * 0x1p-24 * 1.001 * magnitude;
    EXPECT_LE(std::abs(static_cast<double>(ReferenceDot(d, w.data(), x.data())) - exact), bound);
  }
}

TEST(ReferenceDot, NanAndInfinityPropagate) {
  std::vector<float> w = testing::Normal<float>(1, 40);
  std::vector<float> x(40, 1.0F);
  w[37] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(ReferenceDot(40, w.data(), x.data())));
  w[37] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ReferenceDot(40, w.data(), x.data()), std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace sae::kernels
