// Certified selection by bounds and of a batch's largest: kernels against their partners, the whole
// against all pre-activations by ReferenceDot, bit for bit.
#include <algorithm>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/certified_above.h"
#include "sae/kernels/device/certified_test_data.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/screen_dot.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::CertifiedProblem;
using testing::SplitRows;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// (token, id, z), ids ascending.
using Entries = std::vector<std::tuple<std::int64_t, std::int64_t, float>>;

/// Everything above `lower` (empty: 0).
Entries AllAbove(const CertifiedProblem& p, const std::vector<float>& lower) {
  Entries out;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    for (std::int64_t i = 0; i < p.latents; ++i) {
      const float dot = ReferenceDot(p.d, p.w.data() + i * p.d, p.x.data() + t * p.d);
      const float z = ReferenceZ(p.scale, dot, p.c[At(i)]);
      if (z > -HUGE_VALF && z > (lower.empty() ? 0.0F : lower[At(i)])) out.emplace_back(t, i, z);
    }
  }
  return out;
}

struct HostSlots {
  std::int64_t capacity;
  std::vector<float> values, lower_ends;
  std::vector<std::int32_t> ids, counts;
  std::int32_t overflow = 0;

  HostSlots(std::int64_t tokens, std::int64_t room)
      : capacity(room),
        values(At(tokens * room), 9.0F),
        lower_ends(values),
        ids(At(tokens * room), 9),
        counts(At(tokens), 0) {}
  device::Slots View() {
    return {values.data(), ids.data(), counts.data(), std::ssize(counts), capacity, &overflow};
  }
  device::Slots Upload(DeviceTest& t) const {
    return {t.Upload(values, "slot values"),
            t.Upload(ids, "slot ids"),
            t.Upload(counts, "slot counts"),
            std::ssize(counts),
            capacity,
            t.Upload(std::vector<std::int32_t>{overflow}, "overflow")};
  }
};

void ExpectSame(DeviceTest& t, const device::Slots& got, const HostSlots& slots) {
  EXPECT_EQ(t.Download(got.counts, slots.counts.size()), slots.counts);
  EXPECT_EQ(t.Download(got.ids, slots.ids.size()), slots.ids);
  EXPECT_EQ(t.Download(got.values, slots.values.size()), slots.values);
  EXPECT_EQ(t.Download(got.overflow, 1)[0], slots.overflow);
}

Entries Download(DeviceTest& t, const device::Slots& slots) {
  Entries out;
  const std::vector<std::int32_t> counts = t.Download(slots.counts, At(slots.tokens));
  for (std::int64_t token = 0; token < slots.tokens; ++token) {
    const std::size_t count = At(counts[At(token)]);
    const std::vector<float> values = t.Download(slots.values + token * slots.capacity, count);
    const std::vector<std::int32_t> ids = t.Download(slots.ids + token * slots.capacity, count);
    for (std::size_t i = 0; i < count; ++i) out.emplace_back(token, ids[i], values[i]);
  }
  return out;
}

std::vector<float> Lower(const CertifiedProblem& p) {
  std::vector<float> lower;
  for (std::int64_t i = 0; i < p.latents; ++i) lower.push_back(0.4F * static_cast<float>(i % 4));
  return lower;
}

device::EncodeParams Upload(DeviceTest& t, const CertifiedProblem& p,
                            const device::EncodeSchedule& schedule, std::int64_t capacity) {
  const SplitRows rows(p.w);
  device::EncodeParams params;
  params.w = {t.Upload(rows.hi, "hi"), p.has_lo ? t.Upload(rows.lo, "lo") : nullptr};
  params.c = t.Upload(p.c, "c");
  params.latents = p.latents;
  params.d = p.d;
  params.x = t.Upload(p.x, "x");
  std::vector<std::uint16_t> x_bf16;
  for (const float v : p.x) x_bf16.push_back(FloatToBf16(v));
  params.x_bf16 = t.Upload(x_bf16, "x_bf16");
  params.tokens = p.tokens;
  params.scale = p.scale;
  params.finite = t.Upload(std::vector<std::int32_t>{1}, "finite");
  params.schedule = schedule;
  params.scratch = t.Allocate<char>(At(CertifiedSlotsScratchBytes(params, capacity)), "scratch");
  return params;
}

