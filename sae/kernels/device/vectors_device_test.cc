// Kernels of sums and vectors against their partners.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/vectors.h"
#include "sae/kernels/row_ops.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::Normal;
using testing::SplitWeights;

constexpr double kSum = 1e-12;  // float64 sums in another order

void Columns(DeviceTest& t, std::int64_t rows, std::int64_t d, bool add, std::int32_t enabled) {
  const auto m = Normal<float>(1, rows * d);
  auto weights = Normal<float>(2, rows);
  std::vector<float> values = m;
  for (std::int64_t r = 0; r < rows; r += 3) {
    weights[At(r)] = 0;
    std::fill_n(values.begin() + r * d, d, NAN);  // not to be read
  }
  const SplitWeights w(values);
  std::vector<float> out = Normal<float>(3, d);
  std::vector<double> weighted(At(d));
  device::ColumnSumsParams host;
  host.m = m.data();
  host.rows = rows;
  host.d = d;
  host.enabled = &enabled;
  host.add = add;
  host.out = out.data();
  device::ColumnSumsParams p = host;
  p.m = t.Upload(m, "m");
  p.enabled = testing::UploadScalar(t, enabled, "enabled");
  p.scratch = t.Allocate<double>(At(device::kColumnParts * d), "scratch");
  p.out = t.Upload(out, "out");
  auto* const device_weighted = t.Allocate<double>(At(d), "weighted");
  t.Check(cuda::ColumnSums(p, t.stream()));
  t.Check(cuda::WeightedRowSum({t.Upload(weights, "weights"), testing::Upload(t, w, add), rows, d,
                                p.scratch, device_weighted},
                               t.stream()));
  plain::ColumnSums(host);
  plain::WeightedRowSum({weights.data(), w.view(add), rows, d, nullptr, weighted.data()});
  testing::ExpectNear(t.Download(p.out, At(d)), out, 1e-7, "column sums");
  testing::ExpectNear(t.Download(device_weighted, At(d)), weighted, kSum, "weighted");
}

TEST(VectorsDevice, ColumnSumsOfMoreRowsThanABlockReadsAhead) {
  RunDeviceTest([&](DeviceTest& t) { Columns(t, 9001, 4, true, 1); });
}

TEST(VectorsDevice, ColumnSumsEqualTheirPartners) {
  for (const std::int64_t d : {1, 7, 32, 100, 516, 577}) {
    for (const std::int64_t rows : {0, 1, 63, 700}) {
      RunDeviceTest([&](DeviceTest& t) { Columns(t, rows, d, rows == 63, rows != 1); });
    }
  }
}

void Sums(DeviceTest& t, std::int64_t count, bool add, bool scaled) {
  const auto values = Normal<double>(4, count);
  const auto floats = Normal<float>(5, count);
  auto* const scratch = t.Allocate<double>(1024, "scratch");
  auto* const out = t.Upload(std::vector<double>{3, 4}, "out");
  const double factor = 0.37;
  const double* const device_factor = scaled ? testing::UploadScalar(t, factor, "factor") : nullptr;
  t.Check(
      cuda::Sum({t.Upload(values, "values"), count, device_factor, add, scratch, out}, t.stream()));
  t.Check(cuda::SumSquares({t.Upload(floats, "floats"), count, add, scratch, out + 1}, t.stream()));
  std::vector<double> host = {3, 4};
  plain::Sum({values.data(), count, scaled ? &factor : nullptr, add, nullptr, &host[0]});
  plain::SumSquares({floats.data(), count, add, nullptr, &host[1]});
  testing::ExpectNear(t.Download(out, 2), host, 1e-11, "sums");
}

TEST(VectorsDevice, SumsEqualTheirPartners) {
  for (const std::int64_t count : {0, 1, 31, 257, 4096, 4097, 30011})
    RunDeviceTest([&](DeviceTest& t) { Sums(t, count, count % 2 == 0, count % 3 == 0); });
}

