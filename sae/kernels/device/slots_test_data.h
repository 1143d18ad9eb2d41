#pragma once
// Slots of several ranks for the tests of codes and of BatchTopK's cut.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include "sae/base/random.h"
#include "sae/kernels/device/slots.h"

namespace sae::kernels::testing {

struct CutCase {
  std::int64_t tokens = 1, latents = 1;  ///< latents: of each rank
  std::int64_t wanted = 1;
  int range = 1;  ///< values are integers in (-range / 4, range), or normal where it is 0
  std::int64_t ranks = 1;
};

inline std::vector<CutCase> CutCases() {
  return {{37, 11, 50, 6, 1}, {20, 9, 31, 3, 3},  {5, 40, 100, 0, 2}, {16, 5, 40, 1, 4},
          {3, 7, 1000, 5, 2}, {1, 1, 1, 9, 1},    {70, 6, 1, 0, 2},   {33, 8, 60, 2, 2},
          {9, 30, 64, 0, 1},  {12, 4, 48, 100, 1}};
}

struct HostSlots {
  std::int64_t tokens = 0, capacity = 0;
  std::vector<float> values;
  std::vector<std::int32_t> ids, counts;
  std::int32_t overflow = 0;
  device::Slots View() {
    return {values.data(), ids.data(), counts.data(), tokens, capacity, &overflow};
  }
};

/// Some of a rank's latents in each token, ids ascending; behind a token's last entry there is NaN.
inline HostSlots RandomSlots(const CutCase& s, std::int64_t rank) {
  Random random(static_cast<std::uint64_t>(100 * rank + s.tokens + s.wanted));
  HostSlots out;
  out.tokens = s.tokens;
  out.capacity = s.latents + 1;
  out.values.assign(static_cast<std::size_t>(s.tokens * out.capacity), std::nanf(""));
  out.ids.assign(out.values.size(), -1);
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    std::int32_t count = 0;
    for (std::int64_t i = 0; i < s.latents; ++i) {
      if (t % 5 == 4 || random.Uniform() < 0.3) continue;
      const auto at = static_cast<std::size_t>(t * out.capacity + count++);
      const auto range = static_cast<std::uint64_t>(s.range + s.range / 4);
      out.values[at] = s.range == 0 ? static_cast<float>(random.Normal())
                                    : static_cast<float>(random.Below(range)) + 1 -
                                          static_cast<float>(s.range / 4);
      out.ids[at] = static_cast<std::int32_t>(i);
    }
    out.counts.push_back(count);
  }
  return out;
}

/// (token, global id, value)
using BatchEntry = std::tuple<std::int64_t, std::int64_t, float>;

inline std::vector<BatchEntry> EntriesOf(const CutCase& s, const std::vector<HostSlots>& slots) {
  std::vector<BatchEntry> all;
  for (std::int64_t r = 0; r < s.ranks; ++r) {
    const HostSlots& own = slots[static_cast<std::size_t>(r)];
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      for (std::int64_t i = 0; i < own.counts[static_cast<std::size_t>(t)]; ++i) {
        const auto at = static_cast<std::size_t>(t * own.capacity + i);
        all.emplace_back(t, own.ids[at] + r * s.latents, own.values[at]);
      }
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// The `wanted` first positive entries: larger value, then lower token, then lower id.
inline std::vector<BatchEntry> FirstOfBatch(const CutCase& s, const std::vector<HostSlots>& slots) {
  std::vector<BatchEntry> all = EntriesOf(s, slots);
  std::erase_if(all, [](const BatchEntry& e) { return !(std::get<2>(e) > 0); });
  std::stable_sort(all.begin(), all.end(), [](const BatchEntry& a, const BatchEntry& b) {
    return std::get<2>(a) > std::get<2>(b);
  });
  if (all.size() > static_cast<std::size_t>(s.wanted))
    all.resize(static_cast<std::size_t>(s.wanted));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace sae::kernels::testing
