#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "sae/kernels/device/select.h"

namespace sae::kernels::plain {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

using Entry = std::pair<float, std::int32_t>;

bool Before(const Entry& a, const Entry& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

float Value(const device::ChunkProducts& chunk, std::int64_t token, std::int64_t j) {
  return std::fma(chunk.scale, chunk.products[token * chunk.ld + j], chunk.c[j]);
}

std::int32_t IdOf(const device::ChunkProducts& chunk, std::int64_t j) {
  return chunk.ids != nullptr ? chunk.ids[j] : chunk.first_id + static_cast<std::int32_t>(j);
}

/// Writes at most the capacity.
void Fill(const std::vector<Entry>& entries, std::int64_t token, std::int64_t first,
          const device::Slots& out) {
  std::int64_t at = first;
  for (const Entry& entry : entries) {
    if (at == out.capacity) {
      *out.overflow = 1;
      break;
    }
    out.values[token * out.capacity + at] = entry.first;
    out.ids[token * out.capacity + at++] = entry.second;
  }
  out.counts[token] = static_cast<std::int32_t>(at);
}

}  // namespace

void TopKUpdate(const device::TopKUpdateParams& p) {
  std::vector<Entry> entries;
  for (std::int64_t token = 0; token < p.chunk.tokens; ++token) {
    entries.clear();
    for (std::int64_t i = 0; i < p.counts[token]; ++i)
      entries.emplace_back(p.values[token * p.k + i], p.ids[token * p.k + i]);
    for (std::int64_t j = 0; j < p.chunk.columns; ++j) {
      const float z = Value(p.chunk, token, j);
      if (std::isnan(z)) *p.chunk.finite = 0;
      if (z > kNegativeInfinity) entries.emplace_back(z, IdOf(p.chunk, j));
    }
    std::sort(entries.begin(), entries.end(), Before);
    if (static_cast<std::int64_t>(entries.size()) > p.k)
      entries.resize(static_cast<std::size_t>(p.k));
    std::int64_t at = token * p.k;
    for (const Entry& entry : entries) {
      p.values[at] = entry.first;
      p.ids[at++] = entry.second;
    }
    p.counts[token] = static_cast<std::int32_t>(entries.size());
  }
}

void AppendAbove(const device::AppendAboveParams& p) {
  std::vector<Entry> entries;
  const float floor = p.floor != nullptr ? *p.floor : 0.0F;
  for (std::int64_t token = 0; token < p.chunk.tokens; ++token) {
    entries.clear();
    for (std::int64_t j = 0; j < p.chunk.columns; ++j) {
      const float z = Value(p.chunk, token, j);
      if (std::isnan(z)) *p.chunk.finite = 0;
      if (!(z > kNegativeInfinity)) continue;
      const std::int32_t id = IdOf(p.chunk, j);
      const float bound = p.lower != nullptr ? p.lower[id] : floor;
      if (std::isnan(bound)) *p.chunk.finite = 0;
      if (z > bound) entries.emplace_back(z, id);
    }
    Fill(entries, token, p.out.counts[token], p.out);
  }
}

void Offer(const device::OfferParams& p) {
  std::vector<float> values;
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    const float* own = p.values + token * p.k;
    values.assign(own, own + p.counts[token]);
    for (float& value : values) {
      if (p.positive_only && value <= 0) value = kNegativeInfinity;
    }
    values.resize(static_cast<std::size_t>(p.k), kNegativeInfinity);
    std::sort(values.begin(), values.end(), [](float a, float b) { return a > b; });
    std::copy_n(values.begin(), p.width, p.offered + token * p.width);
  }
}

void Winners(const device::WinnersParams& p) {
  std::vector<Entry> entries;
  for (std::int64_t token = 0; token < p.out.tokens; ++token) {
    entries.clear();
    for (std::int64_t i = token * p.k; i < token * p.k + p.counts[token]; ++i) {
      const float value = p.values[i];
      const std::int64_t global =
          p.global_ids != nullptr ? p.global_ids[p.ids[i]] : p.first_global + p.ids[i];
      if (p.positive_only && value <= 0) continue;
      if (p.cut_values != nullptr) {
        const float cut = p.cut_values[token];
        if (value < cut || (value == cut && global > p.cut_ids[token])) continue;
      }
      entries.emplace_back(value, p.ids[i]);
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.second < b.second; });
    Fill(entries, token, 0, p.out);
  }
}

}  // namespace sae::kernels::plain
