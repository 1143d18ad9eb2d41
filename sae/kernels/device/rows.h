#pragma once
// How matrices lie in device memory: row-major, contiguous, no padding. Weights are split float32
// (split_float.h): `hi` holds bfloat16 bits that products and gathers read, `lo` the rest; the
// exact value is their join. Plain values that own nothing. C++17, no other header of the project.
// Sources: numerics 8; performance (e).

#include <cstdint>

namespace sae::kernels::device {

/// [rows, d]. lo null: hi alone is the value (where a kernel says that it reads hi only, or for
/// bfloat16 use).
struct WeightRows {
  const std::uint16_t* hi = nullptr;
  const std::int16_t* lo = nullptr;
};
struct MutableWeightRows {
  std::uint16_t* hi = nullptr;
  std::int16_t* lo = nullptr;
};

enum class MomentFormat { kF32, kBf16, kInt8 };

/// Adam's moments of [rows, d] in one format (moment_format.h). m, v: elements of float, uint16 or
/// uint8; scales: kInt8 only, [rows, blocks of a row].
struct MomentRows {
  MomentFormat format = MomentFormat::kF32;
  void* m = nullptr;
  void* v = nullptr;
  float* m_scales = nullptr;
  float* v_scales = nullptr;
};

/// Adam's constants of one step. They lie in device memory, so that a captured graph sees each
/// step's own (row_ops.h; float64, converted where used exactly as row_ops does).
struct AdamScalars {
  double lr, beta1, beta2, epsilon, correction1, correction2;
  std::int64_t t;  ///< Adam's step, from 1: keys stochastic rounding
};

}  // namespace sae::kernels::device
