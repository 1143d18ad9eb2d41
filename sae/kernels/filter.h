#pragma once
// The SIMD loops of selection, one implementation per instruction set chosen at run time (Highway).
// A row of products becomes pre-activations v_j = scale * z_j + c_j as it is filtered: one fused
// multiply-add, the same in every lane and in the tail, so a value does not depend on its place.
// On instruction sets without FMA (FilterFuses() false) it is a product and a sum, each rounded.
// Outputs need room for all candidates and kFilterSlack more, for whole vectors are stored.
// No alignment is needed; outputs may not overlap inputs. NaN is never lost: it is no survivor, but
// sets `*nan`, which is left alone otherwise. -0 equals +0. Reentrant; no errors.

#include <cstdint>

namespace sae::kernels {

/// Slots past the last survivor that may be overwritten: at least one vector of any target.
inline constexpr std::int64_t kFilterSlack = 64;

/// The instruction set in use ("AVX3", "AVX2", ...).
const char* FilterTarget();
/// Whether scale * z + c is rounded once here.
bool FilterFuses();

/// One token's products with consecutive latents.
template <class T>
struct FilterRow {
  const T* z = nullptr;  ///< size
  const T* c = nullptr;  ///< size
  std::int64_t size = 0;
  T scale = T(1);
  std::int32_t first_id = 0;  ///< id of element 0
};

/// Writes v_j and first_id + j of every v_j >= floor, ascending; returns how many.
template <class T>
std::int64_t FilterFrom(const FilterRow<T>& row, T floor, T* values, std::int32_t* ids, bool* nan);

/// Of every v_j > lower[j]; > floor for all where `lower` is null. A NaN bound counts as NaN.
template <class T>
std::int64_t FilterAbove(const FilterRow<T>& row, const T* lower, T floor, T* values,
                         std::int32_t* ids, bool* nan);

/// v_j of the whole row.
template <class T>
void PreActivations(const FilterRow<T>& row, T* out);

/// Keeps the k largest of `count` >= k >= 1 entries, and perhaps more, but not over `most` >= k, in
/// place and in their order; of equal ones the first. Returns how many and sets `*floor`: a later
/// value below it cannot be among the k first. No NaN. This function and the two after it read and
/// write up to kFilterSlack slots past `count`.
template <class T>
std::int64_t CutToTop(T* values, std::int32_t* ids, std::int64_t count, std::int64_t k,
                      std::int64_t most, T* floor);
template <class T>
std::int64_t CutToTop(T* values, std::int32_t* ids, std::int64_t count, std::int64_t k, T* floor) {
  return CutToTop(values, ids, count, k, k, floor);
}

/// The largest bound, up to ties, that at least k of the values reach: exactly k where that is
/// possible, else it is the k-th value and has ties. Returns how many reach it. 1 <= k <= count, no
/// NaN.
template <class T>
std::int64_t BoundOfTop(const T* values, std::int64_t count, std::int64_t k, T* bound);

/// Keeps the entries with value >= bound, in their order; returns how many. `tokens` may be null.
template <class T>
std::int64_t KeepFrom(T* values, std::int32_t* ids, std::int32_t* tokens, std::int64_t count,
                      T bound);

/// Copies n entries in the order: larger value, then earlier. O(n^2) on whole vectors: for n up to
/// kRankSort faster than sorting.
inline constexpr std::int64_t kRankSort = 1024;
template <class T>
void RankByValue(const T* values, const std::int32_t* ids, std::int64_t n, T* out_values,
                 std::int32_t* out_ids);

/// Copies n entries by ascending id, ids distinct, minus `base`. O(n^2) likewise.
template <class T>
void RankById(const T* values, const std::int32_t* ids, std::int64_t n, std::int32_t base,
              T* out_values, std::int32_t* out_ids);

}  // namespace sae::kernels
