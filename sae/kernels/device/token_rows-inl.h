#pragma once
// Decoder rows of one token's entries, read by a whole block: each thread owns adjacent columns
// (device::ShapeOfToken) of every row, in one load where addresses allow it, and asks for many rows
// before it needs the first. For kernels alone.

#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/row_visit-inl.h"

namespace sae::kernels::cuda {

/// Entries whose dot products a block computes at a time: one for each lane of a warp.
inline constexpr int kBatch = 32;
/// Of a batch's entries, which are read or not at all.
inline constexpr int kRun = 8;

/// Adjacent elements of two bytes, two a word, the first in its low half: half the registers of
/// single ones.
template <int kWords>
struct alignas(4 * kWords) [[gnu::may_alias]] Words {
  std::uint32_t of[kWords];
};

/// Elements j .. of row `row` of a matrix with d columns. Wide addresses are one multiplication and
/// addition each, from what all rows share: row and 2 d are below 2^32.
template <int kWords, bool kWide, class T>
SAELOOM_DEVICE inline Words<kWords> LoadWords(const T* matrix, std::int32_t row, std::int64_t j,
                                              std::int64_t d) {
  if constexpr (kWide) {
    const auto* const first = reinterpret_cast<const unsigned char*>(matrix + j);
    const auto bytes = static_cast<std::uint32_t>(sizeof(T) * d);
    const std::uint64_t offset =
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(row)) * bytes;
    return *reinterpret_cast<const Words<kWords>*>(first + offset);
  }
  const Pack<T, 2 * kWords> pack = LoadPack<2 * kWords, false>(matrix + row * d, j, d);
  Words<kWords> words;
  for (int i = 0; i < kWords; ++i) {
    words.of[i] = static_cast<std::uint16_t>(pack.of[2 * i]) |
                  static_cast<std::uint32_t>(static_cast<std::uint16_t>(pack.of[2 * i + 1])) << 16;
  }
  return words;
}

template <int kColumns>
bool CanBeWide(std::int64_t d) {
  return d % kColumns == 0 && d < std::int64_t{1} << 31;
}

/// What was made of the words so far is not kept.
template <int kWords>
SAELOOM_DEVICE inline void Forget(Words<kWords>* words) {
  SAELOOM_UNROLL
  for (int i = 0; i < kWords; ++i) SAELOOM_FORGET(words->of[i]);
}

/// A thread's columns j .. of a row, in two registers.
struct HighColumns {
  static constexpr int kColumns = device::kHighColumns;
  using Stored = Words<kColumns / 2>;
  const std::uint16_t* hi;

  template <bool kWide>
  SAELOOM_DEVICE Stored Load(std::int32_t row, std::int64_t j, std::int64_t d) const {
    return LoadWords<kColumns / 2, kWide>(hi, row, j, d);
  }
  SAELOOM_DEVICE static float Value(const Stored& stored, int i) {
    const std::uint32_t word = stored.of[i / 2];
    return __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000U);
  }
  SAELOOM_DEVICE static void Renew(Stored* stored) { Forget(stored); }
  bool Wide(std::int64_t d) const { return CanBeWide<kColumns>(d) && Aligned(hi, sizeof(Stored)); }
};
struct JoinedColumns {
  static constexpr int kColumns = device::kJoinedColumns;
  struct Stored {
    Words<kColumns / 2> hi, lo;
  };
  device::WeightRows w;

  template <bool kWide>
  SAELOOM_DEVICE Stored Load(std::int32_t row, std::int64_t j, std::int64_t d) const {
    return {LoadWords<kColumns / 2, kWide>(w.hi, row, j, d),
            LoadWords<kColumns / 2, kWide>(w.lo, row, j, d)};
  }
  SAELOOM_DEVICE static float Value(const Stored& stored, int i) {
    const int shift = i % 2 * 16;
    return Join(static_cast<std::uint16_t>(stored.hi.of[i / 2] >> shift),
                static_cast<std::int16_t>(stored.lo.of[i / 2] >> shift));
  }
  SAELOOM_DEVICE static void Renew(Stored* stored) {
    Forget(&stored->hi);
    Forget(&stored->lo);
  }
  bool Wide(std::int64_t d) const {
    return CanBeWide<kColumns>(d) && Aligned(w.hi, sizeof(Stored::hi)) &&
           Aligned(w.lo, sizeof(Stored::lo));
  }
};

/// What the gradients of a token's entries need of LatentGradientParams beside the rows: without
/// its groups, which no thread shall have in memory of its own.
struct TokenGradient {
  device::DeviceCodes codes;
  const float* row_scale;
  const float* h;
  float* u;
  std::int64_t d;
};

/// In shared memory, for all threads of the block: kBatch of them. Those behind a batch's end equal
/// its last: their rows are read with the run's others, and count for nothing.
struct Entry {
  std::int32_t row;
  float factor;  ///< what the row is multiplied by
  std::int32_t group;
};

/// `entries`, such that a loop over columns reads them anew in each turn: there are too many to
/// lie in registers from its beginning.
SAELOOM_DEVICE inline const Entry* ReadAnew(const Entry* entries) {
  std::uint32_t none = 0;
  SAELOOM_FORGET(none);
  return entries + none;
}

SAELOOM_DEVICE inline int GroupOf(const device::Groups& groups, std::int32_t id) {
  int g = 0;
  while (g < groups.count - 1 && id >= groups.last[g]) ++g;
  return g;
}

