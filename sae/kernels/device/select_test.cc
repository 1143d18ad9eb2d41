// The plain partners of selection against sorts of whole rows.
#include "sae/kernels/device/select.h"

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "sae/kernels/device/select_test_data.h"

namespace sae::kernels {
namespace {

using testing::SelectCase;
using testing::SelectData;

constexpr float kNone = -std::numeric_limits<float>::infinity();
using Entry = std::pair<float, std::int64_t>;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// All entries of a token, larger value first, then lower id.
std::vector<Entry> Order(const SelectCase& s, const SelectData& data, std::int64_t token) {
  std::vector<Entry> all;
  for (std::int64_t j = 0; j < s.columns; ++j) {
    const float z = std::fma(s.scale, data.products[At(token * s.columns + j)], data.c[At(j)]);
    if (z > kNone) all.emplace_back(z, s.ids ? data.ids[At(j)] : static_cast<std::int32_t>(j));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Entry& a, const Entry& b) { return a.first > b.first; });
  return all;
}

TEST(PlainSelect, TopKOfChunksIsThatOfTheRow) {
  for (const SelectCase& s : testing::SelectCases()) {
    const SelectData data(s);
    std::vector<float> values(At(s.tokens * s.k));
    std::vector<std::int32_t> ids(At(s.tokens * s.k));
    std::vector<std::int32_t> counts(At(s.tokens), 0);
    std::int32_t finite = 1;
    for (const std::int64_t first : Starts(s)) {
      device::TopKUpdateParams p;
      p.chunk = ChunkAt(s, data.products.data(), data.c.data(), data.ids.data(), &finite, first);
      p.k = s.k;
      p.values = values.data();
      p.ids = ids.data();
      p.counts = counts.data();
      plain::TopKUpdate(p);
    }
    EXPECT_EQ(finite, s.nan ? 0 : 1) << s.name;
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      const std::vector<Entry> all = Order(s, data, t);
      ASSERT_EQ(counts[At(t)], std::min<std::int64_t>(s.k, std::ssize(all))) << s.name;
      for (std::int64_t i = 0; i < counts[At(t)]; ++i) {
        ASSERT_EQ(values[At(t * s.k + i)], all[At(i)].first) << s.name;
        ASSERT_EQ(ids[At(t * s.k + i)], all[At(i)].second) << s.name;
      }
    }
  }
}

TEST(PlainSelect, AboveABoundInAscendingOrder) {
  for (SelectCase s : testing::SelectCases()) {
    s.reverse = false;
    const SelectData data(s);
    std::vector<float> lower(At(LatentsOf(s)));
    for (std::size_t i = 0; i < lower.size(); ++i) lower[i] = 0.25F * static_cast<float>(i % 5);
    const float floor = 0.5F;
    for (const int kind : {0, 1, 2}) {
      const std::int64_t capacity = s.columns / 2 + 1;
      std::vector<float> values(At(s.tokens * capacity));
      std::vector<std::int32_t> ids(At(s.tokens * capacity));
      std::vector<std::int32_t> counts(At(s.tokens), 0);
      std::int32_t finite = 1;
      std::int32_t overflow = 0;
      for (const std::int64_t first : Starts(s)) {
        device::AppendAboveParams p;
        p.chunk = ChunkAt(s, data.products.data(), data.c.data(), data.ids.data(), &finite, first);
        if (kind == 1) p.floor = &floor;
        if (kind == 2) p.lower = lower.data();
        p.out = {values.data(), ids.data(), counts.data(), s.tokens, capacity, &overflow};
        plain::AppendAbove(p);
      }
      EXPECT_EQ(finite, s.nan ? 0 : 1) << s.name;
      bool over = false;
      for (std::int64_t t = 0; t < s.tokens; ++t) {
        std::vector<Entry> all = Order(s, data, t);
        std::erase_if(all, [&](const Entry& e) {
          return e.first <= (kind == 0 ? 0 : kind == 1 ? floor : lower[At(e.second)]);
        });
        std::sort(all.begin(), all.end(),
                  [](const Entry& a, const Entry& b) { return a.second < b.second; });
        over = over || std::ssize(all) > capacity;
        ASSERT_EQ(counts[At(t)], std::min(capacity, std::ssize(all))) << s.name;
        for (std::int64_t i = 0; i < counts[At(t)]; ++i) {
          ASSERT_EQ(values[At(t * capacity + i)], all[At(i)].first) << s.name;
          ASSERT_EQ(ids[At(t * capacity + i)], all[At(i)].second) << s.name;
        }
      }
      EXPECT_EQ(overflow, over ? 1 : 0) << s.name;
    }
  }
}

