#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "sae/kernels/device/select.h"

namespace sae::kernels::plain {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kKeepAll = std::numeric_limits<std::int64_t>::max();

}  // namespace

void GlobalCut(const device::GlobalCutParams& p) {
  std::vector<float> all;
  std::int64_t count = 0;
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    all.clear();
    for (std::int64_t r = 0; r < p.ranks; ++r) {
      const float* offered = p.offered + (r * p.tokens + token) * p.width;
      std::copy_if(offered, offered + p.width, std::back_inserter(all),
                   [](float v) { return v > kNegativeInfinity; });
    }
    std::sort(all.begin(), all.end(), [](float a, float b) { return a > b; });
    const auto k = static_cast<std::size_t>(p.k);
    const float cut = all.size() < k ? kNegativeInfinity : all[k - 1];
    bool is_unsafe = all.size() > k && all[k] == cut;
    for (std::int64_t r = 0; r < p.ranks; ++r) {
      const float least = p.offered[(r * p.tokens + token + 1) * p.width - 1];
      is_unsafe = is_unsafe || (least > kNegativeInfinity && least >= cut);
    }
    p.cut_values[token] = cut;
    p.cut_ids[token] = is_unsafe ? -1 : kKeepAll;
    if (!is_unsafe) continue;
    if (count == p.capacity) {
      *p.overflow = 1;
    } else {
      p.unsafe[count++] = static_cast<std::int32_t>(token);
    }
  }
  *p.unsafe_count = static_cast<std::int32_t>(count);
}

void SecondOffer(const device::SecondOfferParams& p) {
  std::fill_n(p.out_values, p.capacity * p.k, kNegativeInfinity);
  std::fill_n(p.out_ids, p.capacity * p.k, -1);
  for (std::int64_t row = 0; row < *p.unsafe_count; ++row) {
    const std::int64_t token = p.unsafe[row];
    for (std::int64_t i = 0; i < p.counts[token]; ++i) {
      const std::int32_t local = p.ids[token * p.k + i];
      p.out_values[row * p.k + i] = p.values[token * p.k + i];
      p.out_ids[row * p.k + i] =
          p.global_ids != nullptr ? p.global_ids[local] : p.first_global + local;
    }
  }
}

void SecondCut(const device::SecondCutParams& p) {
  std::vector<std::pair<float, std::int64_t>> all;
  const std::int64_t width = p.width == 0 ? p.k : p.width;
  for (std::int64_t row = 0; row < *p.unsafe_count; ++row) {
    all.clear();
    for (std::int64_t r = 0; r < p.ranks; ++r) {
      for (std::int64_t i = 0; i < width; ++i) {
        const std::int64_t at = (r * p.capacity + row) * width + i;
        if (p.ids[at] >= 0) all.emplace_back(-p.values[at], p.ids[at]);
      }
    }
    std::sort(all.begin(), all.end());
    const auto k = static_cast<std::size_t>(p.k);
    const std::int64_t token = p.unsafe[row];
    p.cut_values[token] = all.size() < k ? kNegativeInfinity : -all[k - 1].first;
    p.cut_ids[token] = all.size() < k ? kKeepAll : all[k - 1].second;
  }
}

}  // namespace sae::kernels::plain