SAELOOM_DEVICE inline float CodeFactor(const device::DecodeParams& p, std::int32_t e,
                                       std::int32_t id) {
  return p.row_scale == nullptr ? p.f[e] : p.f[e] * p.row_scale[id];
}

/// sums[i] of column j + i: the entries [begin, end), ascending, after what is there. A run's
/// entries behind the end are read as its last, and count for nothing.
template <bool kWide, class Columns>
SAELOOM_DEVICE inline void AddEntries(const device::DecodeParams& p, const Columns& columns,
                                      std::int32_t begin, std::int32_t end, std::int64_t j,
                                      float (&sums)[Columns::kColumns]) {
  for (; begin < end; begin += kRun) {
    std::int32_t ids[kRun];
    float factors[kRun];
    typename Columns::Stored rows[kRun];
    const auto entry = [&](int r) { return begin + r < end ? begin + r : end - 1; };
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) ids[r] = p.codes.ids[entry(r)];
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) rows[r] = columns.template Load<kWide>(ids[r], j, p.d);
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) factors[r] = CodeFactor(p, entry(r), ids[r]);
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) {
      if (begin + r >= end) continue;
      SAELOOM_UNROLL
      for (int i = 0; i < Columns::kColumns; ++i)
        sums[i] = __fmaf_rn(factors[r], Columns::Value(rows[r], i), sums[i]);
    }
  }
}

/// The same for a batch of `count`, whose rows' columns stay in the thread's registers.
template <bool kWide, class Columns>
SAELOOM_DEVICE inline void AddKept(const Columns& columns, const Entry* entries, int count,
                                   std::int64_t j, std::int64_t d,
                                   typename Columns::Stored (&kept)[kBatch],
                                   float (&sums)[Columns::kColumns]) {
  SAELOOM_UNROLL
  for (int first = 0; first < kBatch; first += kRun) {
    if (first >= count) continue;
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r)
      kept[first + r] = columns.template Load<kWide>(entries[first + r].row, j, d);
  }
  SAELOOM_UNROLL
  for (int first = 0; first < kBatch; first += kRun) {
    if (first >= count) continue;
    float factors[kRun];  // read before the chain waits for them
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) factors[r] = entries[first + r].factor;
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) {
      if (first + r >= count) continue;
      SAELOOM_UNROLL
      for (int i = 0; i < Columns::kColumns; ++i)
        sums[i] = __fmaf_rn(factors[r], Columns::Value(kept[first + r], i), sums[i]);
    }
  }
}

/// dots[e] of the gradient and of the row that AddKept has left.
template <class Columns>
SAELOOM_DEVICE inline void DotKept(typename Columns::Stored (&kept)[kBatch], int count,
                                   const float (&gradient)[Columns::kColumns],
                                   float (&dots)[kBatch]) {
  SAELOOM_UNROLL
  for (int first = 0; first < kBatch; first += kRun) {
    if (first >= count) continue;
    SAELOOM_UNROLL
    for (int e = first; e < first + kRun; ++e) {
      Columns::Renew(&kept[e]);  // unpacked values take more registers, or as many
      SAELOOM_UNROLL
      for (int i = 0; i < Columns::kColumns; ++i)
        dots[e] = __fmaf_rn(Columns::Value(kept[e], i), gradient[i], dots[e]);
    }
  }
}

/// dots[e] of the calling thread's columns j .. of h and of each entry's row.
template <bool kWide, class Columns>
SAELOOM_DEVICE inline void DotEntries(const TokenGradient& p, std::int64_t token,
                                      const Columns& columns, const Entry* entries, int count,
                                      std::int64_t j, float (&dots)[kBatch]) {
  constexpr int kColumns = Columns::kColumns;
  int group = -1;
  Pack<float, kColumns> h = {};
  SAELOOM_UNROLL
  for (int first = 0; first < kBatch; first += kRun) {
    if (first >= count) continue;
    typename Columns::Stored rows[kRun];
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r)
      rows[r] = columns.template Load<kWide>(entries[first + r].row, j, p.d);
    SAELOOM_UNROLL
    for (int r = 0; r < kRun; ++r) {
      const int e = first + r;
      if (entries[e].group != group) {
        group = entries[e].group;
        h = LoadPack<kColumns, kWide>(p.h + (group * p.codes.tokens + token) * p.d, j, p.d);
      }
      SAELOOM_UNROLL
      for (int i = 0; i < kColumns; ++i)
        dots[e] = __fmaf_rn(Columns::Value(rows[r], i), h.of[i], dots[e]);
    }
  }
}

/// values[l] summed over the warp's lanes, in WarpSum's tree, to lane l: at each step a lane gives
/// away the half of its values that belongs to the other one.
template <int kHalf = 16>
SAELOOM_DEVICE inline float TransposedWarpSum(float (&values)[32]) {
  const bool upper = (static_cast<int>(threadIdx.x) & kHalf) != 0;
  SAELOOM_UNROLL
  for (int i = 0; i < kHalf; ++i) {
    const float given = upper ? values[i] : values[i + kHalf];
    const float own = upper ? values[i + kHalf] : values[i];
    values[i] = own + __shfl_xor_sync(kAllLanes, given, kHalf);
  }
  if constexpr (kHalf > 1) return TransposedWarpSum<kHalf / 2>(values);
  return values[0];
}

}  // namespace sae::kernels::cuda
