#include "sae/kernels/filter.h"

#include "sae/base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/filter-inl.h"
#include <hwy/foreach_target.h>

#include "sae/kernels/filter-inl.h"

#if HWY_ONCE
namespace sae::kernels {

HWY_EXPORT(Name);
HWY_EXPORT(Fuses);
HWY_EXPORT(FromF32);
HWY_EXPORT(FromF64);
HWY_EXPORT(AboveF32);
HWY_EXPORT(AboveF64);
HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateF64);
HWY_EXPORT(CutF32);
HWY_EXPORT(CutF64);
HWY_EXPORT(BoundF32);
HWY_EXPORT(BoundF64);
HWY_EXPORT(KeepF32);
HWY_EXPORT(KeepF64);
HWY_EXPORT(ByValueF32);
HWY_EXPORT(ByValueF64);
HWY_EXPORT(ByIdF32);
HWY_EXPORT(ByIdF64);

namespace {

void CheckTop(std::int64_t k, std::int64_t count) {
  SAE_CHECK_MSG(1 <= k && k <= count, "%ld of %ld", static_cast<long>(k), static_cast<long>(count));
}

}  // namespace

const char* FilterTarget() { return HWY_DYNAMIC_DISPATCH(Name)(); }
bool FilterFuses() { return HWY_DYNAMIC_DISPATCH(Fuses)(); }

template <>
std::int64_t FilterFrom(const FilterRow<float>& row, float floor, float* values, std::int32_t* ids,
                        bool* nan) {
  return HWY_DYNAMIC_DISPATCH(FromF32)(row, floor, values, ids, nan);
}
template <>
std::int64_t FilterFrom(const FilterRow<double>& row, double floor, double* values,
                        std::int32_t* ids, bool* nan) {
  return HWY_DYNAMIC_DISPATCH(FromF64)(row, floor, values, ids, nan);
}

template <>
std::int64_t FilterAbove(const FilterRow<float>& row, const float* lower, float floor,
                         float* values, std::int32_t* ids, bool* nan) {
  return HWY_DYNAMIC_DISPATCH(AboveF32)(row, lower, floor, values, ids, nan);
}
template <>
std::int64_t FilterAbove(const FilterRow<double>& row, const double* lower, double floor,
                         double* values, std::int32_t* ids, bool* nan) {
  return HWY_DYNAMIC_DISPATCH(AboveF64)(row, lower, floor, values, ids, nan);
}

template <>
void PreActivations(const FilterRow<float>& row, float* out) {
  HWY_DYNAMIC_DISPATCH(ActivateF32)(row, out);
}
template <>
void PreActivations(const FilterRow<double>& row, double* out) {
  HWY_DYNAMIC_DISPATCH(ActivateF64)(row, out);
}

template <>
std::int64_t CutToTop(float* values, std::int32_t* ids, std::int64_t count, std::int64_t k,
                      std::int64_t most, float* floor) {
  CheckTop(k, count);
  CheckTop(k, most);
  return HWY_DYNAMIC_DISPATCH(CutF32)(values, ids, count, k, most, floor);
}
template <>
std::int64_t CutToTop(double* values, std::int32_t* ids, std::int64_t count, std::int64_t k,
                      std::int64_t most, double* floor) {
  CheckTop(k, count);
  CheckTop(k, most);
  return HWY_DYNAMIC_DISPATCH(CutF64)(values, ids, count, k, most, floor);
}

template <>
std::int64_t BoundOfTop(const float* values, std::int64_t count, std::int64_t k, float* bound) {
  CheckTop(k, count);
  return HWY_DYNAMIC_DISPATCH(BoundF32)(values, count, k, bound);
}
template <>
std::int64_t BoundOfTop(const double* values, std::int64_t count, std::int64_t k, double* bound) {
  CheckTop(k, count);
  return HWY_DYNAMIC_DISPATCH(BoundF64)(values, count, k, bound);
}

template <>
std::int64_t KeepFrom(float* values, std::int32_t* ids, std::int32_t* tokens, std::int64_t count,
                      float bound) {
  return HWY_DYNAMIC_DISPATCH(KeepF32)(values, ids, tokens, count, bound);
}
template <>
std::int64_t KeepFrom(double* values, std::int32_t* ids, std::int32_t* tokens, std::int64_t count,
                      double bound) {
  return HWY_DYNAMIC_DISPATCH(KeepF64)(values, ids, tokens, count, bound);
}

template <>
void RankByValue(const float* values, const std::int32_t* ids, std::int64_t n, float* out_values,
                 std::int32_t* out_ids) {
  HWY_DYNAMIC_DISPATCH(ByValueF32)(values, ids, n, out_values, out_ids);
}
template <>
void RankByValue(const double* values, const std::int32_t* ids, std::int64_t n, double* out_values,
                 std::int32_t* out_ids) {
  HWY_DYNAMIC_DISPATCH(ByValueF64)(values, ids, n, out_values, out_ids);
}

template <>
void RankById(const float* values, const std::int32_t* ids, std::int64_t n, std::int32_t base,
              float* out_values, std::int32_t* out_ids) {
  HWY_DYNAMIC_DISPATCH(ByIdF32)(values, ids, n, base, out_values, out_ids);
}
template <>
void RankById(const double* values, const std::int32_t* ids, std::int64_t n, std::int32_t base,
              double* out_values, std::int32_t* out_ids) {
  HWY_DYNAMIC_DISPATCH(ByIdF64)(values, ids, n, base, out_values, out_ids);
}

}  // namespace sae::kernels
#endif  // HWY_ONCE
