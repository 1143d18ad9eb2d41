// Rows that catch up against the partner: moments and free rows to the bit. A unit row's norm is a
// float64 sum in another order, rounded to float32: now and then it differs by one unit in the last
// place, once a step.
#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/deferred_rows_test_data.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::RowRule;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::DeferredCase;
using testing::DeferredData;

void EqualsPartner(DeviceTest& t, const DeferredCase& shape) {
  DeferredData expected(shape), actual(shape);
  expected.RunPlain();
  device::CatchUpDecoderParams p = actual.Shape();
  p.w = {t.Upload(actual.w.hi, "hi"), t.Upload(actual.w.lo, "lo")};
  auto* const m = t.Upload(actual.m, "m");
  auto* const v = t.Upload(actual.v, "v");
  p.moments.m = m;
  p.moments.v = v;
  p.last_step = t.Upload(actual.last_step, "last_step");
  p.steps = t.Upload(actual.steps, "steps");
  if (shape.indexed) {
    p.indptr = t.Upload(actual.indptr, "indptr");
    p.adam = testing::UploadScalar(t, actual.adam, "adam");
  }
  t.Check(cuda::CatchUpDecoder(p, t.stream()));
  actual.w.hi = t.Download(p.w.hi, actual.w.hi.size());
  actual.w.lo = t.Download(p.w.lo, actual.w.lo.size());
  testing::ExpectSame(t.Download(m, actual.m.size()), expected.m, "m");
  testing::ExpectSame(t.Download(v, actual.v.size()), expected.v, "v");
  EXPECT_EQ(t.Download(p.last_step, actual.last_step.size()), expected.last_step);
  if (shape.rule == RowRule::kFree) {
    EXPECT_EQ(actual.w.hi, expected.w.hi);
    EXPECT_EQ(actual.w.lo, expected.w.lo);
  } else {
    testing::ExpectNear(actual.w.Joined(), expected.w.Joined(), 5e-7, "w");
  }
}

TEST(DeferredRowsDevice, EqualTheirPartner) {
  for (const RowRule rule : {RowRule::kUnit, RowRule::kFree}) {
    for (const double beta1 : {0.9, 0.0}) {
      for (const bool indexed : {false, true}) {
        DeferredCase shape;
        shape.rule = rule;
        shape.beta1 = beta1;
        shape.indexed = indexed;
        RunDeviceTest([&](DeviceTest& t) { EqualsPartner(t, shape); });
      }
    }
  }
}

// Every number of columns a thread, threads without a column, and rows of one.
TEST(DeferredRowsDevice, TakeEveryWidth) {
  for (const std::int64_t d : {1, 577, 1024, 1500, 3000, 8192}) {
    DeferredCase shape;
    shape.d = d;
    shape.latents = d > 1024 ? 3 : 7;
    shape.most = 5;
    RunDeviceTest([&](DeviceTest& t) { EqualsPartner(t, shape); });
  }
}

// Momentum that ends on the way: v decays alone from there on. The window is as long as the rest.
TEST(DeferredRowsDevice, MomentumMayEnd) {
  DeferredCase shape;
  shape.latents = 9;
  shape.d = 5;
  shape.beta1 = 0.2;
  shape.t = 300;
  shape.window = shape.most = 128;
  RunDeviceTest([&](DeviceTest& t) { EqualsPartner(t, shape); });
}

// More than a latent a block.
TEST(DeferredRowsDevice, BlocksTakeSeveralLatents) {
  DeferredCase shape;
  shape.latents = 3 * 8192 + 5;
  shape.d = 2;
  shape.most = 2;
  shape.indexed = true;
  RunDeviceTest([&](DeviceTest& t) { EqualsPartner(t, shape); });
}

TEST(DeferredRowsDevice, RefuseWhatCannotBeRight) {
  RunDeviceTest([](DeviceTest& t) {
    const DeferredCase shape;
    device::CatchUpDecoderParams p = DeferredData(shape).Shape();
    EXPECT_EQ(cuda::CatchUpDecoder(p, t.stream()), Error::kInvalidArgument);
    p.latents = 0;
    p.w = {t.Allocate<std::uint16_t>(4, "hi"), t.Allocate<std::int16_t>(4, "lo")};
    p.moments.m = p.moments.v = t.Allocate<float>(4, "moments");
    p.last_step = t.Allocate<std::int64_t>(1, "last_step");
    p.steps = t.Allocate<device::RestStep>(1, "steps");
    t.Check(cuda::CatchUpDecoder(p, t.stream()));
    p.d = device::kMostDeferredWidth + 1;
    EXPECT_EQ(cuda::CatchUpDecoder(p, t.stream()), Error::kInvalidArgument);
    p.d = 4;
    p.rule = RowRule::kOnTheFly;
    EXPECT_EQ(cuda::CatchUpDecoder(p, t.stream()), Error::kInvalidArgument);
    p.rule = RowRule::kUnit;
    p.moments.format = device::MomentFormat::kBf16;
    EXPECT_EQ(cuda::CatchUpDecoder(p, t.stream()), Error::kInvalidArgument);
    p.moments.format = device::MomentFormat::kF32;
    p.w.lo = nullptr;
    EXPECT_EQ(cuda::CatchUpDecoder(p, t.stream()), Error::kInvalidArgument);
  });
}

TEST(DeferredRowsDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) {
    DeferredCase shape;
    shape.d = 300;
    shape.latents = 4;
    shape.most = 6;
    EqualsPartner(t, shape);
  });
}

}  // namespace
}  // namespace sae::kernels
