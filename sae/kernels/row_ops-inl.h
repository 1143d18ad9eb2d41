// The bodies of row_ops.h for one instruction set; row_ops.cc compiles them once for each.
// Numerics: a row is cut into groups of 16 elements, whatever the width of a vector, its last group
// is filled up with zeros, and lane l of a sum gets element l of every group. Lanes are added in a
// fixed tree (8 + 8, 4 + 4, ...). Multiply-adds are fused where the processor has them. So the bits
// are the same on AVX2 and AVX-512, and may differ only on processors without fused multiply-add.
#if defined(SAE_KERNELS_ROW_OPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SAE_KERNELS_ROW_OPS_INL_H_
#undef SAE_KERNELS_ROW_OPS_INL_H_
#else
#define SAE_KERNELS_ROW_OPS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <hwy/highway.h>
#include <limits>

#include "sae/kernels/row_ops.h"

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t kGroup = 16;
constexpr int kPrefetchTo = 3;  // the first-level cache: 10% faster here than the second
template <class T>
using Tag = hn::CappedTag<T, kGroup>;
template <class T>
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Tag<T>()));
template <class T>
constexpr std::int64_t kVectors = kGroup / kLanes<T>;

/// 16 elements of a row, or 16 lanes of a sum.
template <class T>
struct Group {
  hn::Vec<Tag<T>> v[static_cast<std::size_t>(kVectors<T>)];
};

template <class T>
HWY_INLINE Group<T> Load(const T* p) {
  Group<T> out;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) out.v[i] = hn::LoadU(Tag<T>(), p + i * kLanes<T>);
  return out;
}
template <class T>
HWY_INLINE void Store(const Group<T>& a, T* p) {
  for (std::int64_t i = 0; i < kVectors<T>; ++i) hn::StoreU(a.v[i], Tag<T>(), p + i * kLanes<T>);
}
template <class T>
HWY_INLINE Group<T> Zeros() {
  Group<T> out;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) out.v[i] = hn::Zero(Tag<T>());
  return out;
}
template <class T>
HWY_INLINE Group<T> Times(T a, const Group<T>& x) {
  Group<T> out;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) out.v[i] = hn::Mul(hn::Set(Tag<T>(), a), x.v[i]);
  return out;
}
/// a x + y.
template <class T>
HWY_INLINE Group<T> MulAdd(T a, const Group<T>& x, const Group<T>& y) {
  Group<T> out;
  for (std::int64_t i = 0; i < kVectors<T>; ++i)
    out.v[i] = hn::MulAdd(hn::Set(Tag<T>(), a), x.v[i], y.v[i]);
  return out;
}

/// sum += x * y, by lanes.
template <class T>
HWY_INLINE void AddProduct(const Group<T>& x, const Group<T>& y, Group<T>* sum) {
  for (std::int64_t i = 0; i < kVectors<T>; ++i) sum->v[i] = hn::MulAdd(x.v[i], y.v[i], sum->v[i]);
}
/// The same in float64 for float rows.
HWY_INLINE void AddProduct(const Group<float>& x, const Group<float>& y, Group<double>* sum) {
  const Tag<double> wide;
#if HWY_TARGET == HWY_SCALAR
  for (std::int64_t i = 0; i < kGroup; ++i)
    sum->v[i] = hn::MulAdd(hn::PromoteTo(wide, x.v[i]), hn::PromoteTo(wide, y.v[i]), sum->v[i]);
#else
  const hn::Half<Tag<float>> half;
  for (std::int64_t i = 0; i < kVectors<float>; ++i) {
    sum->v[2 * i] = hn::MulAdd(hn::PromoteTo(wide, hn::LowerHalf(half, x.v[i])),
                               hn::PromoteTo(wide, hn::LowerHalf(half, y.v[i])), sum->v[2 * i]);
    sum->v[2 * i + 1] =
        hn::MulAdd(hn::PromoteTo(wide, hn::UpperHalf(half, x.v[i])),
                   hn::PromoteTo(wide, hn::UpperHalf(half, y.v[i])), sum->v[2 * i + 1]);
  }
#endif
}

