#pragma once
// Rows of moments kept as bfloat16 or 8-bit codes (moment_format.h): read into T before a row's
// step, rounded and written after it. The bits written depend on the values, the seed, the step,
// the latent's global id, the column and the matrix alone; the same on AVX2 and AVX-512. Borrows
// all memory. Rows of different latents may be written by different threads. No errors; NaN
// propagates.

#include <cstdint>
#include <functional>

#include "sae/kernels/moment_format.h"

namespace sae::kernels {

/// The moments of one matrix, latents x d, row-major.
struct ReducedMatrix {
  std::int64_t d = 0;
  void* m = nullptr;  ///< kBf16: std::uint16_t; kInt8: std::uint8_t
  void* v = nullptr;
  float* m_scale = nullptr;  ///< kInt8: latents x MomentBlocks(d)
  float* v_scale = nullptr;
};

struct ReducedMoments {
  MomentFormat format = MomentFormat::kBf16;  ///< not kF32
  MomentRounding rounding = MomentRounding::kStochastic;
  std::uint64_t seed = 0;
  std::function<std::int64_t(std::int64_t)> global_id;  ///< of a local latent; any thread
  ReducedMatrix encoder, decoder;
  const ReducedMatrix& of(MomentMatrix matrix) const {
    return matrix == MomentMatrix::kEncoder ? encoder : decoder;
  }
};

/// m and v: d values each. T: float; double for tests, whose values pass through float32.
template <class T>
void LoadMoments(const ReducedMoments& moments, MomentMatrix matrix, std::int64_t latent, T* m,
                 T* v);
/// `step`: Adam's, from 1.
template <class T>
void StoreMoments(const ReducedMoments& moments, MomentMatrix matrix, std::int64_t latent,
                  std::int64_t step, const T* m, const T* v);

}  // namespace sae::kernels
