#pragma once
// Slots of variable fill become codes (CSR by token, entries of a token by ascending local id), and
// BatchTopK's cut over a whole batch. All pointers are device memory (namespace plain: host
// memory); work is enqueued on `stream`. Integer atomics only: the same bits in every run. Errors:
// kInvalidArgument for sizes out of range and missing pointers. Partners: namespace plain, on the
// calling thread (slots_cpu.cc): the same bits. C++17. Sources: numerics 3; Bussmann et al. 2024
// (arXiv 2412.06410).
// BatchTopK over several ranks: *cut zeroed; three times { histogram zeroed, RadixHistogram, sum
// over ranks, RadixPick }; then TieKeys, all-gather, TieCut, KeepFromCut.

#include <cstdint>

#include "sae/kernels/device/select.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

struct DeviceCodes {
  std::int64_t tokens = 0;
  std::int64_t capacity = 0;       ///< entries there is room for, < 2^31; a bound known to the host
  std::int32_t* indptr = nullptr;  ///< tokens + 1; indptr[tokens] = entries: the device's to know
  std::int32_t* ids = nullptr;     ///< local
  std::int32_t* rows = nullptr;    ///< token of each entry
  float* values = nullptr;         ///< z
};

/// More entries than out.capacity: *slots.overflow = 1, the rest is dropped, indptr stays within
/// the capacity. slots.tokens = out.tokens.
struct SlotsToCodesParams {
  Slots slots;
  DeviceCodes out;
  std::int32_t* scratch = nullptr;  ///< SlotsToCodesScratch(tokens) elements
};
constexpr std::int64_t SlotsToCodesScratch(std::int64_t tokens) { return tokens / 1024 + 1; }

/// The bins of one round, and of their histogram.
inline constexpr std::int64_t kRadixBins = 2048;

/// The cut of a batch in rounds of 11, 11, 10 bits, over values > 0. Lives in device memory.
struct BatchCut {
  std::uint32_t prefix;    ///< bits of the cut found so far
  std::int32_t round;      ///< 0 .. 3
  std::int64_t remaining;  ///< entries still to be taken at or below the prefix
  std::int64_t found;      ///< entries > 0 of all ranks; <= wanted: everything stays (value 0)
  std::int64_t ties;       ///< after the rounds: entries of all ranks equal to the cut
  std::int64_t last_tie;   ///< entries equal to it stay where key <= last_tie, key = token * n +
                           ///< global id; INT64 max until TieCut
  float value;             ///< after the rounds: the cut
};

/// histogram[b] += entries of this rank in bin b of round cut->round among those with the prefix.
/// After the last round it does nothing.
struct RadixHistogramParams {
  Slots slots;
  const BatchCut* cut = nullptr;
  std::int64_t* histogram = nullptr;  ///< kRadixBins; zeroed by the caller
};

/// After the histogram was summed over ranks: fixes the round's digit. Round 0 also fixes `found`;
/// where everything stays it ends the rounds.
struct RadixPickParams {
  const std::int64_t* histogram = nullptr;
  std::int64_t wanted = 0;  ///< k B >= 1
  BatchCut* cut = nullptr;  ///< zeroed before round 0
};

/// Keys of this rank's entries equal to the cut where not all of them stay, by ascending token and
/// local id, padded with INT64 max. More than the capacity: *overflow = 1.
struct TieKeysParams {
  Slots slots;
  const BatchCut* cut = nullptr;
  std::int64_t latents = 0;                  ///< n, over all ranks
  const std::int32_t* global_ids = nullptr;  ///< null: local + first_global
  std::int64_t first_global = 0;
  std::int64_t* keys = nullptr;  ///< capacity
  std::int64_t capacity = 0;
  std::int32_t* overflow = nullptr;
  std::int64_t first_token = 0;  ///< of the slots, in a batch that several replicas share
};

/// From all ranks' keys: last_tie, where not all ties stay.
struct TieCutParams {
  const std::int64_t* keys = nullptr;  ///< [ranks, capacity]
  std::int64_t ranks = 0, capacity = 0;
  BatchCut* cut = nullptr;
};

/// Keeps entries above the cut, and equal ones with key <= last_tie, in place and in order. Tokens
/// with a negative count are left alone.
struct KeepFromCutParams {
  Slots slots;
  const BatchCut* cut = nullptr;
  std::int64_t latents = 0;
  const std::int32_t* global_ids = nullptr;
  std::int64_t first_global = 0;
  /// Where given: the largest float below the cut (0 where everything stays), as AppendAbove's
  /// floor for later chunks: it lets through what equals the cut, which may win by its key.
  float* cut_value = nullptr;
  float* companion = nullptr;    ///< [tokens, capacity], or null: moved along with the values
  std::int64_t first_token = 0;  ///< as TieKeysParams
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error SlotsToCodes(const device::SlotsToCodesParams& params, void* stream);
[[nodiscard]] Error RadixHistogram(const device::RadixHistogramParams& params, void* stream);
[[nodiscard]] Error RadixPick(const device::RadixPickParams& params, void* stream);
[[nodiscard]] Error TieKeys(const device::TieKeysParams& params, void* stream);
[[nodiscard]] Error TieCut(const device::TieCutParams& params, void* stream);
[[nodiscard]] Error KeepFromCut(const device::KeepFromCutParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void SlotsToCodes(const device::SlotsToCodesParams& params);
void RadixHistogram(const device::RadixHistogramParams& params);
void RadixPick(const device::RadixPickParams& params);
void TieKeys(const device::TieKeysParams& params);
void TieCut(const device::TieCutParams& params);
void KeepFromCut(const device::KeepFromCutParams& params);
}  // namespace sae::kernels::plain
