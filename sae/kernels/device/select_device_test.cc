// Selection kernels against their plain partners.
#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/select_test_data.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::SelectCase;
using testing::SelectData;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Each token's state as a set: sorted by id, -0 as +0.
using State = std::vector<std::vector<std::pair<std::int32_t, float>>>;

State StateOf(const SelectCase& s, const std::vector<float>& values,
              const std::vector<std::int32_t>& ids, const std::vector<std::int32_t>& counts) {
  State state(At(s.tokens));
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t i = 0; i < counts[At(t)]; ++i)
      state[At(t)].emplace_back(ids[At(t * s.k + i)], values[At(t * s.k + i)] + 0.0F);
    std::sort(state[At(t)].begin(), state[At(t)].end());
  }
  return state;
}

void TopKMatches(DeviceTest& t, const SelectCase& s) {
  const SelectData data(s);
  std::vector<float> values(At(s.tokens * s.k));
  std::vector<std::int32_t> ids(values.size());
  std::vector<std::int32_t> counts(At(s.tokens), 0);
  std::int32_t finite = 1;
  const float* products = t.Upload(data.products, "products");
  const float* c = t.Upload(data.c, "c");
  const std::int32_t* names = t.Upload(data.ids, "ids");
  auto* device_finite = t.Upload(std::vector<std::int32_t>{1}, "finite");
  device::TopKUpdateParams p;
  p.k = s.k;
  p.values = t.Allocate<float>(values.size(), "state values");
  p.ids = t.Allocate<std::int32_t>(ids.size(), "state ids");
  p.counts = t.Upload(counts, "state counts");
  for (const std::int64_t first : Starts(s)) {
    p.chunk = ChunkAt(s, products, c, names, device_finite, first);
    t.Check(cuda::TopKUpdate(p, t.stream()));
    device::TopKUpdateParams host;
    host.k = s.k;
    host.chunk = ChunkAt(s, data.products.data(), data.c.data(), data.ids.data(), &finite, first);
    host.values = values.data();
    host.ids = ids.data();
    host.counts = counts.data();
    plain::TopKUpdate(host);
  }
  const std::vector<std::int32_t> got = t.Download(p.counts, counts.size());
  ASSERT_EQ(got, counts) << s.name;
  EXPECT_EQ(t.Download(device_finite, 1)[0], finite) << s.name;
  std::vector<float> got_values(values.size());
  std::vector<std::int32_t> got_ids(ids.size());
  for (std::int64_t token = 0; token < s.tokens; ++token) {  // only what was written
    const std::size_t count = At(got[At(token)]);
    const auto own = t.Download(p.values + token * s.k, count);
    const auto own_ids = t.Download(p.ids + token * s.k, count);
    std::copy(own.begin(), own.end(), got_values.begin() + token * s.k);
    std::copy(own_ids.begin(), own_ids.end(), got_ids.begin() + token * s.k);
  }
  EXPECT_EQ(StateOf(s, got_values, got_ids, got), StateOf(s, values, ids, counts)) << s.name;
}