template <class D, class V>
HWY_INLINE hn::TFromD<D> AddLanes(D tag, V v) {
#if HWY_TARGET == HWY_SCALAR
  return (void)tag, hn::GetLane(v);
#else
  using T = hn::TFromD<D>;
  if constexpr (hn::MaxLanes(tag) * sizeof(T) > 16) {
    const hn::Half<D> half;
    return AddLanes(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    constexpr std::size_t kCount = 16 / sizeof(T);
    HWY_ALIGN T lanes[kCount];
    hn::Store(v, tag, lanes);
    if constexpr (kCount == 4) return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    return lanes[0] + lanes[1];
  }
#endif
}
template <class T>
HWY_INLINE T AddLanes(Group<T> sum) {
  for (std::int64_t half = kVectors<T> / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) sum.v[i] = hn::Add(sum.v[i], sum.v[i + half]);
  }
  return AddLanes(Tag<T>(), sum.v[0]);
}

/// The last, incomplete group of a row: copied, filled up with zeros.
template <class T>
struct Tail {
  HWY_ALIGN T values[kGroup] = {};
  Tail(const T* p, std::int64_t count) { std::copy(p, p + count, values); }
  void CopyTo(T* p, std::int64_t count) const { std::copy(values, values + count, p); }
};

/// y += sum over the rows of a_q x_q, in order. Tiles of columns stay in registers.
template <class T, std::int64_t kTile>
HWY_INLINE void AddTile(const RowList<T>& rows, const RowList<T>& next, std::int64_t j, T* y) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  hn::Vec<Tag<T>> sum[static_cast<std::size_t>(kTile)];
  for (std::int64_t i = 0; i < kTile; ++i) sum[i] = hn::LoadU(Tag<T>(), y + j + i * kLanes<T>);
  for (std::int64_t q = 0; q < rows.count; ++q) {
    const T* x = rows.rows[q] + j;
    const auto a = hn::Set(Tag<T>(), rows.a[q]);
    for (std::int64_t i = 0; i < kTile; ++i)
      sum[i] = hn::MulAdd(a, hn::LoadU(Tag<T>(), x + i * kLanes<T>), sum[i]);
    if (q < next.count) {
      for (std::int64_t i = 0; i < kTile * kLanes<T>; i += kLine)
        __builtin_prefetch(next.rows[q] + j + i, 0, kPrefetchTo);
    }
  }
  for (std::int64_t q = rows.count; q < next.count; ++q) {
    for (std::int64_t i = 0; i < kTile * kLanes<T>; i += kLine)
      __builtin_prefetch(next.rows[q] + j + i, 0, kPrefetchTo);
  }
  for (std::int64_t i = 0; i < kTile; ++i) hn::StoreU(sum[i], Tag<T>(), y + j + i * kLanes<T>);
}

template <class T>
HWY_INLINE void AddRowsT(std::int64_t d, const RowList<T>& rows, const RowList<T>& next, T* y) {
  constexpr std::int64_t kTile = HWY_TARGET <= HWY_AVX3 ? 12 : 8;
  std::int64_t j = 0;
  for (; j + kTile * kLanes<T> <= d; j += kTile * kLanes<T>) AddTile<T, kTile>(rows, next, j, y);
  for (; j + kGroup <= d; j += kGroup) AddTile<T, kVectors<T>>(rows, next, j, y);
  if (j == d) return;
  Tail<T> sum(y + j, d - j);
  Group<T> g = Load(sum.values);
  for (std::int64_t q = 0; q < rows.count; ++q) {
    const Tail<T> x(rows.rows[q] + j, d - j);
    g = MulAdd(rows.a[q], Load(x.values), g);
  }
  Store(g, sum.values);
  sum.CopyTo(y + j, d - j);
}

/// kRows dot products with y at once: each lane's chain is that of one alone.
template <class T, std::int64_t kRows>
HWY_INLINE void DotSome(std::int64_t d, const T* const* rows, const T* y, T* out) {
  Group<T> sums[static_cast<std::size_t>(kRows)];
  for (std::int64_t q = 0; q < kRows; ++q) sums[q] = Zeros<T>();
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) {
    const Group<T> b = Load(y + j);
    for (std::int64_t q = 0; q < kRows; ++q) AddProduct(Load(rows[q] + j), b, &sums[q]);
  }
  if (j < d) {
    const Tail<T> b(y + j, d - j);
    for (std::int64_t q = 0; q < kRows; ++q) {
      const Tail<T> x(rows[q] + j, d - j);
      AddProduct(Load(x.values), Load(b.values), &sums[q]);
    }
  }
  for (std::int64_t q = 0; q < kRows; ++q) out[q] = AddLanes(sums[q]);
}

