// Kernels of reconstruction against their partners.
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/decode.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

constexpr std::int64_t kTokens = 23;
constexpr std::int64_t kFew = 40;    // latents, of which three in ten are a token's entries
constexpr std::int64_t kMany = 250;  // more entries than a block keeps rows of
constexpr double kSum = 1e-13;       // float64 sums in another order

struct Case {
  std::int64_t d;
  int groups = 1;
  bool joined = false, scaled = false, bias = true;
  std::int64_t latents = kFew;
};

/// Data and the partner's answers. A case owns everything, so that a body is a function of it.
struct Data {
  explicit Data(const Case& c)
      : shape(c),
        codes(testing::MakeCodes(3, kTokens, c.latents, 0.3)),
        w(Normal<float>(4, c.latents * c.d)),
        bias(Normal<float>(5, c.d)),
        target(Normal<float>(6, kTokens * c.d)),
        row_scale(Normal<float>(7, c.latents)),
        f(testing::PerEntry(8, codes)) {
    groups.count = c.groups;
    for (int g = 0; g < c.groups; ++g) {
      groups.last[g] = static_cast<std::int32_t>(c.latents * g * g / (c.groups * c.groups));
      groups.weight[g] = 1 + 0.1 * g;
    }
    groups.last[c.groups - 1] = static_cast<std::int32_t>(c.latents);
    parts.resize(At(c.groups * kTokens * c.d));
    h = parts;
    x_hat.resize(At(kTokens * c.d));
    squares.resize(At(kTokens));
    u.assign(f.size(), 9.0F);
    Params(codes.view(), w.view(c.joined), f.data(), row_scale.data(), bias.data());
    decode.parts = parts.data();
    plain::Decode(decode);
    h = parts;
    plain::PrefixResidual({h.data(), target.data(), kScale, &kRho, groups, x_hat.data(),
                           squares.data(), kTokens, c.d});
    plain::LatentGradient(
        {decode.codes, decode.w, decode.row_scale, groups, h.data(), u.data(), c.d});
  }
  static constexpr double kRho = 0.3;
  static constexpr float kScale = 0.6F;

  void Params(const device::DeviceCodes& view, const device::WeightRows& rows, const float* factors,
              const float* scales, const float* biases) {
    decode.codes = view;
    decode.f = factors;
    decode.w = rows;
    decode.row_scale = shape.scaled ? scales : nullptr;
    decode.bias = shape.bias ? biases : nullptr;
    decode.groups = groups;
    decode.d = shape.d;
  }
  void UploadAll(DeviceTest& t) {
    Params(testing::Upload(t, codes), testing::Upload(t, w, shape.joined), t.Upload(f, "f"),
           t.Upload(row_scale, "row_scale"), t.Upload(bias, "bias"));
    decode.parts = t.Allocate<float>(parts.size(), "parts");
    device_target = t.Upload(target, "target");
    device_x_hat = t.Allocate<float>(x_hat.size(), "x_hat");
    device_squares = t.Allocate<double>(squares.size(), "squares");
    device_u = t.Upload(std::vector<float>(u.size(), 9.0F), "u");
    rho = testing::UploadScalar(t, double{kRho}, "rho");
  }
  void ExpectAnswers(DeviceTest& t) {
    testing::ExpectSame(t.Download(decode.parts, h.size()), h, "H");
    testing::ExpectSame(t.Download(device_x_hat, x_hat.size()), x_hat, "x_hat");
    testing::ExpectNear(t.Download(device_squares, squares.size()), squares, kSum, "squares");
    testing::ExpectSame(t.Download(device_u, u.size()), u, "u");
  }

  Case shape;
  HostCodes codes;
  SplitWeights w;
  std::vector<float> bias, target, row_scale, f, parts, h, x_hat, u;
  std::vector<double> squares;
  device::Groups groups;
  device::DecodeParams decode;
  float *device_target = nullptr, *device_x_hat = nullptr, *device_u = nullptr;
  double *device_squares = nullptr, *rho = nullptr;
};

void ThreeKernels(DeviceTest& t, const Case& shape) {
  Data data(shape);
  data.UploadAll(t);
  t.Check(cuda::Decode(data.decode, t.stream()));
  testing::ExpectSame(t.Download(data.decode.parts, data.parts.size()), data.parts, "parts");
  t.Check(
      cuda::PrefixResidual({data.decode.parts, data.device_target, Data::kScale, data.rho,
                            data.groups, data.device_x_hat, data.device_squares, kTokens, shape.d},
                           t.stream()));
  t.Check(cuda::LatentGradient({data.decode.codes, data.decode.w, data.decode.row_scale,
                                data.groups, data.decode.parts, data.device_u, shape.d},
                               t.stream()));
  data.ExpectAnswers(t);
}

void Fused(DeviceTest& t, const Case& shape) {
  Data data(shape);
  data.UploadAll(t);
  t.Check(cuda::TokenPass({data.decode, data.device_target, Data::kScale, data.rho,
                           data.device_x_hat, data.device_squares, data.device_u},
                          t.stream()));
  data.ExpectAnswers(t);
}

// Of columns: less than a thread's own, less than a block's, a block's several times; by single
// loads and by wide ones.
constexpr std::int64_t kWidths[] = {1, 7, 32, 100, 516, 577};

TEST(DecodeDevice, EqualsItsPartnerAtAllShapes) {
  for (const std::int64_t d : kWidths) {
    const Case plain{d, 1, true, false, true};
    const Case grouped{d, 5, false, true, false};
    for (const Case& shape : {plain, grouped})
      RunDeviceTest([&](DeviceTest& t) { ThreeKernels(t, shape); });
  }
}