void AppendMatches(DeviceTest& t, const SelectCase& s, int kind, std::int64_t capacity) {
  const SelectData data(s);
  std::vector<float> lower(At(LatentsOf(s)));
  for (std::size_t i = 0; i < lower.size(); ++i) lower[i] = 0.25F * static_cast<float>(i % 5);
  const std::vector<float> floor = {0.5F};
  std::vector<float> values(At(s.tokens * capacity));
  std::vector<std::int32_t> ids(values.size());
  std::vector<std::int32_t> counts(At(s.tokens), 0);
  std::int32_t finite = 1;
  std::int32_t overflow = 0;
  const float* products = t.Upload(data.products, "products");
  const float* c = t.Upload(data.c, "c");
  const std::int32_t* names = t.Upload(data.ids, "ids");
  auto* device_finite = t.Upload(std::vector<std::int32_t>{1}, "finite");
  device::AppendAboveParams p;
  if (kind == 1) p.floor = t.Upload(floor, "floor");
  if (kind == 2) p.lower = t.Upload(lower, "lower");
  p.out = {t.Upload(values, "values"),
           t.Upload(ids, "slot ids"),
           t.Upload(counts, "counts"),
           s.tokens,
           capacity,
           t.Upload(std::vector<std::int32_t>{0}, "overflow")};
  for (const std::int64_t first : Starts(s)) {
    p.chunk = ChunkAt(s, products, c, names, device_finite, first);
    t.Check(cuda::AppendAbove(p, t.stream()));
    device::AppendAboveParams host;
    if (kind == 1) host.floor = floor.data();
    if (kind == 2) host.lower = lower.data();
    host.chunk = ChunkAt(s, data.products.data(), data.c.data(), data.ids.data(), &finite, first);
    host.out = {values.data(), ids.data(), counts.data(), s.tokens, capacity, &overflow};
    plain::AppendAbove(host);
  }
  EXPECT_EQ(t.Download(p.out.counts, counts.size()), counts) << s.name;
  EXPECT_EQ(t.Download(p.out.values, values.size()), values) << s.name;
  EXPECT_EQ(t.Download(p.out.ids, ids.size()), ids) << s.name;
  EXPECT_EQ(t.Download(p.out.overflow, 1)[0], overflow) << s.name;
  EXPECT_EQ(t.Download(device_finite, 1)[0], finite) << s.name;
}

/// States of several ranks through the whole exchange, each stage held against its partner.
struct Exchange {
  std::int64_t ranks, tokens, k, width;
  int range;  ///< of the values
  bool positive_only;
  std::int64_t capacity;
};

