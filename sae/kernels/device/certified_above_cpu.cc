#include <cmath>
#include <limits>
#include <vector>

#include "sae/kernels/device/certified_above.h"
#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels::plain {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Params>
float BoundOf(const Params& p, std::int64_t i) {
  return p.lower != nullptr ? p.lower[i] : p.floor != nullptr ? *p.floor : 0.0F;
}

}  // namespace

void ScreenAbove(const device::ScreenAboveParams& p) {
  for (std::int64_t token = 0; token < p.chunk.tokens; ++token) {
    std::int32_t& count = p.out.counts[token];
    if (count >= 0 && !(p.tokens.of_norm[token] < kInfinity)) count = -1;
    for (std::int64_t j = 0; j < p.chunk.columns && count >= 0; ++j) {
      if (p.chunk.c[j] == -kInfinity) continue;
      const std::int64_t i = p.chunk.first_id + j;
      const float z =
          std::fma(p.chunk.scale, p.chunk.products[token * p.chunk.ld + j], p.chunk.c[j]);
      const float margin = std::fma(p.tokens.of_residual[token], p.latents.residual[i],
                                    std::fma(p.tokens.of_norm[token], p.latents.norm[i],
                                             p.latents.margin[i] + p.tokens.extra[token]));
      const bool screens = margin < kInfinity && !std::isnan(z);
      const float upper = screens ? z + margin : kInfinity;
      const float bound = BoundOf(p, i);
      if (std::isnan(bound)) *p.chunk.finite = 0;
      if (!(upper > bound)) continue;
      if (count == p.out.capacity) {
        *p.out.overflow = 1;
        continue;
      }
      const std::int64_t at = token * p.out.capacity + count++;
      p.out.values[at] = upper;
      p.out.ids[at] = static_cast<std::int32_t>(i);
      if (p.lower_ends != nullptr) p.lower_ends[at] = screens ? z - margin : -kInfinity;
    }
  }
}

void RescoreAbove(const device::RescoreAboveParams& p) {
  std::vector<float> row(static_cast<std::size_t>(p.d));
  for (std::int64_t token = 0; token < p.slots.tokens; ++token) {
    const std::int32_t count = p.slots.counts[token];
    std::int32_t kept = 0;
    const auto take = [&](std::int32_t id) {
      for (std::int64_t j = 0; j < p.d; ++j)
        row[static_cast<std::size_t>(j)] = Weight(p.w, id * p.d + j);
      const float z =
          ReferenceZ(p.scale, ReferenceDot(p.d, row.data(), p.x + token * p.d), p.c[id]);
      if (std::isnan(z)) *p.finite = 0;
      if (!(z > -kInfinity) || !(z > BoundOf(p, id))) return;
      if (kept == p.slots.capacity) {
        *p.slots.overflow = 1;
        return;
      }
      p.slots.values[token * p.slots.capacity + kept] = z;
      p.slots.ids[token * p.slots.capacity + kept++] = id;
    };
    for (std::int32_t i = 0; i < count; ++i) take(p.slots.ids[token * p.slots.capacity + i]);
    for (std::int32_t i = 0; count < 0 && i < p.latents; ++i) take(i);
    p.slots.counts[token] = kept;
    if (p.stats == nullptr) continue;
    p.stats->candidates += count < 0 ? 0 : count;
    p.stats->whole += count < 0 ? 1 : 0;
  }
}

}  // namespace sae::kernels::plain
