// The scalars of a step against their partners and against what they stand for.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/step_scalars.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
T* One(DeviceTest& t, T value, const char* name) {
  return t.Upload(std::vector<T>{value}, name);
}

TEST(StepScalarsDevice, SumsAreCollected) {
  RunDeviceTest([](DeviceTest& t) {
    device::CollectSumsParams p;
    p.active = One<std::int64_t>(t, 70, "active");
    p.entries = One<std::int32_t>(t, 90, "entries");
    p.penalty = One(t, 0.25, "penalty");
    p.dead = One<std::int32_t>(t, 3, "dead");
    p.finite = One<std::int32_t>(t, 0, "finite");
    p.overflow = One<std::int32_t>(t, 1, "overflow");
    p.sums = t.Allocate<device::StepSums>(1, "sums");
    t.Check(cuda::CollectSums(p, t.stream()));
    const device::StepSums s = t.Download(p.sums, 1)[0];
    EXPECT_EQ(s.active, 70);
    EXPECT_EQ(s.entries, 90);
    EXPECT_EQ(s.penalty, 0.25);
    EXPECT_EQ(s.dead, 3);
    EXPECT_EQ(s.not_finite, 1);
    EXPECT_EQ(s.overflow, 1);
    EXPECT_EQ(s.dead_overflow, 0);
  });
}

TEST(StepScalarsDevice, CapacityIsChecked) {
  RunDeviceTest([](DeviceTest& t) {
    auto* const overflow = One<std::int32_t>(t, 0, "overflow");
    auto* const count = One<std::int32_t>(t, 5, "count");
    t.Check(cuda::CheckCapacity({count, 5, overflow}, t.stream()));
    EXPECT_EQ(t.Download(overflow, 1)[0], 0);
    t.Check(cuda::CheckCapacity({count, 4, overflow}, t.stream()));
    EXPECT_EQ(t.Download(overflow, 1)[0], 1);
    t.Check(cuda::CheckCapacity({count, 9, overflow}, t.stream()));  // stays
    EXPECT_EQ(t.Download(overflow, 1)[0], 1);
  });
}

// A step goes on only with a finite loss, no NaN anywhere and room for everything.
TEST(StepScalarsDevice, AStepIsDecided) {
  struct Case {
    device::StepSums sums;
    double squares;
    std::int32_t go;
  };
  const double nan = std::nan("");
  for (const Case& c : {Case{{1, 1, 0.5, 0, 0, 0, 0}, 8, 1}, Case{{1, 1, nan, 0, 0, 0, 0}, 8, 0},
                        Case{{1, 1, 0.5, 0, 0, 0, 0}, nan, 0},
                        Case{{1, 1, 0.5, 0, 1, 0, 0}, 8, 0}, Case{{1, 1, 0.5, 0, 0, 2, 0}, 8, 0},
                        Case{{1, 1, 0.5, 0, 0, 0, 1}, 8, 0}}) {
    RunDeviceTest([&](DeviceTest& t) {
      device::DecideParams p;
      p.sums = One(t, c.sums, "sums");
      p.squares = One(t, c.squares, "squares");
      p.gate_squares = One(t, 4.0, "gate squares");
      p.rho = One(t, 0.25, "rho");
      p.aux_squares = One(t, nan, "aux squares");  // not there: its scale is 0
      p.aux_scale = One(t, 0.0, "aux scale");
      p.main = t.Allocate<double>(1, "main");
      p.gate = t.Allocate<double>(1, "gate");
      p.aux = t.Allocate<double>(1, "aux");
      p.go = t.Allocate<std::int32_t>(1, "go");
      t.Check(cuda::Decide(p, t.stream()));
      EXPECT_EQ(t.Download(p.go, 1)[0], c.go);
      EXPECT_EQ(t.Download(p.gate, 1)[0], 1);
      EXPECT_EQ(t.Download(p.aux, 1)[0], 0);
      if (c.squares == 8) {
        EXPECT_EQ(t.Download(p.main, 1)[0], 2);
      }
    });
  }
}

TEST(StepScalarsDevice, ClippingScales) {
  for (const double clip : {1.0, 20.0}) {
    RunDeviceTest([&](DeviceTest& t) {
      device::ClipScaleParams p{One(t, 91.0, "shard"), One(t, 78.0, "shared"), clip,
                                t.Allocate<double>(1, "norm"), t.Allocate<double>(1, "scale")};
      t.Check(cuda::ClipScale(p, t.stream()));
      EXPECT_EQ(t.Download(p.norm, 1)[0], 13);
      EXPECT_DOUBLE_EQ(t.Download(p.scale, 1)[0], clip < 13 ? clip / 13 : 1);
    });
  }
}

void Smallest(DeviceTest& t, std::int32_t entries, float cut) {
  std::vector<float> values;
  for (std::int32_t e = 0; e < entries; ++e)
    values.push_back(1 + static_cast<float>(((e + 500) * 7919) % 1009));
  const std::vector<std::int32_t> indptr = {0, entries / 2, entries};
  device::BatchCut batch{};
  batch.value = cut;
  float expected = 0;
  device::SmallestKeptParams host;
  host.codes.tokens = 2;
  host.codes.indptr = const_cast<std::int32_t*>(indptr.data());
  host.codes.values = values.data();
  host.cut = &batch;
  host.smallest = &expected;
  device::SmallestKeptParams p = host;
  p.codes.indptr = t.Upload(indptr, "indptr");
  p.codes.values = t.Upload(values, "values");
  p.cut = One(t, batch, "cut");
  p.smallest = t.Allocate<float>(1, "smallest");
  t.Check(cuda::SmallestKept(p, t.stream()));
  plain::SmallestKept(host);
  EXPECT_EQ(t.Download(p.smallest, 1)[0], expected);
  const auto least = std::min_element(values.begin(), values.end());
  EXPECT_EQ(expected, cut > 0 ? cut : least == values.end() ? kInfinity : *least);
}

TEST(StepScalarsDevice, TheSmallestKeptValue) {
  for (const std::int32_t entries : {0, 1, 255, 256, 257, 1500}) {
    for (const float cut : {0.0F, 0.5F})
      RunDeviceTest([&](DeviceTest& t) { Smallest(t, entries, cut); });
  }
}

TEST(StepScalarsDevice, BarriersAreNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Smallest(t, 1500, 0); });
}

}  // namespace
}  // namespace sae::kernels
