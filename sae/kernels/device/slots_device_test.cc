// Codes and BatchTopK's cut on the device against their plain partners.
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/bf16.h"
#include "sae/kernels/device/slots_test_data.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::CutCase;
using testing::HostSlots;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

device::Slots Upload(DeviceTest& t, const HostSlots& slots) {
  return {t.Upload(slots.values, "slot values"),
          t.Upload(slots.ids, "slot ids"),
          t.Upload(slots.counts, "slot counts"),
          slots.tokens,
          slots.capacity,
          t.Upload(std::vector<std::int32_t>{0}, "slot overflow")};
}

void ExpectSame(DeviceTest& t, const device::Slots& got, const HostSlots& slots) {
  EXPECT_EQ(t.Download(got.counts, slots.counts.size()), slots.counts);
  EXPECT_EQ(t.Download(got.ids, slots.ids.size()), slots.ids);
  const std::vector<float> values = t.Download(got.values, slots.values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(FloatBits(values[i]), FloatBits(slots.values[i])) << i;
  EXPECT_EQ(t.Download(got.overflow, 1)[0], slots.overflow);
}

void CodesMatch(DeviceTest& t, const CutCase& s, std::int64_t less) {
  HostSlots slots = testing::RandomSlots(s, 0);
  std::int64_t entries = 0;
  for (const std::int32_t count : slots.counts) entries += count;
  const std::int64_t capacity = entries > less ? entries - less : 0;
  std::vector<std::int32_t> indptr(At(s.tokens) + 1), ids(At(capacity)), rows(At(capacity)),
      scratch(At(device::SlotsToCodesScratch(s.tokens)));
  std::vector<float> values(At(capacity));
  const device::Slots on_device = Upload(t, slots);
  const device::DeviceCodes out = {s.tokens,
                                   capacity,
                                   t.Allocate<std::int32_t>(indptr.size(), "indptr"),
                                   t.Upload(ids, "ids"),
                                   t.Upload(rows, "rows"),
                                   t.Upload(values, "values")};
  t.Check(cuda::SlotsToCodes({on_device, out, t.Allocate<std::int32_t>(scratch.size(), "scratch")},
                             t.stream()));
  plain::SlotsToCodes({slots.View(),
                       {s.tokens, capacity, indptr.data(), ids.data(), rows.data(), values.data()},
                       scratch.data()});
  EXPECT_EQ(t.Download(out.indptr, indptr.size()), indptr);
  EXPECT_EQ(t.Download(out.ids, ids.size()), ids);
  EXPECT_EQ(t.Download(out.rows, ids.size()), rows);
  EXPECT_EQ(t.Download(out.values, ids.size()), values);
  EXPECT_EQ(t.Download(on_device.overflow, 1)[0], slots.overflow);
}

void CutMatches(DeviceTest& t, const CutCase& s, std::int64_t capacity) {
  const std::int64_t latents = s.ranks * s.latents;
  std::vector<HostSlots> slots;
  std::vector<device::Slots> on_device;
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    slots.push_back(testing::RandomSlots(s, r));
    on_device.push_back(Upload(t, slots.back()));
  }
  std::vector<std::int32_t> global_ids;  // of the last rank: as first_global would give
  for (std::int64_t i = 0; i < s.latents; ++i)
    global_ids.push_back(static_cast<std::int32_t>((s.ranks - 1) * s.latents + i));
  const std::int32_t* device_global_ids = t.Upload(global_ids, "global ids");
  device::BatchCut cut = {};
  auto* device_cut = t.Upload(std::vector<device::BatchCut>{cut}, "cut");
  for (int round = 0; round < 3; ++round) {
    std::vector<std::int64_t> histogram(At(device::kRadixBins), 0);
    std::int64_t* device_histogram = t.Upload(histogram, "histogram");
    for (std::int64_t r = 0; r < s.ranks; ++r) {
      plain::RadixHistogram({slots[At(r)].View(), &cut, histogram.data()});
      t.Check(cuda::RadixHistogram({on_device[At(r)], device_cut, device_histogram}, t.stream()));
    }
    EXPECT_EQ(t.Download(device_histogram, histogram.size()), histogram);
    plain::RadixPick({histogram.data(), s.wanted, &cut});
    t.Check(cuda::RadixPick({device_histogram, s.wanted, device_cut}, t.stream()));
  }
  std::vector<std::int64_t> keys(At(s.ranks * capacity));
  std::int64_t* device_keys = t.Allocate<std::int64_t>(keys.size(), "keys");
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const bool named = r == s.ranks - 1;
    plain::TieKeys({slots[At(r)].View(), &cut, latents, nullptr, r * s.latents,
                    keys.data() + r * capacity, capacity, &slots[At(r)].overflow});
    t.Check(cuda::TieKeys({on_device[At(r)], device_cut, latents,
                           named ? device_global_ids : nullptr, named ? -99 : r * s.latents,
                           device_keys + r * capacity, capacity, on_device[At(r)].overflow},
                          t.stream()));
  }
  EXPECT_EQ(t.Download(device_keys, keys.size()), keys);
  plain::TieCut({keys.data(), s.ranks, capacity, &cut});
  t.Check(cuda::TieCut({device_keys, s.ranks, capacity, device_cut}, t.stream()));
  const device::BatchCut got = t.Download(device_cut, 1)[0];
  EXPECT_EQ(got.round, cut.round);
  EXPECT_EQ(got.prefix, cut.prefix);
  EXPECT_EQ(got.found, cut.found);
  EXPECT_EQ(got.remaining, cut.remaining);
  EXPECT_EQ(got.ties, cut.ties);
  EXPECT_EQ(got.last_tie, cut.last_tie);
  EXPECT_EQ(got.value, cut.value);
  float floor = 0;
  float* device_floor = t.Allocate<float>(1, "floor");
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const bool named = r == s.ranks - 1;
    std::vector<float> companion(slots[At(r)].values.size());
    for (std::size_t i = 0; i < companion.size(); ++i) companion[i] = static_cast<float>(i);
    float* device_companion = named ? t.Upload(companion, "companion") : nullptr;
    plain::KeepFromCut({slots[At(r)].View(), &cut, latents, nullptr, r * s.latents, &floor,
                        named ? companion.data() : nullptr});
    t.Check(cuda::KeepFromCut(
        {on_device[At(r)], device_cut, latents, named ? device_global_ids : nullptr,
         named ? -99 : r * s.latents, device_floor, device_companion},
        t.stream()));
    ExpectSame(t, on_device[At(r)], slots[At(r)]);
    if (named) {
      EXPECT_EQ(t.Download(device_companion, companion.size()), companion);
    }
  }
  EXPECT_EQ(t.Download(device_floor, 1)[0], floor);
}

