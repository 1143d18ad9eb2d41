// SlotsToCodes: sums of 1024 tokens, then places, then copies.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block-inl.h"
#include "sae/kernels/device/slots.h"

namespace sae::kernels::cuda {
namespace {

using device::SlotsToCodesParams;

constexpr int kThreads = 256;
constexpr int kEach = 4;
constexpr std::int64_t kPart = kThreads * kEach;  ///< tokens of a sum; SlotsToCodesScratch knows
static_assert(device::SlotsToCodesScratch(kPart + 1) == 2);

SAELOOM_DEVICE inline std::int64_t Least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Entries of a thread's tokens in part `part`, and of each.
SAELOOM_DEVICE inline std::int64_t CountOwn(const SlotsToCodesParams& p, std::int64_t part,
                                            int thread, std::int32_t (&counts)[kEach]) {
  std::int64_t sum = 0;
  for (int i = 0; i < kEach; ++i) {
    const std::int64_t token = part * kPart + thread * kEach + i;
    counts[i] = token < p.slots.tokens ? p.slots.counts[token] : 0;
    sum += counts[i];
  }
  return sum;
}

// Sums stop one above the capacity: that is all that matters of them, and fits.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) SumKernel(SlotsToCodesParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  std::int32_t counts[kEach];
  const std::int64_t sum = block.Sum(CountOwn(p, blockIdx.x, block.thread, counts));
  if (block.thread == 0)
    p.scratch[blockIdx.x] = static_cast<std::int32_t>(Least(sum, p.out.capacity + 1));
}

SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) PlaceKernel(SlotsToCodesParams p) {
  SAELOOM_SHARED(BlockScratch, scratch, 1);
  Block block(scratch);
  std::int64_t before = 0;
  for (std::int64_t part = block.thread; part < blockIdx.x; part += block.threads)
    before += p.scratch[part];
  before = block.Sum(before);
  std::int32_t counts[kEach];
  std::int64_t total = 0;
  std::int64_t at =
      before + block.ExclusiveScan(CountOwn(p, blockIdx.x, block.thread, counts), &total);
  for (int i = 0; i < kEach; ++i) {
    const std::int64_t token = blockIdx.x * kPart + block.thread * kEach + i;
    if (token < p.slots.tokens)
      p.out.indptr[token] = static_cast<std::int32_t>(Least(at, p.out.capacity));
    at += counts[i];
  }
  if (block.thread != 0 || blockIdx.x + 1 != gridDim.x) return;
  const std::int64_t all = before + total;
  if (all > p.out.capacity) atomicExch(p.slots.overflow, 1);
  p.out.indptr[p.slots.tokens] = static_cast<std::int32_t>(Least(all, p.out.capacity));
}

/// A warp a token.
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads) CopyKernel(SlotsToCodesParams p) {
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (token >= p.slots.tokens) return;
  const std::int64_t begin = p.out.indptr[token];
  const std::int64_t count = p.out.indptr[token + 1] - begin;
  for (std::int64_t i = threadIdx.x % 32; i < count; i += 32) {
    p.out.values[begin + i] = p.slots.values[token * p.slots.capacity + i];
    p.out.ids[begin + i] = p.slots.ids[token * p.slots.capacity + i];
    p.out.rows[begin + i] = static_cast<std::int32_t>(token);
  }
}

}  // namespace

Error SlotsToCodes(const SlotsToCodesParams& p, void* stream) {
  if (p.slots.tokens < 0 || p.slots.tokens != p.out.tokens || p.slots.capacity < 0 ||
      p.out.capacity < 0 || p.out.capacity >= INT32_MAX) {
    return Error::kInvalidArgument;
  }
  if (p.out.indptr == nullptr || p.slots.overflow == nullptr || p.scratch == nullptr)
    return Error::kInvalidArgument;
  if (p.slots.tokens > 0 && p.slots.counts == nullptr) return Error::kInvalidArgument;
  if (p.out.capacity > 0 &&
      (p.out.ids == nullptr || p.out.rows == nullptr || p.out.values == nullptr ||
       p.slots.values == nullptr || p.slots.ids == nullptr)) {
    return Error::kInvalidArgument;
  }
  const auto parts = static_cast<unsigned>(p.slots.tokens / kPart + 1);
  Error error = SAELOOM_LAUNCH(SumKernel, parts, kThreads, 0, stream, p);
  if (error == Error::kOk) error = SAELOOM_LAUNCH(PlaceKernel, parts, kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  const auto blocks = static_cast<unsigned>((p.slots.tokens + kThreads / 32 - 1) / (kThreads / 32));
  return SAELOOM_LAUNCH(CopyKernel, blocks, kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
