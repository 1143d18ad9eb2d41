// Numerics: sums in float32 with the compiler's vector accumulators (this file alone is compiled
// with associative math); exp is a degree-5 minimax polynomial after Cephes, below 2 ulp for x <=
// 0.
#include "sae/lm/elementwise.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sae/base/dtype.h"

// One body compiled for several levels of x86-64, chosen at start-up (a named processor such as
// haswell would match that vendor alone). Not under sanitizers, whose run time is not ready when
// the choice is made.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SAE_LM_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SAE_LM_CLONES
#endif
#define SAE_LM_INLINE inline __attribute__((always_inline))

namespace sae::lm {
namespace {

SAE_LM_INLINE float Exp(float x) {
  x = x < -87.0F ? -87.0F : (x > 88.0F ? 88.0F : x);
  const float n = std::floor(x * 1.44269504F + 0.5F);
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
}

SAE_LM_INLINE void Store(float* out, float value) { *out = value; }
SAE_LM_INLINE void Store(std::uint16_t* out, float value) {
  // FloatToBf16 without its NaN case: a NaN here is an error that the caller finds in float32.
  const auto bits = std::bit_cast<std::uint32_t>(value);
  *out = static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

template <class Out>
SAE_LM_INLINE void RmsNormBody(const float* __restrict x, const float* __restrict weight,
                               std::int64_t rows, std::int64_t d, float eps, Out* __restrict out) {
  for (std::int64_t r = 0; r < rows; ++r, x += d, out += d) {
    float sum = 0;
    for (std::int64_t j = 0; j < d; ++j) sum += x[j] * x[j];
    const float scale = 1.0F / std::sqrt(sum / static_cast<float>(d) + eps);
    for (std::int64_t j = 0; j < d; ++j) Store(out + j, x[j] * scale * weight[j]);
  }
}

template <class Out>
SAE_LM_INLINE void SwiGluBody(const float* __restrict in, std::int64_t rows, std::int64_t width,
                              Out* __restrict out) {
  for (std::int64_t r = 0; r < rows; ++r, in += 2 * width, out += width) {
    for (std::int64_t j = 0; j < width; ++j)
      Store(out + j, in[j] / (1.0F + Exp(-in[j])) * in[width + j]);
  }
}

template <class Out>
SAE_LM_INLINE void CopyBody(const float* __restrict x, std::int64_t count, Out* __restrict out) {
  for (std::int64_t i = 0; i < count; ++i) Store(out + i, x[i]);
}

SAE_LM_CLONES void RmsNormF32(const float* x, const float* weight, std::int64_t rows,
                              std::int64_t d, float eps, float* out) {
  RmsNormBody(x, weight, rows, d, eps, out);
}
SAE_LM_CLONES void RmsNormBf16(const float* x, const float* weight, std::int64_t rows,
                               std::int64_t d, float eps, std::uint16_t* out) {
  RmsNormBody(x, weight, rows, d, eps, out);
}
SAE_LM_CLONES void SwiGluF32(const float* in, std::int64_t rows, std::int64_t width, float* out) {
  SwiGluBody(in, rows, width, out);
}
SAE_LM_CLONES void SwiGluBf16(const float* in, std::int64_t rows, std::int64_t width,
                              std::uint16_t* out) {
  SwiGluBody(in, rows, width, out);
}
SAE_LM_CLONES void CopyF32(const float* x, std::int64_t count, float* out) {
  CopyBody(x, count, out);
}
SAE_LM_CLONES void CopyBf16(const float* x, std::int64_t count, std::uint16_t* out) {
  CopyBody(x, count, out);
}

SAE_LM_CLONES void AddClone(float* __restrict x, const float* __restrict y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] += y[i];
}

SAE_LM_CLONES void RopeClone(const float* __restrict in, const float* __restrict cosine,
                             const float* __restrict sine, std::int64_t half,
                             float* __restrict out) {
  for (std::int64_t i = 0; i < half; ++i) {
    out[i] = in[i] * cosine[i] - in[i + half] * sine[i];
    out[i + half] = in[i] * sine[i] + in[i + half] * cosine[i];
  }
}

SAE_LM_CLONES void SoftmaxClone(float* __restrict row, std::int64_t valid, float scale) {
  float top = row[0];
  for (std::int64_t i = 1; i < valid; ++i) top = row[i] > top ? row[i] : top;
  float sum = 0;
  for (std::int64_t i = 0; i < valid; ++i) {
    row[i] = Exp((row[i] - top) * scale);
    sum += row[i];
  }
  const float inverse = 1.0F / sum;
  for (std::int64_t i = 0; i < valid; ++i) row[i] *= inverse;
}

}  // namespace

void RmsNorm(const float* x, const float* weight, std::int64_t rows, std::int64_t d, float eps,
             Destination out) {
  if (out.f32 != nullptr) {
    RmsNormF32(x, weight, rows, d, eps, out.f32);
  } else {
    RmsNormBf16(x, weight, rows, d, eps, out.bf16);
  }
}

void SwiGlu(const float* in, std::int64_t rows, std::int64_t width, Destination out) {
  if (out.f32 != nullptr) {
    SwiGluF32(in, rows, width, out.f32);
  } else {
    SwiGluBf16(in, rows, width, out.bf16);
  }
}

void AddTo(float* x, const float* y, std::int64_t count) { AddClone(x, y, count); }

void CopyTo(const float* x, std::int64_t count, Destination out) {
  if (out.f32 != nullptr) {
    CopyF32(x, count, out.f32);
  } else {
    CopyBf16(x, count, out.bf16);
  }
}

RopeTable::RopeTable(std::int64_t positions, std::int64_t head_size, double base)
    : half(head_size / 2) {
  cosine.reserve(static_cast<std::size_t>(positions * half));
  sine.reserve(static_cast<std::size_t>(positions * half));
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) *
          std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

void ApplyRope(const float* in, const RopeTable& table, std::int64_t position, float* out) {
  RopeClone(in, table.cosine.data() + position * table.half,
            table.sine.data() + position * table.half, table.half, out);
}

void SoftmaxRow(float* row, std::int64_t valid, std::int64_t width, float scale) {
  SoftmaxClone(row, valid, scale);
  std::fill(row + valid, row + width, 0.0F);
}

}  // namespace sae::lm
