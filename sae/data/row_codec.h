#pragma once
// Rows between float32 and the dtype of a store. Pure functions. Both report the first value that
// is not allowed, so that nobody trains on NaN.

#include <cstdint>
#include <span>

#include "sae/base/dtype.h"

namespace sae::data {

/// Writes values.size() * SizeOf(dtype) bytes to `out`. Returns the index of the first value that
/// is not finite, or not finite after rounding to `dtype` (70000 in f16); -1 when all are. dtype:
/// kBf16, kF16, kF32.
std::int64_t EncodeValues(std::span<const float> values, DType dtype, std::byte* out);

/// values.size() values from `data` (no alignment needed). Returns the index of the first that is
/// not finite, or -1. All are converted in any case.
std::int64_t DecodeValues(const std::byte* data, DType dtype, std::span<float> values);

}  // namespace sae::data