void AboveMatches(DeviceTest& t, const CertifiedProblem& p, bool given) {
  const std::vector<float> lower = given ? Lower(p) : std::vector<float>();
  const device::EncodeParams params = Upload(t, p, {2, 64, 16}, p.latents);
  const device::Slots slots = HostSlots(p.tokens, p.latents).Upload(t);
  t.Check(EncodeCertifiedAbove(t.library(), params, given ? t.Upload(lower, "lower") : nullptr,
                               slots, nullptr, t.stream()));
  EXPECT_EQ(Download(t, slots), AllAbove(p, lower)) << p.name;
  EXPECT_EQ(t.Download(slots.overflow, 1)[0], 0);
  EXPECT_EQ(t.Download(params.finite, 1)[0] == 0, p.name.starts_with("NaN")) << p.name;
}

void LargestMatches(DeviceTest& t, const CertifiedProblem& p, std::int64_t wanted) {
  const device::EncodeParams params = Upload(t, p, {2, 64, 8}, p.latents);
  device::LargestParams largest;
  largest.wanted = wanted;
  largest.slots = HostSlots(p.tokens, p.latents).Upload(t);
  largest.cut = t.Allocate<device::BatchCut>(1, "cut");
  largest.histogram = t.Allocate<std::int64_t>(At(device::kRadixBins), "histogram");
  largest.floor = t.Allocate<float>(1, "floor");
  device::CertifiedStats* stats = t.Upload(std::vector<device::CertifiedStats>(1), "stats");
  t.Check(EncodeCertifiedLargest(t.library(), params, largest, stats, t.stream()));
  Entries expected = AllAbove(p, {});
  if (std::ssize(expected) > wanted) {
    std::vector<float> values;
    for (const auto& e : expected) values.push_back(std::get<2>(e));
    std::sort(values.begin(), values.end(), [](float a, float b) { return a > b; });
    const float cut = values[At(wanted - 1)];
    std::erase_if(expected, [&](const auto& e) { return std::get<2>(e) < cut; });
  }
  EXPECT_EQ(Download(t, largest.slots), expected) << p.name << " " << wanted;
  if (p.name == "random" && wanted == 24) {  // few are computed again
    const device::CertifiedStats did = t.Download(stats, 1)[0];
    EXPECT_EQ(did.whole, 0);
    EXPECT_LT(did.candidates, 3 * wanted);
  }
}