template <class T>
HWY_INLINE void DotRowsT(std::int64_t d, std::int64_t count, const T* const* rows, const T* y,
                         T* out) {
  std::int64_t q = 0;
  for (; q + 4 <= count; q += 4) DotSome<T, 4>(d, rows + q, y, out + q);
  for (; q < count; ++q) DotSome<T, 1>(d, rows + q, y, out + q);
}

template <class Sum, class T>
HWY_INLINE Sum DotT(std::int64_t d, const T* x, const T* y) {
  Group<Sum> sum = Zeros<Sum>();
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) AddProduct(Load(x + j), Load(y + j), &sum);
  if (j < d) {
    const Tail<T> a(x + j, d - j);
    const Tail<T> b(y + j, d - j);
    AddProduct(Load(a.values), Load(b.values), &sum);
  }
  return AddLanes(sum);
}

/// g . w and |w|^2 in one pass.
template <class T>
HWY_INLINE void RadialT(std::int64_t d, const T* w, const T* g, double* product, double* norm2) {
  Group<double> gw = Zeros<double>();
  Group<double> ww = Zeros<double>();
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) {
    const Group<T> a = Load(w + j);
    AddProduct(Load(g + j), a, &gw);
    AddProduct(a, a, &ww);
  }
  if (j < d) {
    const Tail<T> a(w + j, d - j);
    const Tail<T> b(g + j, d - j);
    AddProduct(Load(b.values), Load(a.values), &gw);
    AddProduct(Load(a.values), Load(a.values), &ww);
  }
  *product = AddLanes(gw);
  *norm2 = AddLanes(ww);
}

template <class T>
HWY_INLINE void ScaleT(std::int64_t d, T a, T* x) {
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) Store(Times(a, Load(x + j)), x + j);
  for (; j < d; ++j) x[j] *= a;
}

template <class T>
HWY_INLINE bool AllZeroT(std::int64_t d, const T* x) {
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) {
    const Group<T> g = Load(x + j);
    for (std::int64_t i = 0; i < kVectors<T>; ++i) {
      if (!hn::AllTrue(Tag<T>(), hn::Eq(g.v[i], hn::Zero(Tag<T>())))) return false;
    }
  }
  for (; j < d; ++j) {
    if (x[j] != T(0)) return false;
  }
  return true;
}

/// g = factor (x_hat - scale x); adds the squares of the differences to *sum.
template <class T>
HWY_INLINE Group<T> ErrorGroup(const Group<T>& x, T scale, const Group<T>& x_hat, T factor,
                               Group<double>* sum) {
  const Group<T> e = MulAdd(-scale, x, x_hat);
  AddProduct(e, e, sum);
  return Times(factor, e);
}
template <class T>
HWY_INLINE double ErrorT(std::int64_t d, const T* x, T scale, const T* x_hat, T factor, T* g) {
  Group<double> sum = Zeros<double>();
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup)
    Store(ErrorGroup(Load(x + j), scale, Load(x_hat + j), factor, &sum), g + j);
  if (j < d) {
    const Tail<T> a(x + j, d - j);
    Tail<T> b(x_hat + j, d - j);
    Store(ErrorGroup(Load(a.values), scale, Load(b.values), factor, &sum), b.values);
    b.CopyTo(g + j, d - j);
  }
  return AddLanes(sum);
}

template <class T>
struct AdamConstants {
  explicit AdamConstants(const Adam& a)
      : beta1(static_cast<T>(a.beta1)),
        beta2(static_cast<T>(a.beta2)),
        rest1(static_cast<T>(1 - a.beta1)),
        rest2(static_cast<T>(1 - a.beta2)),
        step(static_cast<T>(a.lr / a.correction1)),
        inverse2(static_cast<T>(1 / a.correction2)),
        epsilon(static_cast<T>(a.epsilon)) {}
  T beta1, beta2, rest1, rest2, step, inverse2, epsilon;
};

/// What is below the smallest normal number becomes 0; NaN stays.
template <class V>
HWY_INLINE V Flush(V v) {
  const hn::DFromV<V> tag;
  const auto smallest = hn::Set(tag, std::numeric_limits<hn::TFromV<V>>::min());
  return hn::IfThenZeroElse(hn::Lt(hn::Abs(v), smallest), v);
}