void ExchangeMatches(DeviceTest& t, const Exchange& s) {
  Random random(static_cast<std::uint64_t>(s.ranks * 1000 + s.k));
  const auto offers = At(s.ranks * s.tokens * s.width);
  const auto seconds = At(s.ranks * s.capacity * s.k);
  std::vector<float> offered(offers), second(seconds);
  std::vector<std::int64_t> second_ids(seconds);
  float* device_offered = t.Allocate<float>(offers, "offered");
  float* device_second = t.Allocate<float>(seconds, "second");
  std::int64_t* device_second_ids = t.Allocate<std::int64_t>(seconds, "second ids");
  struct Rank {
    std::vector<float> values;
    std::vector<std::int32_t> ids, counts;
    float* device_values;
    std::int32_t *device_ids, *device_counts;
  };
  std::vector<std::int32_t> global_ids;  // of a rank's latents; rank r adds nothing: all distinct
  std::vector<Rank> ranks(At(s.ranks));
  for (Rank& rank : ranks) {
    for (std::int64_t token = 0; token < s.tokens; ++token) {
      rank.counts.push_back(static_cast<std::int32_t>(random.Below(At(s.k) + 1)));
      if (token % 3 == 0) rank.counts.back() = static_cast<std::int32_t>(s.k);
      for (std::int64_t i = 0; i < s.k; ++i) {
        rank.values.push_back(static_cast<float>(
            static_cast<int>(random.Below(static_cast<std::uint64_t>(s.range))) - s.range / 4));
        rank.ids.push_back(static_cast<std::int32_t>((i * 7 + token) % (8 * s.k + 7)));
      }
    }
    rank.device_values = t.Upload(rank.values, "values");
    rank.device_ids = t.Upload(rank.ids, "ids");
    rank.device_counts = t.Upload(rank.counts, "counts");
  }
  for (std::int64_t i = 0; i < 8 * s.k + 7; ++i)
    global_ids.push_back(static_cast<std::int32_t>(2 * i + 1));
  const std::int32_t* device_global_ids = t.Upload(global_ids, "global ids");
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const Rank& rank = ranks[At(r)];
    plain::Offer({rank.values.data(), rank.ids.data(), rank.counts.data(), s.tokens, s.k, s.width,
                  s.positive_only, offered.data() + r * s.tokens * s.width});
    t.Check(cuda::Offer({rank.device_values, rank.device_ids, rank.device_counts, s.tokens, s.k,
                         s.width, s.positive_only, device_offered + r * s.tokens * s.width},
                        t.stream()));
  }
  EXPECT_EQ(t.Download(device_offered, offers), offered);
  std::vector<float> cuts(At(s.tokens));
  std::vector<std::int64_t> cut_ids(At(s.tokens));
  std::vector<std::int32_t> tokens_unsafe(At(s.capacity), -5);
  std::vector<std::int32_t> count(1), overflow(1, 0);
  float* device_cuts = t.Allocate<float>(cuts.size(), "cuts");
  std::int64_t* device_cut_ids = t.Allocate<std::int64_t>(cuts.size(), "cut ids");
  std::int32_t* device_unsafe = t.Upload(tokens_unsafe, "unsafe");
  std::int32_t* device_count = t.Allocate<std::int32_t>(1, "unsafe count");
  std::int32_t* device_overflow = t.Upload(overflow, "overflow");
  plain::GlobalCut({offered.data(), s.ranks, s.tokens, s.width, s.k, cuts.data(), cut_ids.data(),
                    tokens_unsafe.data(), count.data(), s.capacity, overflow.data()});
  t.Check(
      cuda::GlobalCut({device_offered, s.ranks, s.tokens, s.width, s.k, device_cuts, device_cut_ids,
                       device_unsafe, device_count, s.capacity, device_overflow},
                      t.stream()));
  EXPECT_EQ(t.Download(device_cuts, cuts.size()), cuts);
  EXPECT_EQ(t.Download(device_cut_ids, cuts.size()), cut_ids);
  EXPECT_EQ(t.Download(device_unsafe, tokens_unsafe.size()), tokens_unsafe);
  EXPECT_EQ(t.Download(device_count, 1), count);
  EXPECT_EQ(t.Download(device_overflow, 1), overflow);
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const Rank& rank = ranks[At(r)];
    const std::int64_t at = r * s.capacity * s.k;
    const bool named = r % 2 == 0;
    plain::SecondOffer({rank.values.data(), rank.ids.data(), rank.counts.data(), s.k,
                        tokens_unsafe.data(), count.data(), s.capacity,
                        named ? global_ids.data() : nullptr, 1000 * r, second.data() + at,
                        second_ids.data() + at});
    t.Check(cuda::SecondOffer(
        {rank.device_values, rank.device_ids, rank.device_counts, s.k, device_unsafe, device_count,
         s.capacity, named ? device_global_ids : nullptr, 1000 * r, device_second + at,
         device_second_ids + at},
        t.stream()));
  }
  EXPECT_EQ(t.Download(device_second, seconds), second);
  EXPECT_EQ(t.Download(device_second_ids, seconds), second_ids);
  plain::SecondCut({second.data(), second_ids.data(), s.ranks, s.capacity, s.k,
                    tokens_unsafe.data(), count.data(), cuts.data(), cut_ids.data()});
  t.Check(cuda::SecondCut({device_second, device_second_ids, s.ranks, s.capacity, s.k,
                           device_unsafe, device_count, device_cuts, device_cut_ids},
                          t.stream()));
  EXPECT_EQ(t.Download(device_cuts, cuts.size()), cuts);
  EXPECT_EQ(t.Download(device_cut_ids, cuts.size()), cut_ids);
  // The cut of fewer entries than an offer holds.
  const std::int64_t narrow = s.k - s.k / 2;
  plain::SecondCut({second.data(), second_ids.data(), s.ranks, s.capacity, narrow,
                    tokens_unsafe.data(), count.data(), cuts.data(), cut_ids.data(), s.k});
  t.Check(cuda::SecondCut({device_second, device_second_ids, s.ranks, s.capacity, narrow,
                           device_unsafe, device_count, device_cuts, device_cut_ids, s.k},
                          t.stream()));
  EXPECT_EQ(t.Download(device_cuts, cuts.size()), cuts);
  EXPECT_EQ(t.Download(device_cut_ids, cuts.size()), cut_ids);
  const Rank& rank = ranks[0];
  for (const bool whole : {false, true}) {
    const std::int64_t capacity = s.k - s.k / 4;
    std::vector<float> won(At(s.tokens * capacity), 7.0F);
    std::vector<std::int32_t> won_ids(won.size(), 7), won_counts(At(s.tokens)), over(1, 0);
    float* device_won = t.Upload(won, "won");
    std::int32_t* device_won_ids = t.Upload(won_ids, "won ids");
    std::int32_t* device_won_counts = t.Allocate<std::int32_t>(won_counts.size(), "won counts");
    std::int32_t* device_over = t.Upload(over, "over");
    plain::Winners(
        {rank.values.data(),
         rank.ids.data(),
         rank.counts.data(),
         s.k,
         s.positive_only,
         whole ? nullptr : cuts.data(),
         cut_ids.data(),
         global_ids.data(),
         0,
         {won.data(), won_ids.data(), won_counts.data(), s.tokens, capacity, over.data()}});
    t.Check(cuda::Winners(
        {rank.device_values,
         rank.device_ids,
         rank.device_counts,
         s.k,
         s.positive_only,
         whole ? nullptr : device_cuts,
         device_cut_ids,
         device_global_ids,
         0,
         {device_won, device_won_ids, device_won_counts, s.tokens, capacity, device_over}},
        t.stream()));
    EXPECT_EQ(t.Download(device_won, won.size()), won);
    EXPECT_EQ(t.Download(device_won_ids, won.size()), won_ids);
    EXPECT_EQ(t.Download(device_won_counts, won_counts.size()), won_counts);
    EXPECT_EQ(t.Download(device_over, 1), over);
  }
}