/// Both kernels over the whole row at once, with less room than there are candidates, or enough.
void KernelsMatch(DeviceTest& t, const CertifiedProblem& p, std::int64_t capacity, bool given) {
  const device::EncodeParams params = Upload(t, p, {}, 1);
  const SplitRows rows(p.w);
  const device::WeightRows w = {rows.hi.data(), p.has_lo ? rows.lo.data() : nullptr};
  std::vector<float> bounds[6], products;
  float* b[6];
  for (int i = 0; i < 6; ++i) {
    bounds[i].resize(At(i < 3 ? p.latents : p.tokens));
  }
  plain::BoundLatents(
      {w, p.c.data(), p.latents, p.d, {bounds[0].data(), bounds[1].data(), bounds[2].data()}});
  plain::BoundTokens(
      {p.x.data(), p.tokens, p.d, p.scale, {bounds[3].data(), bounds[4].data(), bounds[5].data()}});
  for (int i = 0; i < 6; ++i) b[i] = t.Upload(bounds[i], "bounds");
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    for (std::int64_t i = 0; i < p.latents; ++i) {
      products.push_back(ReferenceDot(p.d, p.w.data() + i * p.d, p.x.data() + token * p.d) *
                         (1 + 0x1p-9F));
    }
  }
  const std::vector<float> lower = Lower(p);
  const std::vector<float> floor = {0.3F};
  const float* device_lower = given ? t.Upload(lower, "lower") : nullptr;
  const float* device_floor = t.Upload(floor, "floor");
  HostSlots slots(p.tokens, capacity);
  const device::Slots on_device = slots.Upload(t);
  float* lower_ends = t.Upload(slots.lower_ends, "lower ends");
  std::int32_t finite = 1;
  device::ScreenAboveParams host;
  host.chunk = {products.data(), p.latents, p.tokens, p.latents, p.c.data(),
                p.scale,         0,         nullptr,  &finite};
  host.latents = {bounds[0].data(), bounds[1].data(), bounds[2].data()};
  host.tokens = {bounds[3].data(), bounds[4].data(), bounds[5].data()};
  host.lower = given ? lower.data() : nullptr;
  host.floor = floor.data();
  host.out = slots.View();
  host.lower_ends = slots.lower_ends.data();
  plain::ScreenAbove(host);
  device::ScreenAboveParams s = host;
  s.chunk.products = t.Upload(products, "products");
  s.chunk.c = params.c;
  s.chunk.finite = params.finite;
  s.latents = {b[0], b[1], b[2]};
  s.tokens = {b[3], b[4], b[5]};
  s.lower = device_lower;
  s.floor = device_floor;
  s.out = on_device;
  s.lower_ends = lower_ends;
  t.Check(cuda::ScreenAbove(s, t.stream()));
  ExpectSame(t, on_device, slots);
  EXPECT_EQ(t.Download(lower_ends, slots.lower_ends.size()), slots.lower_ends);
  device::CertifiedStats stats = {};
  auto* device_stats = t.Upload(std::vector<device::CertifiedStats>(1), "stats");
  plain::RescoreAbove({w, p.c.data(), p.latents, p.d, p.x.data(), p.scale, host.lower, host.floor,
                       slots.View(), &finite, &stats});
  t.Check(cuda::RescoreAbove({params.w, params.c, p.latents, p.d, params.x, p.scale, device_lower,
                              device_floor, on_device, params.finite, device_stats},
                             t.stream()));
  ExpectSame(t, on_device, slots);
  EXPECT_EQ(t.Download(params.finite, 1)[0], finite) << p.name;
  const device::CertifiedStats got = t.Download(device_stats, 1)[0];
  EXPECT_EQ(got.candidates, stats.candidates);
  EXPECT_EQ(got.whole, stats.whole);
}

TEST(DeviceCertifiedAbove, SelectsWhatAllPreActivationsSelect) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    for (const bool given : {false, true})
      RunDeviceTest([&](DeviceTest& t) { AboveMatches(t, p, given); });
  }
}

TEST(DeviceCertifiedAbove, LargestHoldsTheFirstOfTheBatch) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    RunDeviceTest([&](DeviceTest& t) { LargestMatches(t, p, p.k * p.tokens); });
  }
}

TEST(DeviceCertifiedAbove, LargestIsAllThatIsPositiveWhereThatIsLess) {
  const CertifiedProblem p = testing::RandomProblem("few", 2, 100, 6, 3);
  RunDeviceTest([&](DeviceTest& t) { LargestMatches(t, p, 100000); });
}

TEST(DeviceCertifiedAbove, KernelsMatchTheirPartners) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    RunDeviceTest([&](DeviceTest& t) { KernelsMatch(t, p, p.latents / 7 + 1, true); });
    RunDeviceTest([&](DeviceTest& t) { KernelsMatch(t, p, p.latents, false); });
  }
}

TEST(DeviceCertifiedAbove, EveryBarrierIsNeeded) {
  sae::testing::ExpectBarriersNeeded([](DeviceTest& t) {
    CertifiedProblem p = testing::RandomProblem("one screened, one not", 2, 300, 3, 9);
    p.x[0] = 1e16F;
    KernelsMatch(t, p, 300, true);
  });
}

TEST(DeviceCertifiedAbove, RefuseSizesOutOfRange) {
  device::ScreenAboveParams screen;
  screen.chunk.tokens = 1;
  EXPECT_EQ(cuda::ScreenAbove(screen, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::RescoreAbove({}, nullptr), Error::kInvalidArgument);
}

}  // namespace
}  // namespace sae::kernels
