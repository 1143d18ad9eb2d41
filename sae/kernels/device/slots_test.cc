// The plain partners of codes and of BatchTopK's cut against sorts of the whole batch.
#include "sae/kernels/device/slots.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/slots_test_data.h"

namespace sae::kernels {
namespace {

using testing::CutCase;
using testing::HostSlots;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

TEST(PlainSlots, CodesHoldTheEntriesUpToTheCapacity) {
  const HostSlots source = testing::RandomSlots({37, 11, 9, 6, 1}, 0);
  std::int64_t entries = 0;
  for (const std::int32_t count : source.counts) entries += count;
  for (const std::int64_t capacity : {entries + 5, entries, entries - 7, std::int64_t{0}}) {
    HostSlots slots = source;
    std::vector<std::int32_t> indptr(38), ids(At(capacity)), rows(At(capacity)), scratch(1);
    std::vector<float> values(At(capacity));
    plain::SlotsToCodes({slots.View(),
                         {37, capacity, indptr.data(), ids.data(), rows.data(), values.data()},
                         scratch.data()});
    EXPECT_EQ(slots.overflow, capacity < entries ? 1 : 0);
    EXPECT_EQ(indptr[37], std::min(entries, capacity));
    std::int64_t at = 0;
    for (std::int64_t t = 0; t < 37; ++t) {
      EXPECT_EQ(indptr[At(t)], std::min(at, capacity));
      for (std::int64_t i = 0; i < source.counts[At(t)] && at < capacity; ++i, ++at) {
        EXPECT_EQ(values[At(at)], source.values[At(t * source.capacity + i)]);
        EXPECT_EQ(ids[At(at)], source.ids[At(t * source.capacity + i)]);
        EXPECT_EQ(rows[At(at)], t);
      }
      if (at == capacity) at = capacity;
    }
  }
}

TEST(PlainSlots, BatchCutKeepsTheFirstOfTheWholeBatch) {
  for (const CutCase& s : testing::CutCases()) {
    std::vector<HostSlots> slots;
    for (std::int64_t r = 0; r < s.ranks; ++r) slots.push_back(testing::RandomSlots(s, r));
    const std::vector<testing::BatchEntry> expected = testing::FirstOfBatch(s, slots);
    device::BatchCut cut = {};
    for (int round = 0; round < 3; ++round) {
      std::vector<std::int64_t> histogram(At(device::kRadixBins), 0);
      for (HostSlots& own : slots) plain::RadixHistogram({own.View(), &cut, histogram.data()});
      plain::RadixPick({histogram.data(), s.wanted, &cut});
    }
    EXPECT_EQ(cut.round, 3);
    const std::int64_t capacity = 256;
    std::vector<std::int64_t> keys(At(s.ranks * capacity));
    for (std::int64_t r = 0; r < s.ranks; ++r) {
      plain::TieKeys({slots[At(r)].View(), &cut, s.ranks * s.latents, nullptr, r * s.latents,
                      keys.data() + r * capacity, capacity, &slots[At(r)].overflow});
      EXPECT_EQ(slots[At(r)].overflow, 0);
    }
    plain::TieCut({keys.data(), s.ranks, capacity, &cut});
    float floor = -1;
    for (std::int64_t r = 0; r < s.ranks; ++r) {
      plain::KeepFromCut(
          {slots[At(r)].View(), &cut, s.ranks * s.latents, nullptr, r * s.latents, &floor});
    }
    EXPECT_EQ(testing::EntriesOf(s, slots), expected) << s.wanted << " of " << s.range;
    if (cut.value > 0) {
      EXPECT_LT(floor, cut.value);
      EXPECT_EQ(std::nextafter(floor, 1e30F), cut.value);
      EXPECT_EQ(std::ssize(expected), s.wanted);
    } else {
      EXPECT_EQ(floor, 0);
    }
  }
}

}  // namespace
}  // namespace sae::kernels
