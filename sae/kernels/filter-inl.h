// Included once per instruction set by filter.cc; no include guard on purpose.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <hwy/highway.h>
#include <type_traits>

#include "sae/kernels/filter.h"

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The lanes of T, and as many integers of T's size, which carry ids.
template <class T>
using Lanes = hn::ScalableTag<T>;
template <class T>
using IdLanes = hn::RebindToSigned<Lanes<T>>;

template <class T>
HWY_INLINE void StoreIds(hn::Vec<IdLanes<T>> ids, std::int32_t* out) {
  if constexpr (sizeof(T) == sizeof(std::int32_t)) {
    hn::StoreU(ids, IdLanes<T>(), out);
  } else {
    const hn::Rebind<std::int32_t, IdLanes<T>> narrow;
    const hn::RebindToUnsigned<IdLanes<T>> wide;
    const hn::RebindToUnsigned<decltype(narrow)> bits;
    hn::StoreU(hn::BitCast(narrow, hn::TruncateTo(bits, hn::BitCast(wide, ids))), narrow, out);
  }
}

/// v as one operation, in whole vectors and tails alike.
template <class T>
HWY_INLINE hn::Vec<Lanes<T>> PreActivation(hn::Vec<Lanes<T>> scale, hn::Vec<Lanes<T>> z,
                                           hn::Vec<Lanes<T>> c) {
  return hn::MulAdd(scale, z, c);
}

/// A filter over one row. kStrict: v > bound, else v >= bound. kPerLatent: the bound is lower[j].
template <class T, bool kStrict, bool kPerLatent>
class RowFilter {
 public:
  using D = Lanes<T>;
  using V = hn::Vec<D>;
  using M = hn::Mask<D>;

  RowFilter(const FilterRow<T>& row, const T* lower, T floor, T* values, std::int32_t* ids)
      : row_(row),
        lower_(lower),
        scale_(hn::Set(D(), row.scale)),
        floor_(hn::Set(D(), floor)),
        lane_ids_(hn::Iota(IdLanes<T>(), 0)),
        values_(values),
        ids_(ids),
        nan_(hn::FirstN(D(), 0)) {}

  HWY_INLINE std::int64_t Run(bool* nan) {
    const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(D()));
    const std::int64_t size = row_.size;
    std::int64_t j = 0;
    for (; j + 4 * lanes <= size; j += 4 * lanes) {
      const V v0 = Load(j), v1 = Load(j + lanes), v2 = Load(j + 2 * lanes),
              v3 = Load(j + 3 * lanes);
      const M out01 = hn::And(Out(v0, j), Out(v1, j + lanes));
      const M out23 = hn::And(Out(v2, j + 2 * lanes), Out(v3, j + 3 * lanes));
      if (HWY_LIKELY(hn::AllTrue(D(), hn::And(out01, out23)))) continue;
      Append(v0, In(v0, j), Out(v0, j), j);
      Append(v1, In(v1, j + lanes), Out(v1, j + lanes), j + lanes);
      Append(v2, In(v2, j + 2 * lanes), Out(v2, j + 2 * lanes), j + 2 * lanes);
      Append(v3, In(v3, j + 3 * lanes), Out(v3, j + 3 * lanes), j + 3 * lanes);
    }
    for (; j + lanes <= size; j += lanes) {
      const V v = Load(j);
      Append(v, In(v, j), Out(v, j), j);
    }
    if (j < size) Tail(j, size - j);
    *nan = *nan || !hn::AllFalse(D(), nan_);
    return count_;
  }

 private:
  HWY_INLINE V Load(std::int64_t j) const {
    return PreActivation<T>(scale_, hn::LoadU(D(), row_.z + j), hn::LoadU(D(), row_.c + j));
  }
  HWY_INLINE V Bound(std::int64_t j) const {
    if constexpr (kPerLatent) return hn::LoadU(D(), lower_ + j);
    return floor_;
  }
  static HWY_INLINE M InBound(V v, V bound) {
    return kStrict ? hn::Gt(v, bound) : hn::Ge(v, bound);
  }
  static HWY_INLINE M OutOfBound(V v, V bound) {
    return kStrict ? hn::Le(v, bound) : hn::Lt(v, bound);
  }
  HWY_INLINE M In(V v, std::int64_t j) const { return InBound(v, Bound(j)); }
  HWY_INLINE M Out(V v, std::int64_t j) const { return OutOfBound(v, Bound(j)); }

  // Compressing in a register and storing a whole vector: the store form of the instruction is
  // microcoded on some processors.
  HWY_INLINE void Append(V v, M in, M out, std::int64_t j) {
    nan_ = hn::Or(nan_, hn::Not(hn::Or(in, out)));
    const IdLanes<T> id;
    const auto ids =
        hn::Add(lane_ids_, hn::Set(id, static_cast<hn::TFromD<IdLanes<T>>>(row_.first_id + j)));
    hn::StoreU(hn::Compress(v, in), D(), values_ + count_);
    StoreIds<T>(hn::Compress(ids, hn::RebindMask(id, in)), ids_ + count_);
    count_ += static_cast<std::int64_t>(hn::CountTrue(D(), in));
  }

  HWY_INLINE void Tail(std::int64_t j, std::int64_t rest) {
    HWY_ALIGN T z[hn::MaxLanes(D())] = {};
    HWY_ALIGN T c[hn::MaxLanes(D())] = {};
    HWY_ALIGN T lower[hn::MaxLanes(D())] = {};
    for (std::int64_t i = 0; i < rest; ++i) {
      z[i] = row_.z[j + i];
      c[i] = row_.c[j + i];
      if constexpr (kPerLatent) lower[i] = lower_[j + i];
    }
    const V v = PreActivation<T>(scale_, hn::Load(D(), z), hn::Load(D(), c));
    const V bound = kPerLatent ? hn::Load(D(), lower) : floor_;
    const M real = hn::FirstN(D(), static_cast<std::size_t>(rest));
    Append(v, hn::And(real, InBound(v, bound)), hn::Or(hn::Not(real), OutOfBound(v, bound)), j);
  }

  const FilterRow<T> row_;
  const T* const lower_;
  const V scale_;
  const V floor_;
  const hn::Vec<IdLanes<T>> lane_ids_;
  T* const values_;
  std::int32_t* const ids_;
  std::int64_t count_ = 0;
  M nan_;
};