/// A row of `ranks` x `latents` small integers, cut through the exchange and by one sort. `first`
/// of the k entries that a state holds win.
void ExchangeIsExact(std::int64_t ranks, std::int64_t latents, std::int64_t k, std::int64_t width,
                     int range, bool positive_only, std::int64_t first) {
  const std::int64_t tokens = 40;
  const std::int64_t capacity = tokens;
  Random random(static_cast<std::uint64_t>(ranks * 100 + k));
  std::vector<float> z(At(ranks * tokens * latents));
  for (float& v : z) {
    v = static_cast<float>(static_cast<int>(random.Below(static_cast<std::uint64_t>(range))) -
                           range / 3);
  }
  std::vector<float> state(z.size());
  std::vector<float> offered(At(ranks * tokens * width));
  std::vector<float> second(At(ranks * capacity * k));
  std::vector<std::int64_t> second_ids(second.size());
  std::vector<std::vector<float>> values(At(ranks), std::vector<float>(At(tokens * k)));
  std::vector<std::vector<std::int32_t>> ids(At(ranks), std::vector<std::int32_t>(At(tokens * k)));
  std::vector<std::vector<std::int32_t>> counts(At(ranks), std::vector<std::int32_t>(At(tokens)));
  const std::vector<float> c(At(latents), 0.0F);
  std::int32_t finite = 1;
  for (std::int64_t r = 0; r < ranks; ++r) {
    device::TopKUpdateParams p;
    p.chunk = {z.data() + r * tokens * latents,
               latents,
               tokens,
               latents,
               c.data(),
               1.0F,
               0,
               nullptr,
               &finite};
    p.k = k;
    p.values = values[At(r)].data();
    p.ids = ids[At(r)].data();
    p.counts = counts[At(r)].data();
    plain::TopKUpdate(p);
    plain::Offer({values[At(r)].data(), ids[At(r)].data(), counts[At(r)].data(), tokens, k, width,
                  positive_only, offered.data() + r * tokens * width});
  }
  std::vector<float> cut_values(At(tokens));
  std::vector<std::int64_t> cut_ids(At(tokens));
  std::vector<std::int32_t> tokens_unsafe(At(capacity));
  std::int32_t unsafe_count = 0;
  std::int32_t overflow = 0;
  plain::GlobalCut({offered.data(), ranks, tokens, width, first, cut_values.data(), cut_ids.data(),
                    tokens_unsafe.data(), &unsafe_count, capacity, &overflow});
  for (std::int64_t r = 0; r < ranks; ++r) {
    plain::SecondOffer({values[At(r)].data(), ids[At(r)].data(), counts[At(r)].data(), k,
                        tokens_unsafe.data(), &unsafe_count, capacity, nullptr, r * latents,
                        second.data() + r * capacity * k, second_ids.data() + r * capacity * k});
  }
  plain::SecondCut({second.data(), second_ids.data(), ranks, capacity, first, tokens_unsafe.data(),
                    &unsafe_count, cut_values.data(), cut_ids.data(), k});
  std::vector<std::vector<Entry>> found(At(tokens));
  for (std::int64_t r = 0; r < ranks; ++r) {
    std::vector<float> out(At(tokens * k));
    std::vector<std::int32_t> out_ids(At(tokens * k));
    std::vector<std::int32_t> out_counts(At(tokens));
    plain::Winners({values[At(r)].data(),
                    ids[At(r)].data(),
                    counts[At(r)].data(),
                    k,
                    positive_only,
                    cut_values.data(),
                    cut_ids.data(),
                    nullptr,
                    r * latents,
                    {out.data(), out_ids.data(), out_counts.data(), tokens, k, &overflow}});
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < out_counts[At(t)]; ++i)
        found[At(t)].emplace_back(out[At(t * k + i)], out_ids[At(t * k + i)] + r * latents);
    }
  }
  EXPECT_EQ(overflow, 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<Entry> all;
    for (std::int64_t i = 0; i < ranks * latents; ++i)
      all.emplace_back(z[At((i / latents * tokens + t) * latents + i % latents)], i);
    std::stable_sort(all.begin(), all.end(),
                     [](const Entry& a, const Entry& b) { return a.first > b.first; });
    all.resize(std::min(all.size(), At(first)));
    if (positive_only) std::erase_if(all, [](const Entry& e) { return e.first <= 0; });
    std::sort(all.begin(), all.end(),
              [](const Entry& a, const Entry& b) { return a.second < b.second; });
    EXPECT_EQ(found[At(t)], all) << "token " << t << " of " << ranks << " ranks, k = " << first;
  }
}

TEST(PlainSelect, ExchangeOfOffersIsExact) {
  ExchangeIsExact(4, 50, 8, 5, 1000, true, 8);  // few second rounds
  ExchangeIsExact(4, 50, 8, 3, 12, true, 8);    // many ties
  ExchangeIsExact(3, 40, 6, 1, 1, true, 6);     // all equal and not positive
  ExchangeIsExact(3, 40, 6, 2, 2, false, 6);    // two values
  ExchangeIsExact(8, 3, 20, 3, 50, true, 20);   // fewer positive ones than k
  ExchangeIsExact(8, 3, 30, 3, 50, false, 30);  // fewer latents than k
  ExchangeIsExact(1, 70, 9, 9, 100000, true, 9);
}

// Multi-TopK's fewer, of what was offered for all.
TEST(PlainSelect, TheFirstOfTheOffersAreExact) {
  ExchangeIsExact(1, 70, 16, 5, 100000, true, 4);  // no second round
  ExchangeIsExact(1, 70, 16, 5, 9, true, 4);       // many ties
  ExchangeIsExact(4, 50, 16, 7, 1000, true, 4);
  ExchangeIsExact(4, 50, 16, 3, 12, true, 4);
  ExchangeIsExact(8, 3, 24, 3, 50, true, 6);
}

}  // namespace
}  // namespace sae::kernels
