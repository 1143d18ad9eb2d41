#pragma once
// Inside this folder and tests/simt: what device_library.h refuses. C++17.

#include <cstdint>

#include "sae/kernels/device_library.h"

namespace sae::kernels::cuda {

template <class T>
bool Valid(const GemmParams<T>& p) {
  if (p.m < 0 || p.n < 0 || p.k < 1) return false;
  if (p.m == 0 || p.n == 0) return true;
  const std::int64_t a_columns = p.form == GemmForm::kTN ? p.m : p.k;
  const std::int64_t b_columns = p.form == GemmForm::kNT ? p.k : p.n;
  return p.a != nullptr && p.b != nullptr && p.c != nullptr && p.lda >= a_columns &&
         p.ldb >= b_columns && p.ldc >= p.n;
}

inline bool Valid(const SortPairsParams& p) {
  if (p.capacity < 0 || p.capacity >= (std::int64_t{1} << 31)) return false;
  if (p.key_bits < 1 || p.key_bits > 32) return false;
  if (p.capacity == 0) return true;
  return p.keys_in != nullptr && p.values_in != nullptr && p.keys_out != nullptr &&
         p.values_out != nullptr && p.scratch != nullptr &&
         p.scratch_bytes >= SortPairsScratchBytes(p.capacity);
}

template <class T>
bool Valid(const ExclusiveScanParams<T>& p) {
  return p.n >= 0 && p.n < (std::int64_t{1} << 31) && p.out != nullptr &&
         (p.n == 0 || p.in != nullptr) && p.scratch != nullptr &&
         p.scratch_bytes >= ExclusiveScanScratchBytes(p.n);
}

}  // namespace sae::kernels::cuda