template <class T>
std::int64_t From(const FilterRow<T>& row, T floor, T* values, std::int32_t* ids, bool* nan) {
  return RowFilter<T, false, false>(row, nullptr, floor, values, ids).Run(nan);
}

template <class T>
std::int64_t Above(const FilterRow<T>& row, const T* lower, T floor, T* values, std::int32_t* ids,
                   bool* nan) {
  if (lower != nullptr) return RowFilter<T, true, true>(row, lower, floor, values, ids).Run(nan);
  return RowFilter<T, true, false>(row, nullptr, floor, values, ids).Run(nan);
}

template <class T>
void Activate(const FilterRow<T>& row, T* out) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, row.scale);
  std::int64_t j = 0;
  for (; j + lanes <= row.size; j += lanes) {
    hn::StoreU(PreActivation<T>(scale, hn::LoadU(d, row.z + j), hn::LoadU(d, row.c + j)), d,
               out + j);
  }
  if (j == row.size) return;
  HWY_ALIGN T z[hn::MaxLanes(d)] = {};
  HWY_ALIGN T c[hn::MaxLanes(d)] = {};
  std::copy(row.z + j, row.z + row.size, z);
  std::copy(row.c + j, row.c + row.size, c);
  hn::Store(PreActivation<T>(scale, hn::Load(d, z), hn::Load(d, c)), d, z);
  std::copy(z, z + (row.size - j), out + j);
}

/// Unsigned integers in the order of the values; FromKey inverts. -0 lies just below +0.
template <class T>
using Key = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
HWY_INLINE Key<T> ToKey(T value) {
  constexpr Key<T> kSign = Key<T>(1) << (8 * sizeof(T) - 1);
  const auto bits = std::bit_cast<Key<T>>(value);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}
template <class T>
HWY_INLINE T FromKey(Key<T> key) {
  constexpr Key<T> kSign = Key<T>(1) << (8 * sizeof(T) - 1);
  return std::bit_cast<T>((key & kSign) != 0 ? key & ~kSign : ~key);
}

template <class T>
HWY_INLINE std::int64_t CountFrom(const T* values, std::int64_t size, T bound) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto limit = hn::Set(d, bound);
  std::size_t count = 0;
  std::int64_t j = 0;
  for (; j + 2 * lanes <= size; j += 2 * lanes) {
    count += hn::CountTrue(d, hn::Ge(hn::LoadU(d, values + j), limit));
    count += hn::CountTrue(d, hn::Ge(hn::LoadU(d, values + j + lanes), limit));
  }
  for (; j < size; j += lanes) {  // the slack makes whole loads right
    const auto real = hn::FirstN(d, static_cast<std::size_t>(std::min(lanes, size - j)));
    count += hn::CountTrue(d, hn::And(real, hn::Ge(hn::LoadU(d, values + j), limit)));
  }
  return static_cast<std::int64_t>(count);
}

