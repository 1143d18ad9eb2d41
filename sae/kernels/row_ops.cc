#include "sae/kernels/row_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/row_ops-inl.h"
#include <hwy/foreach_target.h>

#include "sae/kernels/row_ops-inl.h"

#if HWY_ONCE

namespace sae::kernels {

#define SAE_EXPORT(NAME) \
  HWY_EXPORT(NAME##F32); \
  HWY_EXPORT(NAME##F64)
SAE_EXPORT(AddRows);
SAE_EXPORT(DotRows);
SAE_EXPORT(Scale);
SAE_EXPORT(DotDouble);
SAE_EXPORT(Radial);
SAE_EXPORT(AllZero);
SAE_EXPORT(Error);
SAE_EXPORT(StepRow);
SAE_EXPORT(AdamRow0);
SAE_EXPORT(DecayRow);
#undef SAE_EXPORT

namespace {

template <class T>
bool Moves(std::int64_t d, T beta1, const T* m) {
  for (std::int64_t j = 0; j < d; ++j) {
    if (!(std::abs(beta1 * m[j]) < std::numeric_limits<T>::min())) return true;
  }
  return false;
}

}  // namespace

#define SAE_ROW_OPS(T, S)                                                                        \
  void AddRows(std::int64_t d, const RowList<T>& rows, const RowList<T>& next, T* y) {           \
    HWY_DYNAMIC_DISPATCH(AddRows##S)(d, rows, next, y);                                          \
  }                                                                                              \
  void Axpy(std::int64_t d, T a, const T* x, T* y) { AddRows(d, RowList<T>{1, &a, &x}, {}, y); } \
  void DotRows(std::int64_t d, std::int64_t count, const T* const* rows, const T* y, T* out) {   \
    HWY_DYNAMIC_DISPATCH(DotRows##S)(d, count, rows, y, out);                                    \
  }                                                                                              \
  T Dot(std::int64_t d, const T* x, const T* y) {                                                \
    T out = 0;                                                                                   \
    DotRows(d, 1, &x, y, &out);                                                                  \
    return out;                                                                                  \
  }                                                                                              \
  void Scale(std::int64_t d, T a, T* x) { HWY_DYNAMIC_DISPATCH(Scale##S)(d, a, x); }             \
  double DotDouble(std::int64_t d, const T* x, const T* y) {                                     \
    return HWY_DYNAMIC_DISPATCH(DotDouble##S)(d, x, y);                                          \
  }                                                                                              \
  double SumOfSquares(std::int64_t d, const T* x) { return DotDouble(d, x, x); }                 \
  bool AllZero(std::int64_t d, const T* x) { return HWY_DYNAMIC_DISPATCH(AllZero##S)(d, x); }    \
  double ErrorRow(std::int64_t d, const T* x, T scale, const T* x_hat, T factor, T* g) {         \
    return HWY_DYNAMIC_DISPATCH(Error##S)(d, x, scale, x_hat, factor, g);                        \
  }                                                                                              \
  double RadialFactor(std::int64_t d, const T* w, const T* g) {                                  \
    double product = 0;                                                                          \
    double norm2 = 0;                                                                            \
    HWY_DYNAMIC_DISPATCH(Radial##S)(d, w, g, &product, &norm2);                                  \
    return norm2 > 0 ? -product / norm2 : 0.0;                                                   \
  }                                                                                              \
  void ProjectRow(std::int64_t d, const T* w, T* g) {                                            \
    Axpy(d, static_cast<T>(RadialFactor(d, w, g)), w, g);                                        \
  }                                                                                              \
  void RenormaliseRow(std::int64_t d, T* w) {                                                    \
    Scale(d, static_cast<T>(InverseNorm(SumOfSquares(d, w))), w);                                \
  }                                                                                              \
  RowNorms StepRow(std::int64_t d, const RowStep<T>& step, const Adam& adam, const T* g, T* w,   \
                   T* m, T* v, std::int64_t ahead) {                                             \
    return HWY_DYNAMIC_DISPATCH(StepRow##S)(d, step, adam, g, w, m, v, ahead);                   \
  }                                                                                              \
  void AdamRow(std::int64_t d, const Adam& adam, const T* g, T* p, T* m, T* v) {                 \
    StepRow(d, RowStep<T>{}, adam, g, p, m, v, 0);                                               \
  }                                                                                              \
  void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, T* p, T* m, T* v) {              \
    HWY_DYNAMIC_DISPATCH(AdamRow0##S)(d, adam, p, m, v);                                         \
  }                                                                                              \
  bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const T* m) {                      \
    return Moves(d, static_cast<T>(adam.beta1), m);                                              \
  }                                                                                              \
  void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, T* v) {                    \
    HWY_DYNAMIC_DISPATCH(DecayRow##S)(d, adam, steps, v);                                        \
  }
SAE_ROW_OPS(float, F32)
SAE_ROW_OPS(double, F64)
#undef SAE_ROW_OPS

double InverseNorm(double norm2) {
  constexpr double kFloor = 0x1.0p-24;
  return 1 / std::max(std::sqrt(norm2), kFloor);
}

Adam Adam::At(std::int64_t t, double lr, double beta1, double beta2, double epsilon) {
  const auto steps = static_cast<double>(t);
  return {lr, beta1, beta2, epsilon, 1 - std::pow(beta1, steps), 1 - std::pow(beta2, steps)};
}

}  // namespace sae::kernels
#endif  // HWY_ONCE
