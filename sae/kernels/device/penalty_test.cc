// The plain partners of losses and penalties against what they stand for, token by token.
#include "sae/kernels/device/penalty.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"

namespace sae::kernels {
namespace {

using testing::At;
using testing::Normal;
using testing::SplitWeights;

constexpr std::int64_t kTokens = 37;
constexpr std::int64_t kWidth = 11;
constexpr float kScale = 0.5F;  // exact

struct Targets {
  Targets() : target(Normal<float>(1, kTokens * kWidth)), sums(At(kWidth)), squares(At(kWidth)) {
    for (float& v : target) v += 2;
    plain::TargetMoments({target.data(), kScale, sums.data(), squares.data(), kTokens, kWidth});
  }
  double y(std::int64_t t, std::int64_t j) const {
    return static_cast<double>(kScale * target[At(t * kWidth + j)]);
  }
  std::vector<float> target;
  std::vector<double> sums, squares;
};

TEST(PlainPenalty, FvuDividesByTheDeviationsFromTheMean) {
  const Targets data;
  double deviations = 0;
  for (std::int64_t j = 0; j < kWidth; ++j) {
    double mean = 0;
    for (std::int64_t t = 0; t < kTokens; ++t) mean += data.y(t, j) / kTokens;
    for (std::int64_t t = 0; t < kTokens; ++t)
      deviations += (data.y(t, j) - mean) * (data.y(t, j) - mean);
  }
  double rho = 0;
  plain::FvuScale({data.sums.data(), data.squares.data(), kTokens, kWidth, &rho});
  EXPECT_NEAR(rho * deviations, 1, 1e-12);
}

TEST(PlainPenalty, EqualTargetsHaveNoDeviations) {
  const std::vector<double> sums = {6}, squares = {12};  // 3 tokens of 2
  double rho = 0;
  plain::FvuScale({sums.data(), squares.data(), 3, 1, &rho});
  EXPECT_DOUBLE_EQ(rho, 1.0 / 3);
}

TEST(PlainPenalty, TheBiasAloneIsAPrefix) {
  const Targets data;
  const auto bias = Normal<float>(2, kWidth);
  std::vector<float> gradient(At(kWidth), 1.0F);
  std::vector<double> parts(At(kWidth));
  const double rho = 0.3, weight = 0.25;
  plain::BiasOnly({data.sums.data(), data.squares.data(), bias.data(), weight, &rho, kTokens,
                   kWidth, gradient.data(), parts.data()});
  for (std::int64_t j = 0; j < kWidth; ++j) {
    double squares = 0, slope = 0;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      const double e = static_cast<double>(bias[At(j)]) - data.y(t, j);
      squares += e * e;
      slope += 2 * rho * weight * e;
    }
    EXPECT_NEAR(parts[At(j)], weight * squares, 1e-12 * squares);
    EXPECT_NEAR(gradient[At(j)], 1 + slope, 1e-5);
  }
}

// The coefficient is the penalty's derivative by the mean L0.
TEST(PlainPenalty, QuadraticL0) {
  const double lambda = 0.4, target = 8;
  const std::int64_t tokens = 1 << 20;
  const auto penalty_of = [&](std::int64_t active, double* coefficient) {
    double penalty = 0;
    plain::QuadraticL0({&active, &lambda, target, tokens, coefficient, &penalty});
    return penalty;
  };
  for (const std::int64_t l0 : {3, 8, 20}) {
    double coefficient = 9, other = 0;
    const double at = penalty_of(l0 * tokens, &coefficient);
    const double off = static_cast<double>(l0) / target - 1;
    EXPECT_DOUBLE_EQ(at, lambda * off * off);
    const double before = penalty_of(l0 * tokens - 1, &other);
    const double after = penalty_of(l0 * tokens + 1, &other);
    EXPECT_NEAR((after - before) * static_cast<double>(tokens) / 2, coefficient, 1e-8);
  }
  double coefficient = 9;
  const std::int64_t active = 16 * tokens;
  plain::QuadraticL0({&active, &lambda, target, tokens, &coefficient, nullptr});
  EXPECT_DOUBLE_EQ(coefficient, 2 * lambda / target);
}

TEST(PlainPenalty, BelowSumsAreSumsOverTokens) {
  const std::int64_t latents = 9;
  const SplitWeights w(Normal<float>(4, latents * kWidth));
  const auto c = Normal<float>(5, latents), theta = Normal<float>(6, latents);
  const auto x = Normal<float>(7, kTokens * kWidth);
  std::vector<float> x_sum(At(kWidth));
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t j = 0; j < kWidth; ++j) x_sum[At(j)] += x[At(t * kWidth + j)];
  }
  for (const bool joined : {false, true}) {
    std::vector<double> below(At(latents));
    plain::BelowSums({w.view(joined), c.data(), theta.data(), x_sum.data(), kScale, latents, kWidth,
                      kTokens, below.data()});
    for (std::int64_t i = 0; i < latents; ++i) {
      double expected = 0;
      for (std::int64_t t = 0; t < kTokens; ++t) {
        double z = static_cast<double>(c[At(i)]);
        for (std::int64_t j = 0; j < kWidth; ++j)
          z += static_cast<double>(kScale) * static_cast<double>(w.value(i * kWidth + j, joined)) *
               static_cast<double>(x[At(t * kWidth + j)]);
        expected += static_cast<double>(theta[At(i)]) - z;
      }
      EXPECT_NEAR(below[At(i)], expected, 1e-4);
    }
  }
}

}  // namespace
}  // namespace sae::kernels
