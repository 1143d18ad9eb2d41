// BatchTopK's cut: histograms in shared memory, integer atomics; a warp a token.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/slots.h"

namespace sae::kernels::cuda {
namespace {

using device::BatchCut;
using device::KeepFromCutParams;
using device::kRadixBins;
using device::RadixHistogramParams;
using device::RadixPickParams;
using device::Slots;
using device::TieCutParams;
using device::TieKeysParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kBigThreads = 1024;
constexpr std::int64_t kKeepAll = INT64_MAX;

/// Bits of a value below those of this round, and how many the round has.
SAELOOM_DEVICE inline int ShiftOf(int round) { return round == 0 ? 21 : round == 1 ? 10 : 0; }
SAELOOM_DEVICE inline int BitsOf(int round) { return round == 2 ? 10 : 11; }

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) HistogramKernel(RadixHistogramParams p) {
  SAELOOM_SHARED(unsigned, bins, kRadixBins);
  const int round = p.cut->round;
  if (round > 2) return;
  const int shift = ShiftOf(round);
  const int bits = BitsOf(round);
  const unsigned prefix = p.cut->prefix;
  for (int bin = static_cast<int>(threadIdx.x); bin < kRadixBins; bin += kThreads) bins[bin] = 0;
  SAELOOM_BARRIER(1);
  for (std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
       token < p.slots.tokens; token += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const float* const values = p.slots.values + token * p.slots.capacity;
    const int count = p.slots.counts[token];
    for (int i = static_cast<int>(threadIdx.x % 32); i < count; i += 32) {
      if (!(values[i] > 0)) continue;
      const unsigned digits = __float_as_uint(values[i]) >> shift;
      if (round > 0 && digits >> bits != prefix) continue;
      atomicAdd(&bins[digits & ((1U << bits) - 1U)], 1U);
    }
  }
  SAELOOM_BARRIER(2);
  for (int bin = static_cast<int>(threadIdx.x); bin < kRadixBins; bin += kThreads) {
    if (bins[bin] == 0) continue;
    atomicAdd(reinterpret_cast<unsigned long long*>(p.histogram) + bin,
              static_cast<unsigned long long>(bins[bin]));
  }
}

/// kEach bins a thread, thread 0 those of the largest digits.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) PickKernel(RadixPickParams p) {
  constexpr int kEach = static_cast<int>(kRadixBins) / kThreads;
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  const int round = p.cut->round;
  if (round > 2) return;
  const int high = static_cast<int>(kRadixBins) - 1 - kEach * block.thread;
  std::int64_t counts[kEach];
  std::int64_t own = 0;
  for (int i = 0; i < kEach; ++i) own += counts[i] = p.histogram[high - i];
  const std::int64_t rest = round == 0 ? p.wanted : p.cut->remaining;
  const unsigned prefix = p.cut->prefix;
  std::int64_t total = 0;  // the scan's barrier: all have read *cut
  std::int64_t above = block.ExclusiveScan(own, &total);
  if (round == 0 && block.thread == 0) p.cut->found = total;
  if (round == 0 && total <= p.wanted) {
    if (block.thread != 0) return;
    p.cut->round = 3;
    p.cut->prefix = 0;
    p.cut->remaining = 0;
    p.cut->ties = 0;
    p.cut->last_tie = kKeepAll;
    p.cut->value = 0;
    return;
  }
  for (int i = 0; i < kEach; above += counts[i++]) {
    if (above >= rest || above + counts[i] < rest) continue;
    const unsigned found = prefix << BitsOf(round) | static_cast<unsigned>(high - i);
    p.cut->prefix = found;
    p.cut->round = round + 1;
    p.cut->remaining = rest - above;
    p.cut->ties = counts[i];
    p.cut->last_tie = kKeepAll;
    if (round == 2) p.cut->value = __uint_as_float(found);
  }
}

template <class Params>
SAELOOM_DEVICE std::int64_t TieKey(const Params& p, std::int64_t token, std::int32_t id) {
  const std::int64_t global = p.global_ids != nullptr ? p.global_ids[id] : p.first_global + id;
  return (p.first_token + token) * p.latents + global;
}