TEST(SlotKernels, CodesMatchTheirPartner) {
  for (const std::int64_t tokens : {1, 37, 1024, 2100}) {
    for (const std::int64_t less : {-9, 0, 5, 1000000}) {
      RunDeviceTest([&](DeviceTest& t) { CodesMatch(t, {tokens, 4, 5, 7, 1}, less); });
    }
  }
}

TEST(SlotKernels, BatchCutMatchesItsPartners) {
  for (const CutCase& s : testing::CutCases()) {
    RunDeviceTest([&](DeviceTest& t) { CutMatches(t, s, 256); });
  }
  RunDeviceTest([&](DeviceTest& t) { CutMatches(t, {16, 5, 40, 1, 4}, 7); });  // too many ties
}

TEST(SlotKernels, EveryBarrierIsNeeded) {
  sae::testing::ExpectBarriersNeeded(
      [](DeviceTest& t) {
        CodesMatch(t, {1500, 3, 5, 7, 1}, 0);
        CutMatches(t, {20, 9, 31, 3, 3}, 256);
      },
      {{"batch_cut_cuda.cu", 3,
        "orders memory on hardware; the lanes meet in the ballot just before"}});
}

TEST(SlotKernels, RefuseSizesOutOfRange) {
  device::SlotsToCodesParams codes;
  codes.slots.tokens = 1;
  EXPECT_EQ(cuda::SlotsToCodes(codes, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::RadixHistogram({}, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::RadixPick({}, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::TieKeys({}, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::TieCut({}, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::KeepFromCut({}, nullptr), Error::kInvalidArgument);
}

}  // namespace
}  // namespace sae::kernels
