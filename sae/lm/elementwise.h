#pragma once
// The parts of a transformer block that are not matrix products, for one thread, row by row.
// Float32 throughout; a destination may be bfloat16 (round to nearest even) where a bf16 product
// follows. Raw pointers, caller-owned, no aliasing between source and destination unless said.
// Thread-safe.

#include <cstdint>
#include <vector>

namespace sae::lm {

/// Where a result goes: exactly one of the two is not null.
struct Destination {
  float* f32 = nullptr;
  std::uint16_t* bf16 = nullptr;
};

/// out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight, for `rows` rows of `d` (Zhang, Sennrich 2019,
/// eq. 4).
void RmsNorm(const float* x, const float* weight, std::int64_t rows, std::int64_t d, float eps,
             Destination out);

/// out[r, j] = silu(gate) * up with gate = in[r, j], up = in[r, width + j] (SwiGLU, Shazeer 2020).
void SwiGlu(const float* in, std::int64_t rows, std::int64_t width, Destination out);

/// x += y.
void AddTo(float* x, const float* y, std::int64_t count);

/// Copies, converting.
void CopyTo(const float* x, std::int64_t count, Destination out);

/// cos and sin of position * base^(-2i / head_size), i < head_size / 2, computed in float64.
struct RopeTable {
  RopeTable(std::int64_t positions, std::int64_t head_size, double base);
  std::int64_t half;
  std::vector<float> cosine;  ///< [positions, half]
  std::vector<float> sine;
};

/// Turns one head, half-split order: (a[i], b[i]) = (in[i], in[i + half]) ->
/// (a cos - b sin, a sin + b cos) (Su et al. 2021, eq. 34).
void ApplyRope(const float* in, const RopeTable& table, std::int64_t position, float* out);

/// In place over row[0 .. valid): softmax(scale * row); row[valid .. width) becomes 0. valid >= 1.
void SoftmaxRow(float* row, std::int64_t valid, std::int64_t width, float scale);

}  // namespace sae::lm
