#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "sae/kernels/device/bounds-inl.h"
#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels::plain {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Of exact(j), 0 <= j < d, in FoldBias' order.
template <class Exact>
double SumOfSquares(std::int64_t d, const Exact& exact) {
  double sums[32] = {};
  for (std::int64_t j = 0; j < d; ++j)
    sums[j / 4 % 32] = std::fma(exact(j), exact(j), sums[j / 4 % 32]);
  for (int half = 16; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

std::uint32_t Ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

struct Candidate {
  float lower, upper;
  std::int32_t id;
};

/// All columns whose upper end reaches the token's floor.
void Sift(const device::ScreenChunkParams& p, std::int64_t token, std::vector<Candidate>* list) {
  for (std::int64_t j = 0; j < p.chunk.columns; ++j) {
    if (p.chunk.c[j] == -kInfinity) continue;
    const std::int64_t i = p.chunk.first_id + j;
    const float z = std::fma(p.chunk.scale, p.chunk.products[token * p.chunk.ld + j], p.chunk.c[j]);
    const float margin = std::fma(p.tokens.of_residual[token], p.latents.residual[i],
                                  std::fma(p.tokens.of_norm[token], p.latents.norm[i],
                                           p.latents.margin[i] + p.tokens.extra[token]));
    Candidate one = {-kInfinity, kInfinity, static_cast<std::int32_t>(i)};
    if (margin < kInfinity && !std::isnan(z)) {
      one.lower = z - margin;
      one.upper = z + margin;
    }
    if (Ordered(one.upper) >= p.lists.floors[token]) list->push_back(one);
  }
}

void WriteState(const device::RescoreParams& p, std::int64_t token,
                std::vector<std::pair<float, std::int32_t>>* all) {
  std::sort(all->begin(), all->end(), [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  const std::int64_t count = std::min(p.k, static_cast<std::int64_t>(all->size()));
  for (std::int64_t i = 0; i < count; ++i) {
    p.values[token * p.k + i] = (*all)[static_cast<std::size_t>(i)].first;
    p.ids[token * p.k + i] = (*all)[static_cast<std::size_t>(i)].second;
  }
  p.counts[token] = static_cast<std::int32_t>(count);
}

}  // namespace

void BoundLatents(const device::LatentBoundsParams& p) {
  for (std::int64_t i = 0; i < p.latents; ++i) {
    const auto whole = [&](std::int64_t j) {
      return static_cast<double>(Weight(p.w, i * p.d + j));
    };
    const auto rest = [&](std::int64_t j) {
      return whole(j) - static_cast<double>(Bf16ToFloat(p.w.hi[i * p.d + j]));
    };
    device::LatentBound(SumOfSquares(p.d, whole), SumOfSquares(p.d, rest),
                        static_cast<double>(p.c[i]), p.out.norm + i, p.out.residual + i,
                        p.out.margin + i);
  }
}

void BoundTokens(const device::TokenBoundsParams& p) {
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const auto whole = [&](std::int64_t j) { return static_cast<double>(p.x[t * p.d + j]); };
    const auto rest = [&](std::int64_t j) {
      return whole(j) - static_cast<double>(Bf16ToFloat(FloatToBf16(p.x[t * p.d + j])));
    };
    device::TokenBound(SumOfSquares(p.d, whole), SumOfSquares(p.d, rest), p.d, p.scale,
                       p.out.of_residual + t, p.out.of_norm + t, p.out.extra + t);
  }
}

void ScreenChunk(const device::ScreenChunkParams& p) {
  for (std::int64_t token = 0; token < p.chunk.tokens; ++token) {
    const std::int64_t at = token * p.lists.limit;
    std::int32_t& count = p.lists.counts[token];
    if (count < 0) continue;
    if (!(p.tokens.of_norm[token] < kInfinity)) {
      count = -1;
      continue;
    }
    std::vector<Candidate> list;
    for (std::int64_t i = at; i < at + count; ++i)
      list.push_back({p.lists.lower[i], p.lists.upper[i], p.lists.ids[i]});
    Sift(p, token, &list);
    if (static_cast<std::int64_t>(list.size()) >= p.k) {
      std::vector<std::uint32_t> lower;
      for (const Candidate& c : list) lower.push_back(Ordered(c.lower));
      std::sort(lower.begin(), lower.end(), std::greater<>());
      p.lists.floors[token] =
          std::max(p.lists.floors[token], lower[static_cast<std::size_t>(p.k - 1)]);
    }
    std::erase_if(list,
                  [&](const Candidate& c) { return Ordered(c.upper) < p.lists.floors[token]; });
    count = -1;
    if (static_cast<std::int64_t>(list.size()) > p.lists.limit) continue;
    count = 0;
    for (const Candidate& c : list) {
      p.lists.lower[at + count] = c.lower;
      p.lists.upper[at + count] = c.upper;
      p.lists.ids[at + count++] = c.id;
    }
  }
}

void Rescore(const device::RescoreParams& p) {
  std::vector<float> row(static_cast<std::size_t>(p.d));
  std::vector<std::pair<float, std::int32_t>> all;
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    const std::int32_t count = p.lists.counts[token];
    all.clear();
    const auto add = [&](std::int32_t id) {
      for (std::int64_t j = 0; j < p.d; ++j)
        row[static_cast<std::size_t>(j)] = Weight(p.w, id * p.d + j);
      const float z =
          ReferenceZ(p.scale, ReferenceDot(p.d, row.data(), p.x + token * p.d), p.c[id]);
      if (std::isnan(z)) *p.finite = 0;
      if (z > -kInfinity) all.emplace_back(z, id);
    };
    if (count < 0) {
      for (std::int64_t i = 0; i < p.latents; ++i) add(static_cast<std::int32_t>(i));
    } else {
      for (std::int64_t i = 0; i < count; ++i) add(p.lists.ids[token * p.lists.limit + i]);
    }
    if (p.stats != nullptr) {
      p.stats->candidates += std::max(count, 0);
      p.stats->whole += count < 0 ? 1 : 0;
    }
    WriteState(p, token, &all);
  }
}

}  // namespace sae::kernels::plain