template <class T>
HWY_INLINE void MoveGroup(const AdamConstants<T>& a, const Group<T>& m, const Group<T>& v,
                          Group<T>* p) {
  const Tag<T> tag;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) {
    const auto root = hn::Sqrt(hn::Mul(v.v[i], hn::Set(tag, a.inverse2)));
    p->v[i] = hn::Sub(p->v[i], hn::Div(hn::Mul(hn::Set(tag, a.step), m.v[i]),
                                       hn::Add(root, hn::Set(tag, a.epsilon))));
  }
}
template <class T>
HWY_INLINE void AdamGroup(const AdamConstants<T>& a, const Group<T>& g, Group<T>* p, Group<T>* m,
                          Group<T>* v) {
  const Tag<T> tag;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) {
    m->v[i] =
        Flush(hn::MulAdd(hn::Set(tag, a.rest1), g.v[i], hn::Mul(hn::Set(tag, a.beta1), m->v[i])));
    v->v[i] = Flush(hn::MulAdd(hn::Set(tag, a.rest2), hn::Mul(g.v[i], g.v[i]),
                               hn::Mul(hn::Set(tag, a.beta2), v->v[i])));
  }
  MoveGroup(a, *m, *v, p);
}
template <class T>
HWY_INLINE void AdamGroup0(const AdamConstants<T>& a, Group<T>* p, Group<T>* m, Group<T>* v) {
  const Tag<T> tag;
  for (std::int64_t i = 0; i < kVectors<T>; ++i) {
    m->v[i] = Flush(hn::Mul(hn::Set(tag, a.beta1), m->v[i]));
    v->v[i] = Flush(hn::Mul(hn::Set(tag, a.beta2), v->v[i]));
  }
  MoveGroup(a, *m, *v, p);
}

/// One group of StepRow; the norms' terms are added to *sums.
template <class T, bool kMeasureRow>
HWY_INLINE void StepGroup(const RowStep<T>& s, const AdamConstants<T>& a, const T* g, T* w, T* m,
                          T* v, Group<double>* g2, Group<double>* w2) {
  Group<T> p = Load(w);
  Group<T> mm = Load(m);
  Group<T> vv = Load(v);
  const Group<T> grad = Times(s.factor, MulAdd(s.radial, p, Load(g)));
  AddProduct(grad, grad, g2);
  AdamGroup(a, Times(s.scale, grad), &p, &mm, &vv);
  Store(p, w);
  Store(mm, m);
  Store(vv, v);
  if constexpr (kMeasureRow) AddProduct(p, p, w2);
}

template <class T, bool kMeasureRow>
HWY_INLINE RowNorms StepRowT(std::int64_t d, const RowStep<T>& s, const Adam& adam, const T* g,
                             T* w, T* m, T* v, std::int64_t ahead) {
  const AdamConstants<T> a(adam);
  Group<double> g2 = Zeros<double>();
  Group<double> w2 = Zeros<double>();
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) {
    __builtin_prefetch(w + j + ahead, 1, kPrefetchTo);
    __builtin_prefetch(m + j + ahead, 1, kPrefetchTo);
    __builtin_prefetch(v + j + ahead, 1, kPrefetchTo);
    StepGroup<T, kMeasureRow>(s, a, g + j, w + j, m + j, v + j, &g2, &w2);
  }
  if (j < d) {
    const Tail<T> gt(g + j, d - j);
    Tail<T> wt(w + j, d - j);
    Tail<T> mt(m + j, d - j);
    Tail<T> vt(v + j, d - j);
    StepGroup<T, kMeasureRow>(s, a, gt.values, wt.values, mt.values, vt.values, &g2, &w2);
    wt.CopyTo(w + j, d - j);
    mt.CopyTo(m + j, d - j);
    vt.CopyTo(v + j, d - j);
  }
  return {AddLanes(g2), kMeasureRow ? AddLanes(w2) : 0.0};
}

