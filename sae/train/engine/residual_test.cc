#include "sae/train/engine/residual.h"

#include "gtest/gtest.h"

#include "sae/base/random.h"
#include "sae/kernels/token_pass.h"

namespace sae::train {
namespace {

constexpr std::int64_t kTokens = 37;
constexpr std::int64_t kWidth = 21;
constexpr double kScale = 0.5;

std::vector<double> Draw(std::uint64_t seed) {
  Random random(seed);
  std::vector<double> out(kTokens * kWidth);
  for (double& v : out) v = random.Normal();
  return out;
}

TEST(Residual, IsTheScaledErrorAndItsSquare) {
  const std::vector<double> x = Draw(1), x_hat = Draw(2);
  std::vector<double> g(x.size());
  ThreadPool pool(2);
  const double sum = kernels::Residual(x.data(), kScale, x_hat.data(), kTokens, kWidth, 3.0, g.data(), pool);
  double expected = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = x_hat[i] - kScale * x[i];
    expected += e * e;
    EXPECT_DOUBLE_EQ(g[i], 3 * e);
  }
  EXPECT_NEAR(sum, expected, 1e-12 * expected);
}

TEST(Residual, BitsDoNotDependOnThreads) {
  const std::vector<double> x = Draw(1), x_hat = Draw(2);
  std::vector<double> g(x.size()), means(kWidth);
  ThreadPool one(1), three(3);
  EXPECT_EQ(kernels::Residual(x.data(), kScale, x_hat.data(), kTokens, kWidth, 3.0, g.data(), one),
            kernels::Residual(x.data(), kScale, x_hat.data(), kTokens, kWidth, 3.0, g.data(), three));
  EXPECT_EQ(ResidualVariance(x.data(), kScale, x_hat.data(), kTokens, kWidth, means.data(), one),
            ResidualVariance(x.data(), kScale, x_hat.data(), kTokens, kWidth, means.data(), three));
}

TEST(AuxResidual, AddsTheMainErrorToTheDeadReconstruction) {
  const std::vector<double> x = Draw(1), x_hat = Draw(2), dead = Draw(3);
  std::vector<double> out = dead;
  ThreadPool pool(2);
  const double sum =
      AuxResidual(x.data(), kScale, x_hat.data(), kTokens, kWidth, 2.0, out.data(), pool);
  double expected = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double ea = dead[i] + x_hat[i] - kScale * x[i];
    expected += ea * ea;
    EXPECT_NEAR(out[i], 2 * ea, 1e-14);
  }
  EXPECT_NEAR(sum, expected, 1e-12 * expected);
}

TEST(ResidualVariance, OfAConstantErrorIsZero) {
  std::vector<double> x(kTokens * kWidth, 2.0), x_hat(kTokens * kWidth), means(kWidth);
  for (std::size_t i = 0; i < x_hat.size(); ++i) x_hat[i] = static_cast<double>(i % kWidth);
  ThreadPool pool(1);
  EXPECT_EQ(ResidualVariance(x.data(), kScale, x_hat.data(), kTokens, kWidth, means.data(), pool),
            0);
}

}  // namespace
}  // namespace sae::train
