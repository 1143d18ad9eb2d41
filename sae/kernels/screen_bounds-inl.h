// Included once per instruction set by screen_bounds.cc; no include guard on purpose.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <hwy/highway.h>

#include "sae/kernels/screen_bounds.h"

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {
namespace {  // other files of this folder define their own loops in HWY_NAMESPACE
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using I = hn::RebindToSigned<F>;
using V = hn::Vec<F>;
using M = hn::Mask<F>;

HWY_INLINE std::int64_t Width() { return static_cast<std::int64_t>(hn::Lanes(F())); }
HWY_INLINE M First(std::int64_t count) {
  return hn::FirstN(F(), static_cast<std::size_t>(std::min(count, Width())));
}

/// Sums of squares in float64, two registers for one of floats (one where vectors are scalars).
class Squares {
 public:
#if HWY_TARGET == HWY_SCALAR
  using D = hn::Rebind<double, F>;
  HWY_INLINE Squares() : low_(hn::Zero(D())), high_(hn::Zero(D())) {}
  HWY_INLINE void Add(V v) { AddWide(hn::PromoteTo(D(), v), &low_); }
#else
  using D = hn::RepartitionToWide<F>;
  HWY_INLINE Squares() : low_(hn::Zero(D())), high_(hn::Zero(D())) {}
  HWY_INLINE void Add(V v) {
    AddWide(hn::PromoteTo(D(), hn::LowerHalf(hn::Half<F>(), v)), &low_);
    AddWide(hn::PromoteTo(D(), hn::UpperHalf(hn::Half<F>(), v)), &high_);
  }
#endif
  HWY_INLINE double Sum() const { return hn::GetLane(hn::SumOfLanes(D(), hn::Add(low_, high_))); }

 private:
  static HWY_INLINE void AddWide(hn::Vec<D> v, hn::Vec<D>* sum) { *sum = hn::MulAdd(v, v, *sum); }

  hn::Vec<D> low_;
  hn::Vec<D> high_;
};

inline RoundedNorms Round(std::int64_t d, const float* row, std::int64_t padded,
                          std::uint16_t* out) {
  const F f;
  const hn::RebindToUnsigned<F> u;
  const hn::Rebind<std::uint16_t, F> u16;
  const std::int64_t width = Width();
  const auto bias = hn::Set(u, 0x7fffU);
  const auto one = hn::Set(u, 1U);
  const auto mask = hn::Set(u, 0xffff0000U);
  Squares exact;
  Squares residual;
  const auto step = [&](V v, std::uint16_t* to) HWY_ATTR {
    const auto bits = hn::BitCast(u, v);
    const auto even = hn::And(hn::ShiftRight<16>(bits), one);
    const auto rounded = hn::And(hn::Add(bits, hn::Add(bias, even)), mask);
    const auto high = hn::BitCast(I(), hn::ShiftRight<16>(rounded));
    hn::StoreU(hn::DemoteTo(u16, high), u16, to);
    exact.Add(v);
    residual.Add(hn::Sub(v, hn::BitCast(f, rounded)));
  };
  std::int64_t j = 0;
  for (; j + width <= d; j += width) step(hn::LoadU(f, row + j), out + j);
  if (j < d) {
    HWY_ALIGN float in[hn::MaxLanes(f)] = {};
    HWY_ALIGN std::uint16_t last[hn::MaxLanes(f)] = {};
    std::copy(row + j, row + d, in);
    step(hn::Load(f, in), last);
    std::copy(last, last + (d - j), out + j);
  }
  std::fill(out + d, out + padded, std::uint16_t{0});
  return {exact.Sum(), residual.Sum()};
}

/// One row's bounds. kPerLatent: a floor for each.
template <bool kPerLatent>
class Sieve {
 public:
  Sieve(const ScreenedRow& row, const float* floors, float floor, const Bounded& out)
      : row_(row),
        floors_(floors),
        scale_(hn::Set(F(), row.scale)),
        slope_(hn::Set(F(), row.slope)),
        floor_(hn::Set(F(), floor)),
        out_(out) {}

  HWY_INLINE std::int64_t Run() {
    const std::int64_t width = Width();
    std::int64_t j = 0;
    for (; j + 4 * width <= row_.size; j += 4 * width) {
      const M m0 = In(j), m1 = In(j + width), m2 = In(j + 2 * width), m3 = In(j + 3 * width);
      if (HWY_LIKELY(hn::AllFalse(F(), hn::Or(hn::Or(m0, m1), hn::Or(m2, m3))))) continue;
      Append(j, Bits(m0) | Bits(m1) << width | Bits(m2) << 2 * width | Bits(m3) << 3 * width);
    }
    for (; j < row_.size; j += width) Append(j, Bits(hn::And(First(row_.size - j), In(j))));
    return count_;
  }

  HWY_INLINE V Value(std::int64_t j) const {
    return hn::MulAdd(scale_, hn::LoadU(F(), row_.z + j), hn::LoadU(F(), row_.c + j));
  }
  HWY_INLINE V Margin(std::int64_t j) const {
    return hn::MulAdd(slope_, hn::LoadU(F(), row_.q + j), hn::LoadU(F(), row_.g + j));
  }

 private:
  HWY_INLINE M In(std::int64_t j) const {
    const V upper = hn::Add(Value(j), Margin(j));
    if constexpr (kPerLatent) {
      // The floors are the caller's array: no loads behind its end.
      if (row_.size - j < Width()) return TailIn(upper, j);
      return hn::Ge(upper, hn::LoadU(F(), floors_ + j));
    }
    return hn::Ge(upper, floor_);
  }
  HWY_INLINE M TailIn(V upper, std::int64_t j) const {
    HWY_ALIGN float floors[hn::MaxLanes(F())] = {};
    std::copy(floors_ + j, floors_ + row_.size, floors);
    return hn::Ge(upper, hn::Load(F(), floors));
  }

  static HWY_INLINE std::uint64_t Bits(M mask) {
    std::uint64_t bits = 0;  // little endian, as all targets with vectors are
    hn::StoreMaskBits(F(), mask, reinterpret_cast<std::uint8_t*>(&bits));
    return bits;
  }

  // Candidates are few and far between: one at a time, no guess at how many costs least.
  HWY_INLINE void Append(std::int64_t j, std::uint64_t bits) {
    for (; bits != 0; bits &= bits - 1) {
      const std::int64_t at = j + std::countr_zero(bits);
      const hn::CappedTag<float, 1> one;
      const auto v = hn::MulAdd(hn::Set(one, row_.scale), hn::LoadU(one, row_.z + at),
                                hn::LoadU(one, row_.c + at));
      const auto m = hn::MulAdd(hn::Set(one, row_.slope), hn::LoadU(one, row_.q + at),
                                hn::LoadU(one, row_.g + at));
      hn::StoreU(hn::Add(v, m), one, out_.upper + count_);
      hn::StoreU(hn::Sub(v, m), one, out_.lower + count_);
      out_.ids[count_++] = static_cast<std::int32_t>(row_.first_id + at);
    }
  }

  const ScreenedRow row_;
  const float* const floors_;
  const V scale_;
  const V slope_;
  const V floor_;
  const Bounded out_;
  std::int64_t count_ = 0;
};

inline std::int64_t From(const ScreenedRow& row, float floor, const Bounded& out) {
  return Sieve<false>(row, nullptr, floor, out).Run();
}
inline std::int64_t Above(const ScreenedRow& row, const float* floors, const Bounded& out) {
  return Sieve<true>(row, floors, 0.0F, out).Run();
}

inline void Lower(const ScreenedRow& row, float* out) {
  const Sieve<false> sieve(row, nullptr, 0.0F, {});
  for (std::int64_t j = 0; j < row.size; j += Width()) {
    hn::StoreU(hn::Sub(sieve.Value(j), sieve.Margin(j)), F(), out + j);
  }
}

/// Unsigned integers in the order of the values. -0 lies just below +0.
HWY_INLINE std::uint32_t ToKey(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}
HWY_INLINE float FromKey(std::uint32_t key) {
  return std::bit_cast<float>((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}

HWY_INLINE std::int64_t CountFrom(const float* values, std::int64_t count, float floor) {
  const auto limit = hn::Set(F(), floor);
  const std::int64_t width = Width();
  std::size_t reach = 0;
  std::int64_t j = 0;
  for (; j + width <= count; j += width) {
    reach += hn::CountTrue(F(), hn::Ge(hn::LoadU(F(), values + j), limit));
  }
  for (; j < count; ++j) reach += values[j] >= floor ? 1 : 0;
  return static_cast<std::int64_t>(reach);
}

HWY_INLINE void MinMax(const float* values, std::int64_t count, float* least, float* most) {
  V low = hn::Set(F(), values[0]);
  V high = low;
  const std::int64_t width = Width();
  std::int64_t j = 0;
  for (; j + width <= count; j += width) {
    const V v = hn::LoadU(F(), values + j);
    low = hn::Min(low, v);
    high = hn::Max(high, v);
  }
  *least = hn::GetLane(hn::MinOfLanes(F(), low));
  *most = hn::GetLane(hn::MaxOfLanes(F(), high));
  for (; j < count; ++j) {
    *least = std::min(*least, values[j]);
    *most = std::max(*most, values[j]);
  }
}

inline float Reached(const float* values, std::int64_t count, std::int64_t k, std::int64_t surplus,
                     float floor) {
  float least = 0;
  float most = 0;
  MinMax(values, count, &least, &most);
  if (floor >= least) least = floor;
  std::uint32_t low = ToKey(least);      // at least k reach it
  std::uint32_t high = ToKey(most) + 1;  // nothing does
  while (high > low + 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    const std::int64_t reach = CountFrom(values, count, FromKey(middle));
    if (reach < k) {
      high = middle;
      continue;
    }
    low = middle;
    if (reach <= k + surplus) break;
  }
  return FromKey(low);
}

inline std::int64_t Keep(const Bounded& entries, std::int64_t count, float floor) {
  const auto limit = hn::Set(F(), floor);
  const std::int64_t width = Width();
  std::int64_t kept = 0;
  for (std::int64_t j = 0; j < count; j += width) {  // writes end where reading has been
    const V upper = hn::LoadU(F(), entries.upper + j);
    const V lower = hn::LoadU(F(), entries.lower + j);
    const auto ids = hn::LoadU(I(), entries.ids + j);
    const M in = hn::And(First(count - j), hn::Ge(upper, limit));
    hn::StoreU(hn::Compress(upper, in), F(), entries.upper + kept);
    hn::StoreU(hn::Compress(lower, in), F(), entries.lower + kept);
    hn::StoreU(hn::Compress(ids, hn::RebindMask(I(), in)), I(), entries.ids + kept);
    if (entries.tokens != nullptr) {
      const auto tokens = hn::LoadU(I(), entries.tokens + j);
      hn::StoreU(hn::Compress(tokens, hn::RebindMask(I(), in)), I(), entries.tokens + kept);
    }
    kept += static_cast<std::int64_t>(hn::CountTrue(F(), in));
  }
  return kept;
}

inline bool Ordered(const float* values, std::int64_t count) {
  const std::int64_t width = Width();
  std::int64_t j = 0;
  for (; j + width <= count; j += width) {
    const V v = hn::LoadU(F(), values + j);
    if (!hn::AllTrue(F(), hn::Eq(v, v))) return false;
  }
  for (; j < count; ++j) {
    if (!(values[j] == values[j])) return false;
  }
  return true;
}

}  // namespace
}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
