#pragma once
// What selection kernels share: sums and scans over a block, selection by radix, keys that order
// entries. For kernels alone, between device.h and them. Order of work is fixed: results do not
// depend on the order of lanes. All threads of a block, a multiple of 32, call each function
// together; a Block lives in registers, BlockScratch in shared memory.

#include "sae/kernels/device/block_sum.h"

namespace sae::kernels::cuda {

/// Entries as integers: larger value first, then lower id, so that no two are equal. -0 is +0.
/// 0 is below every entry.
using Key = unsigned long long;

SAELOOM_DEVICE inline unsigned OrderedBits(float value) {
  const unsigned bits = __float_as_uint(value);
  if (bits == 0x80000000U) return bits;  // as +0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}
SAELOOM_DEVICE inline float OrderedValue(unsigned ordered) {
  return __uint_as_float((ordered >> 31) != 0 ? ordered & 0x7fffffffU : ~ordered);
}
SAELOOM_DEVICE inline Key EntryKey(float value, std::int32_t id) {
  return static_cast<Key>(OrderedBits(value)) << 32 | (0xffffffffU - static_cast<unsigned>(id));
}
SAELOOM_DEVICE inline float KeyValue(Key key) {
  return OrderedValue(static_cast<unsigned>(key >> 32));
}
SAELOOM_DEVICE inline std::int32_t KeyId(Key key) {
  return static_cast<std::int32_t>(0xffffffffU - static_cast<unsigned>(key & 0xffffffffU));
}

inline constexpr float kNegativeInfinity = -HUGE_VALF;

struct BlockScratch {
  unsigned histogram[256];
  Key totals[2][32];
  unsigned digit, in_digit, rest;
};

/// The k-th largest of some keys. Those >= bound number k unless the k-th has equals: then `rest`
/// of the `equal` ones are among the first k.
struct RadixCut {
  Key bound;
  std::int64_t rest, equal;
};

class Block {
 public:
  SAELOOM_DEVICE explicit Block(BlockScratch* scratch)
      : thread(static_cast<int>(threadIdx.x)),
        threads(static_cast<int>(blockDim.x)),
        lane(thread % 32),
        warp(thread / 32),
        warps(threads / 32),
        scratch_(scratch) {}

  const int thread, threads, lane, warp, warps;

  /// Lanes before this one whose bit is set.
  SAELOOM_DEVICE int Before(unsigned ballot) const { return __popc(ballot & ((1U << lane) - 1U)); }

  /// `value` is the same in all lanes of a warp: the sum over the warps before this one.
  SAELOOM_DEVICE std::int64_t WarpOffset(std::int64_t value, std::int64_t* total) {
    Key* const totals = Share(static_cast<Key>(value));
    std::int64_t before = 0;
    std::int64_t sum = 0;
    for (int w = 0; w < warps; ++w) {
      const auto one = static_cast<std::int64_t>(totals[w]);
      if (w < warp) before += one;
      sum += one;
    }
    *total = sum;
    return before;
  }

  SAELOOM_DEVICE std::int64_t Sum(std::int64_t value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
    std::int64_t total = 0;
    WarpOffset(value, &total);
    return total;
  }

  SAELOOM_DEVICE std::int64_t ExclusiveScan(std::int64_t value, std::int64_t* total) {
    std::int64_t sum = value;
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const std::int64_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(lanes));
      if (lane >= lanes) sum += other;
    }
    return WarpOffset(__shfl_sync(kAllLanes, sum, 31), total) + sum - value;
  }

  SAELOOM_DEVICE Key Min(Key key) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      const Key other = __shfl_xor_sync(kAllLanes, key, lanes);
      key = other < key ? other : key;
    }
    Key* const totals = Share(key);
    for (int w = 0; w < warps; ++w) key = totals[w] < key ? totals[w] : key;
    return key;
  }
  SAELOOM_DEVICE Key Max(Key key) { return ~Min(~key); }

  /// Of get(0) .. get(count - 1), 1 <= k <= count. All keys are equal above their low `bits` bits,
  /// which are those of `common` there. exact: `bound` is the k-th key itself, else perhaps less.
  /// What get reads was written before a barrier, or by the calling thread to be read by it alone.
  template <class Get>
  SAELOOM_DEVICE RadixCut Largest(std::int64_t count, std::int64_t k, int bits, Key common,
                                  bool exact, const Get& get) {
    int high = bits;
    RadixCut cut = {high < 64 ? common >> high : 0, k, count};
    while (high > 0 && (exact || cut.rest != cut.equal)) {
      const int width = high < 8 ? high : 8;
      for (int bin = thread; bin < 256; bin += threads) scratch_->histogram[bin] = 0;
      SAELOOM_BARRIER(1);
      for (std::int64_t i = thread; i < count; i += threads) {
        const Key key = get(i);
        if (high < 64 && key >> high != cut.bound) continue;
        atomicAdd(&scratch_->histogram[key >> (high - width) & ((1U << width) - 1U)], 1U);
      }
      SAELOOM_BARRIER(2);
      if (warp == 0) PickDigit(static_cast<unsigned>(cut.rest));
      SAELOOM_BARRIER(3);
      cut.bound = cut.bound << width | scratch_->digit;
      cut.rest = scratch_->rest;
      cut.equal = scratch_->in_digit;
      high -= width;
    }
    cut.bound = high < 64 ? cut.bound << high : 0;
    return cut;
  }

 private:
  /// Every warp's value, for all to read; the two halves of `totals` take turns, so that one
  /// barrier is enough.
  SAELOOM_DEVICE Key* Share(Key value) {
    turn_ = 1 - turn_;
    Key* const totals = scratch_->totals[turn_];
    if (lane == 0) totals[warp] = value;
    SAELOOM_BARRIER(4);
    return totals;
  }

  /// Each lane of the warp adds up 8 bins, lane 0 those of the largest digits.
  SAELOOM_DEVICE void PickDigit(unsigned rest) {
    const int top = 255 - 8 * lane;
    unsigned own = 0;
    for (int i = 0; i < 8; ++i) own += scratch_->histogram[top - i];
    unsigned sum = own;
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const unsigned other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(lanes));
      if (lane >= lanes) sum += other;
    }
    unsigned above = sum - own;
    if (above >= rest || sum < rest) return;
    int digit = top;
    while (above + scratch_->histogram[digit] < rest) above += scratch_->histogram[digit--];
    scratch_->digit = static_cast<unsigned>(digit);
    scratch_->in_digit = scratch_->histogram[digit];
    scratch_->rest = rest - above;
  }

  BlockScratch* const scratch_;
  int turn_ = 0;
};

/// Least power of two >= count.
SAELOOM_HOST_DEVICE inline std::int64_t PowerOfTwo(std::int64_t count) {
  std::int64_t power = 1;
  while (power < count) power *= 2;
  return power;
}

/// Sorts keys[0 .. size) in shared memory, ascending; size is a power of two. Before: written, no
/// barrier needed; after: all may read.
SAELOOM_DEVICE inline void SortKeys(const Block& block, Key* keys, int size) {
  SAELOOM_BARRIER(5);
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int pair = block.thread; pair < size / 2; pair += block.threads) {
        const int low = pair / step * 2 * step + pair % step;
        const bool ascending = (low & run) == 0;
        const Key a = keys[low];
        const Key b = keys[low + step];
        if ((a > b) == ascending) {
          keys[low] = b;
          keys[low + step] = a;
        }
      }
      SAELOOM_BARRIER(6);
    }
  }
}

}  // namespace sae::kernels::cuda