template <class T>
HWY_INLINE void MinMax(const T* values, std::int64_t size, T* least, T* most) {
  const Lanes<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto low = hn::Set(d, values[0]);
  auto high = low;
  for (std::int64_t j = 0; j < size; j += lanes) {
    auto v = hn::LoadU(d, values + j);
    if (size - j < lanes) {
      v = hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(size - j)), v,
                         hn::Set(d, values[0]));
    }
    low = hn::Min(low, v);
    high = hn::Max(high, v);
  }
  *least = hn::GetLane(hn::MinOfLanes(d, low));
  *most = hn::GetLane(hn::MaxOfLanes(d, high));
}

template <class T>
HWY_INLINE hn::Vec<IdLanes<T>> LoadIds(const std::int32_t* ids) {
  if constexpr (sizeof(T) == sizeof(std::int32_t)) {
    return hn::LoadU(IdLanes<T>(), ids);
  } else {
    return hn::PromoteTo(IdLanes<T>(), hn::LoadU(hn::Rebind<std::int32_t, IdLanes<T>>(), ids));
  }
}

template <class T>
std::int64_t Keep(T* values, std::int32_t* ids, std::int32_t* tokens, std::int64_t size, T bound) {
  const Lanes<T> d;
  const IdLanes<T> di;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto limit = hn::Set(d, bound);
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < size; j += lanes) {  // writes end where reading has been
    const auto v = hn::LoadU(d, values + j);
    const auto real = hn::FirstN(d, static_cast<std::size_t>(std::min(lanes, size - j)));
    const auto keep = hn::And(real, hn::Ge(v, limit));
    const auto keep_id = hn::RebindMask(di, keep);
    hn::StoreU(hn::Compress(v, keep), d, values + count);
    StoreIds<T>(hn::Compress(LoadIds<T>(ids + j), keep_id), ids + count);
    if (tokens != nullptr)
      StoreIds<T>(hn::Compress(LoadIds<T>(tokens + j), keep_id), tokens + count);
    count += static_cast<std::int64_t>(hn::CountTrue(d, keep));
  }
  return count;
}

/// Drops the last `surplus` entries equal to `tie`.
template <class T>
void DropLastTies(T* values, std::int32_t* ids, std::int64_t size, T tie, std::int64_t surplus) {
  std::int64_t equal = 0;
  for (std::int64_t j = 0; j < size; ++j) equal += values[j] == tie ? 1 : 0;
  std::int64_t keep = equal - surplus;
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < size; ++j) {
    if (values[j] == tie && keep-- <= 0) continue;
    values[count] = values[j];
    ids[count++] = ids[j];
  }
}

/// Bisection over the order of the values, until at most `most` reach the bound. No branch depends
/// on a count, which nothing could predict.
template <class T>
std::int64_t Bound(const T* values, std::int64_t count, std::int64_t k, std::int64_t most,
                   T* bound) {
  T least, greatest;
  MinMax(values, count, &least, &greatest);
  Key<T> low = ToKey(least);          // `count` entries reach it
  Key<T> high = ToKey(greatest) + 1;  // fewer than k do
  std::int64_t reach = count;
  while (reach > most && high - low > 1) {
    const Key<T> middle = low + (high - low) / 2;
    const std::int64_t n = CountFrom(values, count, FromKey<T>(middle));
    const bool enough = n >= k;
    low = enough ? middle : low;
    reach = enough ? n : reach;
    high = enough ? high : middle;
  }
  *bound = FromKey<T>(low);
  return reach;
}

template <class T>
std::int64_t Cut(T* values, std::int32_t* ids, std::int64_t count, std::int64_t k,
                 std::int64_t most, T* floor) {
  T bound;
  Bound(values, count, k, most, &bound);
  std::int64_t kept = Keep(values, ids, nullptr, count, bound);
  if (kept > most) {
    DropLastTies(values, ids, kept, bound, kept - k);
    kept = k;
  }
  // The next value above the bound: a later one equal to it loses its tie. Above +infinity is NaN,
  // which nothing reaches: stay there, and let the next cut drop ties.
  const T next = FromKey<T>(ToKey(bound == T(0) ? T(0) : bound) + 1);
  *floor = next > bound ? next : bound;
  return kept;
}

