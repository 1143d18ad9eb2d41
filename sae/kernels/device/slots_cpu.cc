#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "sae/kernels/device/slots.h"

namespace sae::kernels::plain {
namespace {

constexpr std::int64_t kKeepAll = std::numeric_limits<std::int64_t>::max();

int ShiftOf(int round) { return round == 0 ? 21 : round == 1 ? 10 : 0; }
int BitsOf(int round) { return round == 2 ? 10 : 11; }

template <class Params>
std::int64_t TieKey(const Params& p, std::int64_t token, std::int32_t id) {
  return (p.first_token + token) * p.latents +
         (p.global_ids != nullptr ? p.global_ids[id] : p.first_global + id);
}

}  // namespace

void SlotsToCodes(const device::SlotsToCodesParams& p) {
  std::int64_t at = 0;
  p.out.indptr[0] = 0;
  for (std::int64_t token = 0; token < p.slots.tokens; ++token) {
    for (std::int64_t i = 0; i < p.slots.counts[token]; ++i) {
      if (at == p.out.capacity) {
        *p.slots.overflow = 1;
        break;
      }
      p.out.values[at] = p.slots.values[token * p.slots.capacity + i];
      p.out.ids[at] = p.slots.ids[token * p.slots.capacity + i];
      p.out.rows[at++] = static_cast<std::int32_t>(token);
    }
    p.out.indptr[token + 1] = static_cast<std::int32_t>(at);
  }
}

void RadixHistogram(const device::RadixHistogramParams& p) {
  const int round = p.cut->round;
  if (round > 2) return;
  for (std::int64_t token = 0; token < p.slots.tokens; ++token) {
    for (std::int64_t i = 0; i < p.slots.counts[token]; ++i) {
      const float value = p.slots.values[token * p.slots.capacity + i];
      const std::uint32_t digits = std::bit_cast<std::uint32_t>(value) >> ShiftOf(round);
      if (!(value > 0) || (round > 0 && digits >> BitsOf(round) != p.cut->prefix)) continue;
      ++p.histogram[digits & ((1U << BitsOf(round)) - 1U)];
    }
  }
}

void RadixPick(const device::RadixPickParams& p) {
  device::BatchCut& cut = *p.cut;
  if (cut.round > 2) return;
  if (cut.round == 0) {
    for (std::int64_t b = 0; b < device::kRadixBins; ++b) cut.found += p.histogram[b];
    cut.remaining = p.wanted;
    cut.last_tie = kKeepAll;
    if (cut.found <= p.wanted) {
      cut.round = 3;
      cut.remaining = 0;
      return;
    }
  }
  std::int64_t bin = device::kRadixBins - 1;
  while (p.histogram[bin] < cut.remaining) cut.remaining -= p.histogram[bin--];
  cut.ties = p.histogram[bin];
  cut.prefix = cut.prefix << BitsOf(cut.round) | static_cast<std::uint32_t>(bin);
  if (cut.round++ == 2) cut.value = std::bit_cast<float>(cut.prefix);
}

void TieKeys(const device::TieKeysParams& p) {
  std::int64_t at = 0;
  for (std::int64_t token = 0; p.cut->ties > p.cut->remaining && token < p.slots.tokens; ++token) {
    for (std::int64_t i = 0; i < p.slots.counts[token]; ++i) {
      if (p.slots.values[token * p.slots.capacity + i] != p.cut->value) continue;
      if (at == p.capacity) {
        *p.overflow = 1;
      } else {
        p.keys[at++] = TieKey(p, token, p.slots.ids[token * p.slots.capacity + i]);
      }
    }
  }
  std::fill(p.keys + at, p.keys + p.capacity, kKeepAll);
}

void TieCut(const device::TieCutParams& p) {
  if (p.cut->ties <= p.cut->remaining || p.cut->remaining > p.ranks * p.capacity) return;
  std::vector<std::int64_t> keys(p.keys, p.keys + p.ranks * p.capacity);
  std::sort(keys.begin(), keys.end());
  p.cut->last_tie = keys[static_cast<std::size_t>(p.cut->remaining - 1)];
}

void KeepFromCut(const device::KeepFromCutParams& p) {
  const float cut = p.cut->value;
  if (p.cut_value != nullptr) {
    *p.cut_value = cut > 0 ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(cut) - 1U) : 0.0F;
  }
  for (std::int64_t token = 0; token < p.slots.tokens; ++token) {
    if (p.slots.counts[token] < 0) continue;
    std::int64_t kept = token * p.slots.capacity;
    for (std::int64_t i = kept; i < token * p.slots.capacity + p.slots.counts[token]; ++i) {
      const float value = p.slots.values[i];
      if (!(value > 0) || value < cut) continue;
      if (value == cut && p.cut->last_tie != kKeepAll &&
          TieKey(p, token, p.slots.ids[i]) > p.cut->last_tie) {
        continue;
      }
      p.slots.values[kept] = value;
      if (p.companion != nullptr) p.companion[kept] = p.companion[i];
      p.slots.ids[kept++] = p.slots.ids[i];
    }
    p.slots.counts[token] = static_cast<std::int32_t>(kept - token * p.slots.capacity);
  }
}

}  // namespace sae::kernels::plain
