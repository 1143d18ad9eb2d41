// Offer and Winners: a token's state, sorted in shared memory.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::cuda {
namespace {

using device::OfferParams;
using device::WinnersParams;

constexpr int kThreads = 128;

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) OfferKernel(OfferParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  Block block(scratch);
  const std::int64_t token = blockIdx.x;
  const std::int64_t count = p.counts[token];
  const std::int64_t size = PowerOfTwo(p.k);
  for (std::int64_t i = block.thread; i < size; i += block.threads) {
    float value = i < count ? p.values[token * p.k + i] : kNegativeInfinity;
    if (p.positive_only && !(value > 0)) value = kNegativeInfinity;
    keys[i] = ~static_cast<Key>(OrderedBits(value));
  }
  SortKeys(block, keys, static_cast<int>(size));
  for (std::int64_t i = block.thread; i < p.width; i += block.threads)
    p.offered[token * p.width + i] = OrderedValue(static_cast<unsigned>(~keys[i]));
}

SAELOOM_DEVICE inline bool Wins(const WinnersParams& p, std::int64_t token, float value,
                                std::int32_t id) {
  if (p.positive_only && !(value > 0)) return false;
  if (p.cut_values == nullptr) return true;
  const float cut = p.cut_values[token];
  if (value != cut) return value > cut;
  return (p.global_ids != nullptr ? p.global_ids[id] : p.first_global + id) <= p.cut_ids[token];
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) WinnersKernel(WinnersParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  SAELOOM_DYNAMIC_SHARED(Key, keys);
  Block block(scratch);
  const std::int64_t token = blockIdx.x;
  const std::int64_t count = p.counts[token];
  std::int64_t won = 0;
  for (std::int64_t base = 0; base < count; base += block.threads) {
    const std::int64_t i = base + block.thread;
    float value = 0;
    std::int32_t id = 0;
    bool wins = false;
    if (i < count) {
      value = p.values[token * p.k + i];
      id = p.ids[token * p.k + i];
      wins = Wins(p, token, value, id);
    }
    const unsigned ballot = __ballot_sync(kAllLanes, wins);
    std::int64_t total = 0;
    const std::int64_t at = won + block.WarpOffset(__popc(ballot), &total);
    if (wins) {
      keys[at + block.Before(ballot)] =
          static_cast<Key>(static_cast<unsigned>(id)) << 32 | __float_as_uint(value);
    }
    won += total;
  }
  const std::int64_t size = PowerOfTwo(won);
  for (std::int64_t i = won + block.thread; i < size; i += block.threads) keys[i] = ~Key{0};
  SortKeys(block, keys, static_cast<int>(size));
  if (won > p.out.capacity) {
    if (block.thread == 0) atomicExch(p.out.overflow, 1);
    won = p.out.capacity;
  }
  for (std::int64_t i = block.thread; i < won; i += block.threads) {
    const Key key = keys[i];
    p.out.values[token * p.out.capacity + i] =
        __uint_as_float(static_cast<unsigned>(key & 0xffffffffU));
    p.out.ids[token * p.out.capacity + i] = static_cast<std::int32_t>(key >> 32);
  }
  if (block.thread == 0) p.out.counts[token] = static_cast<std::int32_t>(won);
}

}  // namespace

Error Offer(const OfferParams& p, void* stream) {
  if (p.tokens < 0 || p.k < 1 || p.k > device::kMaxTopK || p.width < 1 || p.width > p.k)
    return Error::kInvalidArgument;
  if (p.tokens == 0) return Error::kOk;
  if (p.values == nullptr || p.counts == nullptr || p.offered == nullptr)
    return Error::kInvalidArgument;
  const std::size_t shared = static_cast<std::size_t>(PowerOfTwo(p.k)) * sizeof(Key);
  return SAELOOM_LAUNCH(OfferKernel, static_cast<unsigned>(p.tokens), kThreads, shared, stream, p);
}

Error Winners(const WinnersParams& p, void* stream) {
  if (p.out.tokens < 0 || p.out.capacity < 0 || p.k < 1 || p.k > device::kMaxTopK)
    return Error::kInvalidArgument;
  if (p.out.tokens == 0) return Error::kOk;
  if (p.values == nullptr || p.ids == nullptr || p.counts == nullptr || p.out.counts == nullptr ||
      p.out.overflow == nullptr || (p.cut_values != nullptr && p.cut_ids == nullptr) ||
      (p.out.capacity > 0 && (p.out.values == nullptr || p.out.ids == nullptr))) {
    return Error::kInvalidArgument;
  }
  const std::size_t shared = static_cast<std::size_t>(PowerOfTwo(p.k)) * sizeof(Key);
  return SAELOOM_LAUNCH(WinnersKernel, static_cast<unsigned>(p.out.tokens), kThreads, shared,
                        stream, p);
}

}  // namespace sae::kernels::cuda