/// One block: rarely more to do than to fill in the padding.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kBigThreads) TieKeysKernel(TieKeysParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  std::int64_t written = 0;
  if (p.cut->ties > p.cut->remaining) {
    const float cut = p.cut->value;
    for (std::int64_t base = 0; base < p.slots.tokens; base += block.threads) {
      const std::int64_t token = base + block.thread;
      const int count = token < p.slots.tokens ? p.slots.counts[token] : 0;
      std::int64_t ties = 0;
      for (int i = 0; i < count; ++i)
        ties += p.slots.values[token * p.slots.capacity + i] == cut ? 1 : 0;
      std::int64_t total = 0;
      std::int64_t at = written + block.ExclusiveScan(ties, &total);
      for (int i = 0; i < count && ties > 0; ++i) {
        if (p.slots.values[token * p.slots.capacity + i] != cut) continue;
        if (at < p.capacity)
          p.keys[at] = TieKey(p, token, p.slots.ids[token * p.slots.capacity + i]);
        ++at;
      }
      written += total;
    }
  }
  if (written > p.capacity && block.thread == 0) atomicExch(p.overflow, 1);
  for (std::int64_t i = written + block.thread; i < p.capacity; i += block.threads)
    p.keys[i] = kKeepAll;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kBigThreads) TieCutKernel(TieCutParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  if (p.cut->ties <= p.cut->remaining) return;
  const std::int64_t offers = p.ranks * p.capacity;
  if (p.cut->remaining > offers) return;  // an overflow of TieKeys: the step is repeated
  const RadixCut cut = block.Largest(offers, p.cut->remaining, 64, 0, true,
                                     [&](std::int64_t i) { return ~static_cast<Key>(p.keys[i]); });
  if (block.thread == 0) p.cut->last_tie = static_cast<std::int64_t>(~cut.bound);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) KeepKernel(KeepFromCutParams p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const float cut = p.cut->value;
  if (blockIdx.x == 0 && threadIdx.x == 0 && p.cut_value != nullptr)
    *p.cut_value = cut > 0 ? __uint_as_float(__float_as_uint(cut) - 1U) : 0.0F;
  if (token >= p.slots.tokens) return;
  float* const values = p.slots.values + token * p.slots.capacity;
  std::int32_t* const ids = p.slots.ids + token * p.slots.capacity;
  float* const companion =
      p.companion == nullptr ? nullptr : p.companion + token * p.slots.capacity;
  const int count = p.slots.counts[token];
  if (count < 0) return;
  int kept = 0;
  for (int base = 0; base < count; base += 32) {
    const int i = base + lane;
    float value = 0;
    float other = 0;
    std::int32_t id = 0;
    bool keep = false;
    if (i < count) {
      value = values[i];
      if (companion != nullptr) other = companion[i];
      id = ids[i];
      keep =
          value > cut || (value == cut && value > 0 &&
                          (p.cut->last_tie == kKeepAll || TieKey(p, token, id) <= p.cut->last_tie));
    }
    const unsigned ballot = __ballot_sync(kAllLanes, keep);
    SAELOOM_WARP_BARRIER(3);  // reads are done
    if (keep) {               // at or before what the warp has read
      const int at = kept + __popc(ballot & ((1U << lane) - 1U));
      values[at] = value;
      if (companion != nullptr) companion[at] = other;
      ids[at] = id;
    }
    kept += __popc(ballot);
  }
  if (lane == 0) p.slots.counts[token] = kept;
}

bool Valid(const Slots& slots) {
  return slots.tokens >= 0 && slots.capacity >= 0 && slots.capacity < INT32_MAX &&
         (slots.tokens == 0 || slots.counts != nullptr) &&
         (slots.tokens == 0 || slots.capacity == 0 ||
          (slots.values != nullptr && slots.ids != nullptr));
}

unsigned TokenBlocks(std::int64_t tokens) {
  return static_cast<unsigned>((tokens + kWarps - 1) / kWarps);
}

}  // namespace

Error RadixHistogram(const RadixHistogramParams& p, void* stream) {
  if (!Valid(p.slots) || p.cut == nullptr || p.histogram == nullptr) return Error::kInvalidArgument;
  const unsigned blocks = TokenBlocks(p.slots.tokens);
  return SAELOOM_LAUNCH(HistogramKernel, blocks < 1024U ? blocks : 1024U, kThreads, 0, stream, p);
}

Error RadixPick(const RadixPickParams& p, void* stream) {
  if (p.histogram == nullptr || p.cut == nullptr || p.wanted < 1) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(PickKernel, 1, kThreads, 0, stream, p);
}

Error TieKeys(const TieKeysParams& p, void* stream) {
  if (!Valid(p.slots) || p.cut == nullptr || p.capacity < 0 || p.overflow == nullptr ||
      (p.capacity > 0 && p.keys == nullptr)) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(TieKeysKernel, 1, kBigThreads, 0, stream, p);
}

Error TieCut(const TieCutParams& p, void* stream) {
  if (p.ranks < 1 || p.capacity < 0 || p.cut == nullptr || (p.capacity > 0 && p.keys == nullptr))
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(TieCutKernel, 1, kBigThreads, 0, stream, p);
}

Error KeepFromCut(const KeepFromCutParams& p, void* stream) {
  if (!Valid(p.slots) || p.cut == nullptr) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(KeepKernel, TokenBlocks(p.slots.tokens), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
