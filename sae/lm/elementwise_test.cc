#include "sae/lm/elementwise.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/base/dtype.h"
#include "sae/base/random.h"

namespace sae::lm {
namespace {

std::vector<float> Normals(std::size_t n, double scale, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> out(n);
  for (float& x : out) x = static_cast<float>(scale * random.Normal());
  return out;
}

TEST(Elementwise, RmsNormAgainstFloat64) {
  for (const std::int64_t d : {1, 7, 64, 576}) {
    const auto x = Normals(static_cast<std::size_t>(3 * d), 20, 1);
    const auto weight = Normals(static_cast<std::size_t>(d), 1, 2);
    std::vector<float> out(x.size());
    std::vector<std::uint16_t> half(x.size());
    RmsNorm(x.data(), weight.data(), 3, d, 1e-5F, {out.data(), nullptr});
    RmsNorm(x.data(), weight.data(), 3, d, 1e-5F, {nullptr, half.data()});
    for (std::int64_t r = 0; r < 3; ++r) {
      double sum = 0;
      for (std::int64_t j = 0; j < d; ++j)
        sum +=
            double{x[static_cast<std::size_t>(r * d + j)]} * x[static_cast<std::size_t>(r * d + j)];
      const double scale = 1 / std::sqrt(sum / static_cast<double>(d) + 1e-5);
      for (std::int64_t j = 0; j < d; ++j) {
        const auto i = static_cast<std::size_t>(r * d + j);
        const double want = x[i] * scale * weight[static_cast<std::size_t>(j)];
        EXPECT_NEAR(out[i], want, 1e-6 * std::fabs(want) + 1e-9);
        EXPECT_EQ(half[i], FloatToBf16(out[i]));
      }
    }
  }
}

TEST(Elementwise, SwiGluAgainstFloat64) {
  std::vector<float> in = Normals(2 * 2 * 133, 6, 3);
  in[0] = 120;  // beyond exp's range on either side
  in[1] = -120;
  in[2] = 0;
  std::vector<float> out(2 * 133);
  SwiGlu(in.data(), 2, 133, {out.data(), nullptr});
  for (std::size_t r = 0; r < 2; ++r) {
    for (std::size_t j = 0; j < 133; ++j) {
      const double gate = in[r * 266 + j];
      const double want = gate / (1 + std::exp(-gate)) * in[r * 266 + 133 + j];
      EXPECT_NEAR(out[r * 133 + j], want, 1e-6 * std::fabs(want) + 1e-30) << gate;
    }
  }
}

TEST(Elementwise, RopeTurnsPairsByTheAngle) {
  const RopeTable table(50, 8, 100000);
  const auto in = Normals(8, 1, 4);
  std::vector<float> out(8);
  ApplyRope(in.data(), table, 49, out.data());
  for (std::size_t i = 0; i < 4; ++i) {
    const double angle = 49 * std::pow(100000.0, -2.0 * static_cast<double>(i) / 8);
    EXPECT_NEAR(out[i], in[i] * std::cos(angle) - in[i + 4] * std::sin(angle), 1e-6);
    EXPECT_NEAR(out[i + 4], in[i] * std::sin(angle) + in[i + 4] * std::cos(angle), 1e-6);
  }
}

TEST(Elementwise, SoftmaxMasksAndSumsToOne) {
  auto row = Normals(100, 300, 5);
  const auto in = row;
  SoftmaxRow(row.data(), 77, 100, 0.125F);
  double top = -1e30;
  for (std::size_t i = 0; i < 77; ++i) top = std::max(top, double{in[i]});
  double sum = 0;
  for (std::size_t i = 0; i < 77; ++i) sum += std::exp((in[i] - top) * 0.125);
  for (std::size_t i = 0; i < 100; ++i) {
    const double want = i < 77 ? std::exp((in[i] - top) * 0.125) / sum : 0;
    EXPECT_NEAR(row[i], want, 1e-5 * want + 1e-36) << i;  // rounding of an argument near -80
  }
  float one[3] = {5, 6, 7};
  SoftmaxRow(one, 1, 3, 1.0F);
  EXPECT_EQ(one[0], 1.0F);
  EXPECT_EQ(one[2], 0.0F);
}

TEST(Elementwise, AddAndCopy) {
  float x[3] = {1, 2, 3};
  const float y[3] = {10, 20, 0.3F};
  AddTo(x, y, 3);
  EXPECT_EQ(x[1], 22.0F);
  std::uint16_t half[3];
  CopyTo(x, 3, {nullptr, half});
  EXPECT_EQ(half[2], FloatToBf16(3.3F));
}

}  // namespace
}  // namespace sae::lm