TEST(DecodeDevice, EqualsItsPartnerWithManyEntries) {
  for (const std::int64_t d : {100, 577}) {
    const Case joined{d, 5, true, true, true, kMany};
    const Case high{d, 1, false, false, true, kMany};
    for (const Case& shape : {joined, high})
      RunDeviceTest([&](DeviceTest& t) { ThreeKernels(t, shape); });
  }
}

TEST(DecodeDevice, TokenPassEqualsTheThreeAtAllShapes) {
  for (const std::int64_t d : kWidths) {
    const Case joined{d, 1, true, false, true};
    const Case high{d, 1, false, true, false};
    for (const Case& shape : {joined, high}) RunDeviceTest([&](DeviceTest& t) { Fused(t, shape); });
  }
}

TEST(DecodeDevice, TokenPassEqualsTheThreeWithManyEntries) {
  for (const std::int64_t d : {100, 577}) {
    const Case joined{d, 1, true, true, true, kMany};
    const Case high{d, 1, false, false, true, kMany};
    for (const Case& shape : {joined, high}) RunDeviceTest([&](DeviceTest& t) { Fused(t, shape); });
  }
}

TEST(DecodeDevice, TokenPassOfWideRows) {
  const Case wide{20000, 1, false, false, true};
  Data data(wide);
  RunDeviceTest([&](DeviceTest& t) {
    data.UploadAll(t);
    t.Check(cuda::TokenPass({data.decode, data.device_target, Data::kScale, data.rho,
                             data.device_x_hat, data.device_squares, data.device_u},
                            t.stream()));
    data.ExpectAnswers(t);
  });
}

TEST(DecodeDevice, NoTokensIsNothing) {
  RunDeviceTest([&](DeviceTest& t) {
    device::TokenPassParams p;
    auto* const floats = t.Allocate<float>(4, "floats");
    auto* const doubles = t.Allocate<double>(1, "doubles");
    p.decode.codes.indptr = t.Upload(std::vector<std::int32_t>{0}, "indptr");
    p.decode.parts = p.x_hat = floats;
    p.target = floats;
    p.rho = p.squares = doubles;
    p.decode.d = 4;
    t.Check(cuda::TokenPass(p, t.stream()));
    p.decode.d = -1;
    EXPECT_EQ(cuda::TokenPass(p, t.stream()), Error::kInvalidArgument);
    p.decode.d = 4;
    p.decode.parts = nullptr;
    EXPECT_EQ(cuda::TokenPass(p, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::Decode(p.decode, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::AuxResidual({}, t.stream()), Error::kInvalidArgument);
  });
}

void AuxK(DeviceTest& t, std::int64_t d, std::int32_t dead) {
  const auto x_hat = Normal<float>(11, kTokens * d);
  const auto target = Normal<float>(12, kTokens * d);
  std::vector<float> out = Normal<float>(13, kTokens * d);
  auto* const device_x = t.Upload(x_hat, "x_hat");
  auto* const device_target = t.Upload(target, "target");
  auto* const device_out = t.Upload(out, "out");
  auto* const means = t.Allocate<double>(At(d), "means");
  auto* const partial = t.Allocate<double>(At(kTokens), "partial");
  auto* const scalars = t.Allocate<double>(3, "variance, share, factor");
  auto* const enabled = t.Allocate<std::int32_t>(1, "enabled");
  auto* const squares = t.Allocate<double>(At(kTokens), "squares");
  t.Check(cuda::ResidualVariance(
      {device_x, device_target, 0.5F, means, partial, scalars, kTokens, d}, t.stream()));
  t.Check(cuda::AuxScale({scalars, testing::UploadScalar(t, dead, "dead"), 0.3, kTokens, d,
                          scalars + 1, scalars + 2, enabled},
                         t.stream()));
  t.Check(cuda::AuxResidual(
      {device_out, device_x, device_target, 0.5F, scalars + 2, enabled, squares, kTokens, d},
      t.stream()));
  std::vector<double> host_means(At(d)), host_partial(At(kTokens)), host(3), sums(At(kTokens));
  std::int32_t on = 9;
  plain::ResidualVariance({x_hat.data(), target.data(), 0.5F, host_means.data(),
                           host_partial.data(), host.data(), kTokens, d});
  plain::AuxScale({host.data(), &dead, 0.3, kTokens, d, &host[1], &host[2], &on});
  plain::AuxResidual(
      {out.data(), x_hat.data(), target.data(), 0.5F, &host[2], &on, sums.data(), kTokens, d});
  testing::ExpectNear(t.Download(means, At(d)), host_means, kSum, "means");
  testing::ExpectNear(t.Download(scalars, 3), host, kSum, "variance, share, factor");
  testing::ExpectNear(t.Download(device_out, out.size()), out, 1e-6, "out");
  testing::ExpectNear(t.Download(squares, sums.size()), sums, kSum, "squares");
  EXPECT_EQ(t.Download(enabled, 1)[0], on);
}

TEST(DecodeDevice, AuxKEqualsItsPartner) {
  for (const std::int64_t d : {1, 7, 32, 100, 577})
    RunDeviceTest([&](DeviceTest& t) { AuxK(t, d, 2); });
  RunDeviceTest([&](DeviceTest& t) { AuxK(t, 7, 0); });
}

TEST(DecodeDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) {
    Fused(t, {300, 1, true, false, true, kMany});
    AuxK(t, 33, 2);
  });
}

}  // namespace
}  // namespace sae::kernels