template <class T>
HWY_INLINE void AdamRow0T(std::int64_t d, const Adam& adam, T* p, T* m, T* v) {
  const AdamConstants<T> a(adam);
  std::int64_t j = 0;
  for (; j < d; j += kGroup) {
    const std::int64_t count = std::min(kGroup, d - j);
    if (count == kGroup) {
      Group<T> pp = Load(p + j);
      Group<T> mm = Load(m + j);
      Group<T> vv = Load(v + j);
      AdamGroup0(a, &pp, &mm, &vv);
      Store(pp, p + j);
      Store(mm, m + j);
      Store(vv, v + j);
      continue;
    }
    Tail<T> pt(p + j, count);
    Tail<T> mt(m + j, count);
    Tail<T> vt(v + j, count);
    Group<T> pp = Load(pt.values);
    Group<T> mm = Load(mt.values);
    Group<T> vv = Load(vt.values);
    AdamGroup0(a, &pp, &mm, &vv);
    Store(pp, pt.values);
    Store(mm, mt.values);
    Store(vv, vt.values);
    pt.CopyTo(p + j, count);
    mt.CopyTo(m + j, count);
    vt.CopyTo(v + j, count);
  }
}

/// Stops where nothing is left.
template <class T>
HWY_INLINE Group<T> Decay(T beta2, std::int64_t steps, Group<T> g) {
  const Tag<T> tag;
  for (std::int64_t step = 0; step < steps; ++step) {
    auto any = hn::Zero(tag);
    for (std::int64_t i = 0; i < kVectors<T>; ++i) {
      g.v[i] = Flush(hn::Mul(hn::Set(tag, beta2), g.v[i]));
      any = hn::Or(any, g.v[i]);
    }
    if (hn::AllTrue(tag, hn::Eq(any, hn::Zero(tag)))) break;
  }
  return g;
}
template <class T>
HWY_INLINE void DecayRowT(std::int64_t d, const Adam& adam, std::int64_t steps, T* v) {
  const auto beta2 = static_cast<T>(adam.beta2);
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) Store(Decay(beta2, steps, Load(v + j)), v + j);
  if (j == d) return;
  Tail<T> tail(v + j, d - j);
  Store(Decay(beta2, steps, Load(tail.values)), tail.values);
  tail.CopyTo(v + j, d - j);
}

#define SAE_ROW_OPS(T, S)                                                                       \
  HWY_NOINLINE void AddRows##S(std::int64_t d, const RowList<T>& rows, const RowList<T>& next,  \
                               T* y) {                                                          \
    AddRowsT(d, rows, next, y);                                                                 \
  }                                                                                             \
  HWY_NOINLINE void DotRows##S(std::int64_t d, std::int64_t count, const T* const* rows,        \
                               const T* y, T* out) {                                            \
    DotRowsT(d, count, rows, y, out);                                                           \
  }                                                                                             \
  HWY_NOINLINE void Scale##S(std::int64_t d, T a, T* x) { ScaleT(d, a, x); }                    \
  HWY_NOINLINE double DotDouble##S(std::int64_t d, const T* x, const T* y) {                    \
    return DotT<double>(d, x, y);                                                               \
  }                                                                                             \
  HWY_NOINLINE void Radial##S(std::int64_t d, const T* w, const T* g, double* gw, double* ww) { \
    RadialT(d, w, g, gw, ww);                                                                   \
  }                                                                                             \
  HWY_NOINLINE bool AllZero##S(std::int64_t d, const T* x) { return AllZeroT(d, x); }           \
  HWY_NOINLINE double Error##S(std::int64_t d, const T* x, T scale, const T* x_hat, T factor,   \
                               T* g) {                                                          \
    return ErrorT(d, x, scale, x_hat, factor, g);                                               \
  }                                                                                             \
  HWY_NOINLINE RowNorms StepRow##S(std::int64_t d, const RowStep<T>& step, const Adam& adam,    \
                                   const T* g, T* w, T* m, T* v, std::int64_t ahead) {          \
    return step.measure_row ? StepRowT<T, true>(d, step, adam, g, w, m, v, ahead)               \
                            : StepRowT<T, false>(d, step, adam, g, w, m, v, ahead);             \
  }                                                                                             \
  HWY_NOINLINE void AdamRow0##S(std::int64_t d, const Adam& adam, T* p, T* m, T* v) {           \
    AdamRow0T(d, adam, p, m, v);                                                                \
  }                                                                                             \
  HWY_NOINLINE void DecayRow##S(std::int64_t d, const Adam& adam, std::int64_t steps, T* v) {   \
    DecayRowT(d, adam, steps, v);                                                               \
  }
SAE_ROW_OPS(float, F32)
SAE_ROW_OPS(double, F64)
#undef SAE_ROW_OPS

}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
