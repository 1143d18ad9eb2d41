#pragma once
// The buffer of one token's best entries, in shared memory: the k first so far and what came in
// since; when it is full it is cut back to k. For kernels alone. All threads of a block call each
// function together.

#include "sae/kernels/device/block-inl.h"

namespace sae::kernels::cuda {

/// Columns that a block takes at a time, four a thread.
inline constexpr int kSelectThreads = 256;
inline constexpr int kTile = 4 * kSelectThreads;
/// Up to this many entries are cut by counting how many come before each; more by radix.
inline constexpr int kRankCut = 512;

/// Keys of a buffer: at least k + kTile, at most 44 KB.
SAELOOM_HOST_DEVICE inline int TopKRoom(std::int64_t k) {
  const std::int64_t least = k + kTile;
  const std::int64_t room = 2 * k > 5632 ? 5632 : 2 * k;
  return static_cast<int>(room > least ? room : least);
}

/// How many of keys[0 .. count) come before `own`.
SAELOOM_DEVICE inline int RankOf(const Key* keys, int count, Key own) {
  int rank = 0;
  for (int j = 0; j < count; ++j) rank += keys[j] > own ? 1 : 0;
  return rank;
}

class TopKBuffer {
 public:
  SAELOOM_DEVICE TopKBuffer(Key* keys, int k) : keys_(keys), k_(k), room_(TopKRoom(k)) {}

  SAELOOM_DEVICE int count() const { return count_; }
  /// Something was taken since Load.
  SAELOOM_DEVICE bool changed() const { return changed_; }
  /// A key below it cannot be among the k first.
  SAELOOM_DEVICE Key bound() const { return bound_; }
  /// k keys were seen, so that the bound says something.
  SAELOOM_DEVICE bool bounded() const { return bound_ > 1; }

  /// Distinct keys that are not below the bound were written from count() on, to `end`, in any
  /// order, and a barrier came after.
  SAELOOM_DEVICE void Placed(int end) {
    changed_ = changed_ || end > count_;
    count_ = end;
  }

  SAELOOM_DEVICE void Load(Block& block, const float* values, const std::int32_t* ids, int count) {
    count_ = count;
    Key least = ~Key{0};
    for (int i = block.thread; i < count; i += block.threads) {
      const Key key = EntryKey(values[i], ids[i]);
      keys_[i] = key;
      least = key < least ? key : least;
    }
    if (count == k_) bound_ = block.Min(least) + 1;
  }

  /// `count` distinct keys were written to the buffer's memory, which may be more than TopKRoom.
  SAELOOM_DEVICE void Adopt(int count) { count_ = count; }

  /// Takes each thread's keys, 0 where it has none, at most kTile in all. Those below the bound are
  /// dropped. `key(i)` for i in 0 .. 3; called again after a cut, which raises the bound.
  template <class Get>
  SAELOOM_DEVICE void Take(Block& block, const Get& get) {
    for (;;) {
      Key own[4];
      unsigned ballots[4];
      int in_warp = 0;
      for (int i = 0; i < 4; ++i) {
        own[i] = get(i);
        ballots[i] = __ballot_sync(kAllLanes, own[i] >= bound_);
        in_warp += __popc(ballots[i]);
      }
      std::int64_t total = 0;
      int at = count_ + static_cast<int>(block.WarpOffset(in_warp, &total));
      if (count_ + total > room_) {
        Cut(block);
        continue;
      }
      for (int i = 0; i < 4; ++i) {
        if (own[i] >= bound_) keys_[at + block.Before(ballots[i])] = own[i];
        at += __popc(ballots[i]);
      }
      count_ += static_cast<int>(total);
      changed_ = changed_ || total > 0;
      return;
    }
  }

  /// Leaves the k first, for all threads to read. Called last, and by Take.
  SAELOOM_DEVICE void Cut(Block& block) {
    SAELOOM_BARRIER(1);
    if (count_ <= k_) return;
    if (count_ <= kRankCut) {
      CutByRank(block);
    } else {
      CutByRadix(block);
    }
    count_ = k_;
  }

  SAELOOM_DEVICE void Store(const Block& block, float* values, std::int32_t* ids) const {
    for (int i = block.thread; i < count_; i += block.threads) {
      values[i] = KeyValue(keys_[i]);
      ids[i] = KeyId(keys_[i]);
    }
  }

 private:
  SAELOOM_DEVICE void CutByRank(const Block& block) {
    constexpr int kOwn = kRankCut / kSelectThreads;
    Key own[kOwn] = {};
    int rank[kOwn] = {};
    for (int o = 0; o < kOwn; ++o) {
      if (32 * block.warp + o * block.threads >= count_) break;  // nothing for the whole warp
      const int i = block.thread + o * block.threads;
      if (i < count_) own[o] = keys_[i];
      rank[o] = RankOf(keys_, count_, own[o]);
    }
    SAELOOM_BARRIER(2);
    for (int o = 0; o < kOwn; ++o) {
      if (own[o] != 0 && rank[o] < k_) keys_[rank[o]] = own[o];
    }
    SAELOOM_BARRIER(3);
    bound_ = keys_[k_ - 1] + 1;
  }

  SAELOOM_DEVICE void CutByRadix(Block& block) {
    Key least = ~Key{0};
    Key most = 0;
    for (int i = block.thread; i < count_; i += block.threads) {
      least = keys_[i] < least ? keys_[i] : least;
      most = keys_[i] > most ? keys_[i] : most;
    }
    least = block.Min(least);
    most = block.Max(most);
    // Digits start where the keys begin to differ, so that they spread over the bins.
    const int bits = 64 - __clzll(static_cast<long long>(least ^ most));
    const Key* const keys = keys_;
    bound_ =
        block.Largest(count_, k_, bits, least, false, [keys](std::int64_t i) { return keys[i]; })
            .bound;
    int kept = 0;
    for (int base = 0; base < count_; base += block.threads) {
      const int i = base + block.thread;
      const Key key = i < count_ ? keys_[i] : 0;
      const unsigned ballot = __ballot_sync(kAllLanes, key >= bound_);
      std::int64_t total = 0;
      const int at = kept + static_cast<int>(block.WarpOffset(__popc(ballot), &total));
      if (key >= bound_) keys_[at + block.Before(ballot)] = key;  // at or before what was read
      kept += static_cast<int>(total);
    }
    SAELOOM_BARRIER(4);
  }

  Key* const keys_;
  const int k_;
  const int room_;
  int count_ = 0;
  Key bound_ = 1;
  bool changed_ = false;
};

}  // namespace sae::kernels::cuda
