// Kernels of losses and penalties against their partners.
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/penalty.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::Normal;
using testing::SplitWeights;
using testing::UploadScalar;

constexpr double kSum = 1e-12;  // float64 sums in another order
constexpr double kRho = 0.3;

void Targets(DeviceTest& t, std::int64_t tokens, std::int64_t d) {
  auto target = Normal<float>(1, tokens * d);
  for (float& v : target) v += 0.5F;
  const auto bias = Normal<float>(2, d);
  auto gradient = Normal<float>(3, d);
  std::vector<double> sums(At(d)), squares(At(d)), parts(At(d));
  double rho = 0;
  auto* const device_sums = t.Allocate<double>(At(d), "sums");
  auto* const device_squares = t.Allocate<double>(At(d), "squares");
  auto* const device_parts = t.Allocate<double>(At(d), "parts");
  auto* const device_rho = t.Allocate<double>(1, "rho");
  auto* const device_gradient = t.Upload(gradient, "gradient");
  t.Check(cuda::TargetMoments(
      {t.Upload(target, "target"), 0.6F, device_sums, device_squares, tokens, d}, t.stream()));
  t.Check(cuda::FvuScale({device_sums, device_squares, tokens, d, device_rho}, t.stream()));
  t.Check(cuda::BiasOnly(
      {device_sums, device_squares, t.Upload(bias, "b_dec"), 0.25,
       UploadScalar(t, kRho, "rho in force"), tokens, d, device_gradient, device_parts},
      t.stream()));
  plain::TargetMoments({target.data(), 0.6F, sums.data(), squares.data(), tokens, d});
  plain::FvuScale({sums.data(), squares.data(), tokens, d, &rho});
  plain::BiasOnly({sums.data(), squares.data(), bias.data(), 0.25, &kRho, tokens, d,
                   gradient.data(), parts.data()});
  testing::ExpectNear(t.Download(device_sums, At(d)), sums, kSum, "sums");
  testing::ExpectNear(t.Download(device_squares, At(d)), squares, kSum, "squares");
  testing::ExpectNear(t.Download(device_parts, At(d)), parts, kSum, "parts");
  testing::ExpectNear(t.Download(device_gradient, At(d)), gradient, 1e-6, "gradient");
  EXPECT_NEAR(t.Download(device_rho, 1)[0], rho, kSum * rho);
}

TEST(PenaltyDevice, TermsOfTheTargetsEqualTheirPartners) {
  for (const std::int64_t d : {1, 7, 32, 300}) {
    for (const std::int64_t tokens : {2, 33, 100})
      RunDeviceTest([&](DeviceTest& t) { Targets(t, tokens, d); });
  }
}

void Quadratic(DeviceTest& t, std::int64_t count, bool adds) {
  const double lambda = 0.4;
  double coefficient = 9, penalty = 0.5;
  auto* const out = t.Upload(std::vector<double>{coefficient, penalty}, "out");
  t.Check(cuda::QuadraticL0({UploadScalar(t, count, "active"), UploadScalar(t, lambda, "lambda"), 8,
                             32, out, adds ? out + 1 : nullptr},
                            t.stream()));
  plain::QuadraticL0({&count, &lambda, 8, 32, &coefficient, adds ? &penalty : nullptr});
  EXPECT_EQ(t.Download(out, 2), (std::vector<double>{coefficient, penalty}));
}

TEST(PenaltyDevice, TheQuadraticCoefficientEqualsItsPartner) {
  for (const std::int64_t count : {0, 255, 256, 4000}) {
    for (const bool adds : {false, true})
      RunDeviceTest([&](DeviceTest& t) { Quadratic(t, count, adds); });
  }
}

void Below(DeviceTest& t, std::int64_t latents, std::int64_t d, bool joined) {
  const SplitWeights w(Normal<float>(4, latents * d));
  const auto c = Normal<float>(5, latents), theta = Normal<float>(6, latents);
  const auto x_sum = Normal<float>(7, d, 10);
  std::vector<double> below(At(latents));
  auto* const out = t.Allocate<double>(At(latents), "below");
  t.Check(
      cuda::BelowSums({testing::Upload(t, w, joined), t.Upload(c, "c"), t.Upload(theta, "theta"),
                       t.Upload(x_sum, "x_sum"), 0.7F, latents, d, 41, out},
                      t.stream()));
  plain::BelowSums(
      {w.view(joined), c.data(), theta.data(), x_sum.data(), 0.7F, latents, d, 41, below.data()});
  const auto have = t.Download(out, At(latents));
  for (std::size_t i = 0; i < below.size(); ++i) EXPECT_NEAR(have[i], below[i], 1e-10) << i;
}

TEST(PenaltyDevice, BelowSumsEqualTheirPartner) {
  for (const std::int64_t d : {1, 7, 32, 300}) {
    for (const bool joined : {false, true})
      RunDeviceTest([&](DeviceTest& t) { Below(t, 21, d, joined); });
  }
}

TEST(PenaltyDevice, RefusesWhatCannotBeRight) {
  RunDeviceTest([](DeviceTest& t) {
    EXPECT_EQ(cuda::TargetMoments({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::FvuScale({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::BiasOnly({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::QuadraticL0({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::BelowSums({}, t.stream()), Error::kInvalidArgument);
  });
}

TEST(PenaltyDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Targets(t, 100, 300); });
}

}  // namespace
}  // namespace sae::kernels
