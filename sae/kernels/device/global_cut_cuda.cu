// GlobalCut, SecondOffer, SecondCut: one block a token, radix selection over the offers where they
// lie.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/select.h"

namespace sae::kernels::cuda {
namespace {

using device::GlobalCutParams;
using device::SecondCutParams;
using device::SecondOfferParams;

constexpr int kThreads = 128;
constexpr int kCollectThreads = 1024;
constexpr std::int64_t kKeepAll = INT64_MAX;
constexpr std::int64_t kUnsafe = -1;

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) CutKernel(GlobalCutParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  const std::int64_t token = blockIdx.x;
  const std::int64_t offers = p.ranks * p.width;
  const auto offer = [&](std::int64_t i) {
    return p.offered[(i / p.width * p.tokens + token) * p.width + i % p.width];
  };
  std::int64_t real = 0;
  for (std::int64_t i = block.thread; i < offers; i += block.threads)
    real += offer(i) > kNegativeInfinity ? 1 : 0;
  real = block.Sum(real);
  float cut = kNegativeInfinity;
  if (real >= p.k) {
    const RadixCut found = block.Largest(offers, p.k, 32, 0, true, [&](std::int64_t i) {
      return static_cast<Key>(OrderedBits(offer(i)));
    });
    cut = OrderedValue(static_cast<unsigned>(found.bound));
  }
  // In the low half entries that reach the cut, in the high half full shards that may have more.
  std::int64_t reach = 0;
  for (std::int64_t i = block.thread; i < offers; i += block.threads) {
    const float value = offer(i);
    if (value == kNegativeInfinity || value < cut) continue;
    reach += 1;
    if (i % p.width == p.width - 1) reach += std::int64_t{1} << 32;
  }
  reach = block.Sum(reach);
  const bool tied = real >= p.k && (reach & 0xffffffff) > p.k;
  if (block.thread != 0) return;
  p.cut_values[token] = cut;
  p.cut_ids[token] = tied || reach >> 32 != 0 ? kUnsafe : kKeepAll;
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kCollectThreads) CollectKernel(GlobalCutParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  std::int64_t count = 0;
  for (std::int64_t base = 0; base < p.tokens; base += block.threads) {
    const std::int64_t token = base + block.thread;
    const bool is_unsafe = token < p.tokens && p.cut_ids[token] == kUnsafe;
    const unsigned ballot = __ballot_sync(kAllLanes, is_unsafe);
    std::int64_t total = 0;
    const std::int64_t at = count + block.WarpOffset(__popc(ballot), &total) + block.Before(ballot);
    if (is_unsafe && at < p.capacity) p.unsafe[at] = static_cast<std::int32_t>(token);
    count += total;
  }
  if (block.thread != 0) return;
  if (count > p.capacity) {
    atomicExch(p.overflow, 1);
    count = p.capacity;
  }
  *p.unsafe_count = static_cast<std::int32_t>(count);
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) SecondOfferKernel(SecondOfferParams p) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t token = row < *p.unsafe_count ? p.unsafe[row] : -1;
  const std::int64_t count = token < 0 ? 0 : p.counts[token];
  for (std::int64_t i = threadIdx.x; i < p.k; i += kThreads) {
    float value = kNegativeInfinity;
    std::int64_t id = -1;
    if (i < count) {
      const std::int32_t local = p.ids[token * p.k + i];
      value = p.values[token * p.k + i];
      id = p.global_ids != nullptr ? p.global_ids[local] : p.first_global + local;
    }
    p.out_values[row * p.k + i] = value;
    p.out_ids[row * p.k + i] = id;
  }
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) SecondCutKernel(SecondCutParams p) {
  const std::int64_t row = blockIdx.x;
  if (row >= *p.unsafe_count) return;  // the whole block
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  const std::int64_t width = p.width, offers = p.ranks * width;
  const auto at = [&](std::int64_t i) {
    return (i / width * p.capacity + row) * width + i % width;
  };
  std::int64_t real = 0;
  for (std::int64_t i = block.thread; i < offers; i += block.threads)
    real += p.ids[at(i)] >= 0 ? 1 : 0;
  real = block.Sum(real);
  float cut = kNegativeInfinity;
  std::int64_t last = kKeepAll;
  if (real >= p.k) {
    const RadixCut found = block.Largest(offers, p.k, 32, 0, true, [&](std::int64_t i) {
      return static_cast<Key>(OrderedBits(p.values[at(i)]));
    });
    const auto ordered = static_cast<unsigned>(found.bound);
    cut = OrderedValue(ordered);
    // Of the equal ones the `rest` least ids stay: the largest complements.
    last = static_cast<std::int64_t>(
        ~block
             .Largest(offers, found.rest, 64, 0, true,
                      [&](std::int64_t i) {
                        return OrderedBits(p.values[at(i)]) == ordered && p.ids[at(i)] >= 0
                                   ? ~static_cast<Key>(p.ids[at(i)])
                                   : Key{0};
                      })
             .bound);
  }
  if (block.thread != 0) return;
  p.cut_values[p.unsafe[row]] = cut;
  p.cut_ids[p.unsafe[row]] = last;
}

}  // namespace

Error GlobalCut(const GlobalCutParams& p, void* stream) {
  if (p.ranks < 1 || p.tokens < 0 || p.width < 1 || p.k < 1 || p.capacity < 0)
    return Error::kInvalidArgument;
  if (p.unsafe_count == nullptr || p.overflow == nullptr ||
      (p.capacity > 0 && p.unsafe == nullptr)) {
    return Error::kInvalidArgument;
  }
  if (p.tokens > 0 && (p.offered == nullptr || p.cut_values == nullptr || p.cut_ids == nullptr))
    return Error::kInvalidArgument;
  const Error error =
      SAELOOM_LAUNCH(CutKernel, static_cast<unsigned>(p.tokens), kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(CollectKernel, 1, kCollectThreads, 0, stream, p);
}

Error SecondOffer(const SecondOfferParams& p, void* stream) {
  if (p.k < 1 || p.capacity < 0) return Error::kInvalidArgument;
  if (p.capacity == 0) return Error::kOk;
  if (p.values == nullptr || p.ids == nullptr || p.counts == nullptr || p.unsafe == nullptr ||
      p.unsafe_count == nullptr || p.out_values == nullptr || p.out_ids == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(SecondOfferKernel, static_cast<unsigned>(p.capacity), kThreads, 0, stream,
                        p);
}

Error SecondCut(const SecondCutParams& p, void* stream) {
  SecondCutParams rows = p;
  if (rows.width == 0) rows.width = p.k;
  if (p.ranks < 1 || p.k < 1 || p.capacity < 0 || rows.width < p.k) return Error::kInvalidArgument;
  if (p.capacity == 0) return Error::kOk;
  if (p.values == nullptr || p.ids == nullptr || p.unsafe == nullptr || p.unsafe_count == nullptr ||
      p.cut_values == nullptr || p.cut_ids == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(SecondCutKernel, static_cast<unsigned>(p.capacity), kThreads, 0, stream,
                        rows);
}

}  // namespace sae::kernels::cuda