void Elements(DeviceTest& t, std::int64_t count, std::int32_t go) {
  const Adam adam = Adam::At(7, 0.02, 0.9, 0.999, 1e-8);
  const device::AdamScalars scalars{adam.lr,          adam.beta1,       adam.beta2, adam.epsilon,
                                    adam.correction1, adam.correction2, 7};
  auto p = Normal<float>(6, count), m = Normal<float>(7, count, 0.1);
  std::vector<float> v(At(count), 0x1.0p-126F), gradient = Normal<float>(8, count);
  auto mean = Normal<float>(9, count);
  const auto b = Normal<double>(10, count);
  const double scale = 0.3;
  const auto* const flag = testing::UploadScalar(t, go, "go");
  device::AdamVectorParams params{t.Upload(p, "p"),
                                  t.Upload(m, "m"),
                                  t.Upload(v, "v"),
                                  t.Upload(gradient, "gradient"),
                                  count,
                                  testing::UploadScalar(t, scalars, "adam"),
                                  1.5,
                                  testing::UploadScalar(t, scale, "scale"),
                                  flag};
  auto* const device_mean = t.Upload(mean, "mean");
  auto* const device_gradient = t.Upload(gradient, "a");
  t.Check(cuda::AdamVector(params, t.stream()));
  t.Check(cuda::Ema({{}, params.p, device_mean, count, 0.9, flag}, t.stream()));
  t.Check(cuda::Subtract({device_gradient, t.Upload(b, "b"), count}, t.stream()));
  plain::AdamVector(
      {p.data(), m.data(), v.data(), gradient.data(), count, &scalars, 1.5, &scale, &go});
  plain::Ema({{}, p.data(), mean.data(), count, 0.9, &go});
  plain::Subtract({gradient.data(), b.data(), count});
  testing::ExpectSame(t.Download(params.p, At(count)), p, "p");
  testing::ExpectSame(t.Download(params.m, At(count)), m, "m");
  testing::ExpectSame(t.Download(params.v, At(count)), v, "v");
  testing::ExpectSame(t.Download(device_mean, At(count)), mean, "mean");
  testing::ExpectSame(t.Download(device_gradient, At(count)), gradient, "a - b");
}

TEST(VectorsDevice, ElementwiseKernelsHaveTheBitsOfTheirPartners) {
  for (const std::int64_t count : {1, 100, 577}) {
    for (const std::int32_t go : {0, 1})
      RunDeviceTest([&](DeviceTest& t) { Elements(t, count, go); });
  }
}

void Rows(DeviceTest& t, std::int64_t rows, std::int64_t d, bool joined) {
  std::vector<float> values = Normal<float>(11, rows * d);
  std::fill(values.begin(), values.begin() + d, 0.0F);
  SplitWeights w(values);
  std::vector<float> norms(At(rows)), scales(At(rows)), mean(At(rows * d), 1.0F);
  auto* const hi = t.Upload(w.hi, "hi");
  auto* const lo = t.Upload(w.lo, "lo");
  auto* const device_norms = t.Allocate<float>(At(rows), "norms");
  auto* const device_scales = t.Allocate<float>(At(rows), "scales");
  auto* const device_mean = t.Upload(mean, "mean");
  t.Check(cuda::RowNorms({{hi, joined ? lo : nullptr}, rows, d, device_norms, device_scales},
                         t.stream()));
  t.Check(cuda::Ema({{hi, lo}, nullptr, device_mean, rows * d, 0.9, nullptr}, t.stream()));
  t.Check(cuda::RenormaliseRows({{hi, lo}, rows, d, nullptr}, t.stream()));
  plain::RowNorms({w.view(joined), rows, d, norms.data(), scales.data()});
  plain::Ema({w.view(true), nullptr, mean.data(), rows * d, 0.9, nullptr});
  plain::RenormaliseRows({w.mutable_view(), rows, d, nullptr});
  testing::ExpectNear(t.Download(device_norms, At(rows)), norms, 1e-7, "norms");
  testing::ExpectNear(t.Download(device_scales, At(rows)), scales, 1e-7, "row_scale");
  testing::ExpectSame(t.Download(device_mean, mean.size()), mean, "mean");
  SplitWeights out(values);
  out.hi = t.Download(hi, w.hi.size());
  out.lo = t.Download(lo, w.lo.size());
  testing::ExpectNear(out.Joined(), w.Joined(), 2e-7, "unit rows");
}

TEST(VectorsDevice, RowKernelsEqualTheirPartners) {
  for (const std::int64_t d : {1, 7, 32, 100, 577}) {
    for (const bool joined : {false, true})
      RunDeviceTest([&](DeviceTest& t) { Rows(t, 19, d, joined); });
  }
}

TEST(VectorsDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Sums(t, 9001, false, false); });
}

TEST(VectorsDevice, RefusesWhatCannotBeRight) {
  RunDeviceTest([](DeviceTest& t) {
    device::SumParams sum;
    EXPECT_EQ(cuda::Sum(sum, t.stream()), Error::kInvalidArgument);
    sum.count = -1;
    EXPECT_EQ(cuda::Sum(sum, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::ColumnSums({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::WeightedRowSum({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::AdamVector({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::Ema({}, t.stream()), Error::kOk);
  });
}

}  // namespace
}  // namespace sae::kernels