template <class T>
void ByValue(const T* values, const std::int32_t* ids, std::int64_t n, T* out_values,
             std::int32_t* out_ids) {
  const Lanes<T> d;
  const IdLanes<T> di;
  using Id = hn::TFromD<IdLanes<T>>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN Id rank[hn::MaxLanes(d)];
  HWY_ALIGN T block[hn::MaxLanes(d)] = {};
  const auto one = hn::Set(di, Id(1));
  for (std::int64_t i = 0; i < n; i += lanes) {
    const std::int64_t here = std::min(lanes, n - i);
    std::copy(values + i, values + i + here, block);
    const auto own = hn::Load(d, block);
    const auto place = hn::Add(hn::Iota(di, 0), hn::Set(di, static_cast<Id>(i)));
    auto before = hn::Zero(di);
    const auto add = [&](auto mask) {
      before = hn::Add(before, hn::IfThenElseZero(hn::RebindMask(di, mask), one));
    };
    for (std::int64_t j = 0; j < i; ++j) add(hn::Ge(hn::Set(d, values[j]), own));
    for (std::int64_t j = i; j < i + here; ++j) {
      const auto other = hn::Set(d, values[j]);
      const auto earlier = hn::RebindMask(d, hn::Gt(place, hn::Set(di, static_cast<Id>(j))));
      add(hn::Or(hn::Gt(other, own), hn::And(hn::Eq(other, own), earlier)));
    }
    for (std::int64_t j = i + here; j < n; ++j) add(hn::Gt(hn::Set(d, values[j]), own));
    hn::Store(before, di, rank);
    for (std::int64_t q = 0; q < here; ++q) {
      out_values[rank[q]] = values[i + q];
      out_ids[rank[q]] = ids[i + q];
    }
  }
}

template <class T>
void ById(const T* values, const std::int32_t* ids, std::int64_t n, std::int32_t base,
          T* out_values, std::int32_t* out_ids) {
  const Lanes<std::int32_t> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN std::int32_t rank[hn::MaxLanes(d)] = {};
  const auto one = hn::Set(d, 1);
  for (std::int64_t i = 0; i < n; i += lanes) {
    const std::int64_t here = std::min(lanes, n - i);
    std::copy(ids + i, ids + i + here, rank);
    const auto own = hn::Load(d, rank);
    auto before = hn::Zero(d);
    for (std::int64_t j = 0; j < n; ++j) {
      before = hn::Add(before, hn::IfThenElseZero(hn::Lt(hn::Set(d, ids[j]), own), one));
    }
    hn::Store(before, d, rank);
    for (std::int64_t q = 0; q < here; ++q) {
      out_values[rank[q]] = values[i + q];
      out_ids[rank[q]] = ids[i + q] - base;
    }
  }
}

inline const char* Name() { return hwy::TargetName(HWY_TARGET); }
inline bool Fuses() { return HWY_NATIVE_FMA != 0; }

#define SAE_FILTER_FUNCTIONS(T, suffix)                                                          \
  std::int64_t From##suffix(const FilterRow<T>& row, T floor, T* values, std::int32_t* ids,      \
                            bool* nan) {                                                         \
    return From(row, floor, values, ids, nan);                                                   \
  }                                                                                              \
  std::int64_t Above##suffix(const FilterRow<T>& row, const T* lower, T floor, T* values,        \
                             std::int32_t* ids, bool* nan) {                                     \
    return Above(row, lower, floor, values, ids, nan);                                           \
  }                                                                                              \
  void Activate##suffix(const FilterRow<T>& row, T* out) { Activate(row, out); }                 \
  std::int64_t Cut##suffix(T* values, std::int32_t* ids, std::int64_t count, std::int64_t k,     \
                           std::int64_t most, T* floor) {                                        \
    return Cut(values, ids, count, k, most, floor);                                              \
  }                                                                                              \
  std::int64_t Bound##suffix(const T* values, std::int64_t count, std::int64_t k, T* bound) {    \
    return Bound(values, count, k, k, bound);                                                    \
  }                                                                                              \
  std::int64_t Keep##suffix(T* values, std::int32_t* ids, std::int32_t* tokens,                  \
                            std::int64_t count, T bound) {                                       \
    return Keep(values, ids, tokens, count, bound);                                              \
  }                                                                                              \
  void ByValue##suffix(const T* values, const std::int32_t* ids, std::int64_t n, T* out_values,  \
                       std::int32_t* out_ids) {                                                  \
    ByValue(values, ids, n, out_values, out_ids);                                                \
  }                                                                                              \
  void ById##suffix(const T* values, const std::int32_t* ids, std::int64_t n, std::int32_t base, \
                    T* out_values, std::int32_t* out_ids) {                                      \
    ById(values, ids, n, base, out_values, out_ids);                                             \
  }
SAE_FILTER_FUNCTIONS(float, F32)
SAE_FILTER_FUNCTIONS(double, F64)
#undef SAE_FILTER_FUNCTIONS

}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
