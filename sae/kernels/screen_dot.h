#pragma once
// The one float32 dot product that `selection: certified` is defined by, and its blocked forms.
// Order of operations, the same on every instruction set: 16 lanes start at +0; element j goes to
// lane j mod 16 by a fused multiply-add, in ascending j, rows padded with zeros to a multiple of
// 16; then lane l takes in lane l + 8, l + 4, l + 2, l + 1. So no sum is longer than
// ceil(d / 16) + 4 operations, and the bits depend on the two rows alone: not on the processor,
// their places, the blocking, or which of the two comes first. Rows are contiguous, of any
// alignment; outputs may not overlap inputs. NaN and infinities propagate. Reentrant; no errors.

#include <cmath>
#include <cstdint>

namespace sae::kernels {

/// Operations in the longest chain of ReferenceDot: m of its error bound m u / (1 - m u).
constexpr std::int64_t ReferenceDepth(std::int64_t d) { return (d + 15) / 16 + 4; }

float ReferenceDot(std::int64_t d, const float* w, const float* x);

/// The pre-activation: scale * dot + c, rounded once.
inline float ReferenceZ(float scale, float dot, float c) { return std::fma(scale, dot, c); }
/// z[j] = ReferenceZ(scale, z[j], c[j]).
void ReferenceZ(std::int64_t size, float scale, const float* c, float* z);

/// out[i] = ReferenceDot of `row` and row rows[i] of `others` (stride d).
void ReferenceDots(std::int64_t d, const float* row, const float* others, const std::int32_t* rows,
                   std::int64_t count, float* out);

/// z[t * ld + i] = ReferenceDot of row t of x [m, d] and row i of w [n, d], on the calling thread.
void ReferenceTile(std::int64_t m, std::int64_t n, std::int64_t d, const float* x, const float* w,
                   float* z, std::int64_t ld);

}  // namespace sae::kernels