const Exchange kExchanges[] = {{4, 9, 6, 3, 400, true, 9},
                               {3, 7, 5, 2, 3, true, 4},
                               {8, 5, 33, 9, 100, false, 5},
                               {1, 3, 1, 1, 2, true, 3},
                               {2, 4, 300, 40, 50, true, 2}};

TEST(SelectKernels, TopKUpdateMatchesItsPartner) {
  for (const SelectCase& s : testing::SelectCases())
    RunDeviceTest([&](DeviceTest& t) { TopKMatches(t, s); });
}

TEST(SelectKernels, AppendAboveMatchesItsPartner) {
  for (SelectCase s : testing::SelectCases()) {
    s.reverse = false;
    for (const int kind : {0, 1, 2}) {
      RunDeviceTest([&](DeviceTest& t) { AppendMatches(t, s, kind, s.columns / (kind + 1) + 1); });
    }
  }
}

TEST(SelectKernels, ExchangeMatchesItsPartners) {
  for (const Exchange& s : kExchanges) RunDeviceTest([&](DeviceTest& t) { ExchangeMatches(t, s); });
}

TEST(SelectKernels, EveryBarrierIsNeeded) {
  sae::testing::ExpectBarriersNeeded([](DeviceTest& t) {
    TopKMatches(t, {"radix", 1, 2600, 2600, 600});
    TopKMatches(t, {"rank", 1, 300, 300, 9});
    TopKMatches(t, {"sweep", 1, 1400, 1400, 9});
    TopKMatches(t, {"full", 1, 1400, 400, 9});
    TopKMatches(t, {"full, too many", 1, 1200, 600, 9, testing::Fill::kRising});
    AppendMatches(t, {"append", 1, 600, 600, 1}, 0, 600);
    ExchangeMatches(t, kExchanges[1]);
  });
}

TEST(SelectKernels, RefuseSizesOutOfRange) {
  device::TopKUpdateParams top;
  top.k = device::kMaxTopK + 1;
  EXPECT_EQ(cuda::TopKUpdate(top, nullptr), Error::kInvalidArgument);
  device::OfferParams offer;
  offer.k = 3;
  offer.width = 4;
  EXPECT_EQ(cuda::Offer(offer, nullptr), Error::kInvalidArgument);
  device::AppendAboveParams append;
  append.chunk.tokens = 2;
  EXPECT_EQ(cuda::AppendAbove(append, nullptr), Error::kInvalidArgument);
  device::WinnersParams winners;
  winners.out.tokens = -1;
  EXPECT_EQ(cuda::Winners(winners, nullptr), Error::kInvalidArgument);
  device::GlobalCutParams cut;
  cut.ranks = 0;
  EXPECT_EQ(cuda::GlobalCut(cut, nullptr), Error::kInvalidArgument);
}

}  // namespace
}  // namespace sae::kernels
