#pragma once
// The SIMD loops of the screen: rounding rows to bf16, and sifting screened products by certified
// bounds. A product z of row t (a token) and latent j screens v = scale * z + c[j], and the true
// pre-activation lies in [v - m, v + m] with m = slope * q[j] + g[j]. Rows are filtered by their
// upper ends; a k-th largest lower end is what the upper ends are held against. Since rounding is
// monotonic and the true value is a float, ends rounded to nearest still enclose it.
// Outputs need room for all candidates and kBoundsSlack more, for whole vectors are stored. Loads
// may reach to the end of the vector behind `size` in z, c, q, g alike. NaN is never a candidate.
// Reentrant; no errors. One implementation per instruction set, chosen at run time.

#include <cstdint>

namespace sae::kernels {

/// Slots past the last candidate that may be overwritten, and what loads may touch behind a row.
inline constexpr std::int64_t kBoundsSlack = 64;

/// Squared norms in float64.
struct RoundedNorms {
  double exact = 0;     ///< |row|^2
  double residual = 0;  ///< |row - rounded|^2
};

/// The row in bf16 (bits), round to nearest even, then zeros up to `padded` >= d.
RoundedNorms RoundRow(std::int64_t d, const float* row, std::int64_t padded, std::uint16_t* out);

/// One token's screened products with consecutive latents.
struct ScreenedRow {
  const float* z = nullptr;
  const float* c = nullptr;
  const float* q = nullptr;
  const float* g = nullptr;
  std::int64_t size = 0;
  float scale = 1;
  float slope = 0;
  std::int32_t first_id = 0;  ///< id of element 0
};

/// Candidates in order of appearance: arrays of one length.
struct Bounded {
  float* upper = nullptr;
  float* lower = nullptr;
  std::int32_t* ids = nullptr;
  std::int32_t* tokens = nullptr;  ///< null: all of one token; sifting leaves them alone
};

/// Appends at `out` what has upper >= floor; returns how many.
std::int64_t SiftFrom(const ScreenedRow& row, float floor, const Bounded& out);
/// The same with a floor per latent.
std::int64_t SiftAbove(const ScreenedRow& row, const float* floors, const Bounded& out);
/// Lower ends of the whole row.
void LowerEnds(const ScreenedRow& row, float* out);

/// A value that at least k of the `count` entries reach, close to the k-th largest: at most
/// `surplus` more reach it unless they are tied. `floor`: -infinity, or known to be reached by k.
/// 1 <= k <= count; no NaN.
float ReachedBy(const float* values, std::int64_t count, std::int64_t k, std::int64_t surplus,
                float floor);

/// Keeps the entries with upper >= floor, in place and in their order; returns how many.
std::int64_t KeepFrom(const Bounded& entries, std::int64_t count, float floor);

/// No value is NaN.
bool Comparable(const float* values, std::int64_t count);

}  // namespace sae::kernels
