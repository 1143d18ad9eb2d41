// Included once per instruction set by screen_dot.cc; no include guard on purpose.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {
namespace {  // other files of this folder define their own loops in HWY_NAMESPACE
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_NATIVE_FMA && HWY_MAX_BYTES >= 32 && !HWY_HAVE_SCALABLE

// The 16 lanes in one or two registers.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using D4 = hn::FixedTag<float, 4>;
using V4 = hn::Vec<D4>;
constexpr std::int64_t kWidth = static_cast<std::int64_t>(hn::MaxLanes(D()));
constexpr int kParts = static_cast<int>(16 / kWidth);

struct Sums {
  V part[kParts];
};

HWY_INLINE V LoadPart(const float* row, int part) { return hn::LoadU(D(), row + part * kWidth); }

/// The first `rest` of 16 values, zeros behind them.
HWY_INLINE V LoadTail(const float* row, int part, std::int64_t rest) {
  const std::int64_t here = std::clamp<std::int64_t>(rest - part * kWidth, 0, kWidth);
  if (here == 0) return hn::Zero(D());
  return hn::MaskedLoad(hn::FirstN(D(), static_cast<std::size_t>(here)), D(), row + part * kWidth);
}

/// Lanes l + 8 and l + 4 taken in.
HWY_INLINE V4 Fold(const Sums& sums) {
  const hn::FixedTag<float, 8> d8;
#if HWY_MAX_BYTES >= 64
  const auto half = hn::Add(hn::LowerHalf(d8, sums.part[0]), hn::UpperHalf(d8, sums.part[0]));
#else
  const auto half = hn::Add(sums.part[0], sums.part[1]);
#endif
  return hn::Add(hn::LowerHalf(D4(), half), hn::UpperHalf(D4(), half));
}

/// Four sums at once: lanes l + 2 and l + 1 of each.
HWY_INLINE V4 Fold4(V4 a, V4 b, V4 c, V4 d) {
  const auto ab = hn::Add(hn::InterleaveLower(D4(), a, b), hn::InterleaveUpper(D4(), a, b));
  const auto cd = hn::Add(hn::InterleaveLower(D4(), c, d), hn::InterleaveUpper(D4(), c, d));
  return hn::Add(hn::ConcatLowerLower(D4(), cd, ab), hn::ConcatUpperUpper(D4(), cd, ab));
}

/// out[r * kColumns + q] = x[r] . w[q]; kRows * kColumns is a multiple of 4. While at it, asks for
/// the rows `next`, which are as many as w, where it is not null.
template <int kRows, int kColumns>
HWY_INLINE void Block(std::int64_t d, const float* const* x, const float* const* w,
                      const float* const* next, float* out) {
  Sums sums[kRows][kColumns];
  for (auto& row : sums) {
    for (Sums& s : row) {
      for (V& v : s.part) v = hn::Zero(D());
    }
  }
  const auto step = [&](auto load, std::int64_t j) HWY_ATTR {
    for (int part = 0; part < kParts; ++part) {
      V right[kColumns];
      for (int q = 0; q < kColumns; ++q) right[q] = load(w[q] + j, part);
      for (int r = 0; r < kRows; ++r) {
        const V left = load(x[r] + j, part);
        for (int q = 0; q < kColumns; ++q) {
          sums[r][q].part[part] = hn::MulAdd(left, right[q], sums[r][q].part[part]);
        }
      }
    }
  };
  std::int64_t j = 0;
  for (; j + 16 <= d; j += 16) {
    if (next != nullptr) {
      for (int q = 0; q < kColumns; ++q) hwy::Prefetch(next[q] + j);
    }
    step([](const float* p, int part) HWY_ATTR { return LoadPart(p, part); }, j);
  }
  if (j < d) {
    const std::int64_t rest = d - j;
    step([rest](const float* p, int part) HWY_ATTR { return LoadTail(p, part, rest); }, j);
  }
  for (int i = 0; i < kRows * kColumns; i += 4) {
    const auto fold = [&](int s) HWY_ATTR { return Fold(sums[s / kColumns][s % kColumns]); };
    hn::StoreU(Fold4(fold(i), fold(i + 1), fold(i + 2), fold(i + 3)), D4(), out + i);
  }
}

// Register blocks of a tile: 16 sums of one register, or 4 of two.
constexpr int kTileRows = kParts == 1 ? 4 : 2;
constexpr int kTileColumns = kTileRows;

inline float Dot(std::int64_t d, const float* w, const float* x) {
  const float* rows[4] = {w, w, w, w};
  float out[4];
  Block<1, 4>(d, &x, rows, nullptr, out);
  return out[0];
}

inline void Dots(std::int64_t d, const float* row, const float* others, const std::int32_t* rows,
                 std::int64_t count, float* out) {
  if (count == 0) return;
  const float* now[4];
  const float* next[4];
  const auto set = [&](const float** at, std::int64_t i) {
    for (std::int64_t q = 0; q < 4; ++q) at[q] = others + rows[std::min(i + q, count - 1)] * d;
  };
  set(now, 0);
  for (std::int64_t i = 0; i < count; i += 4) {
    float four[4];
    if (i + 4 < count) set(next, i + 4);
    Block<1, 4>(d, &row, now, i + 4 < count ? next : nullptr, four);
    std::copy_n(four, std::min<std::int64_t>(4, count - i), out + i);
    std::copy_n(next, 4, now);
  }
}

inline void Tile(std::int64_t m, std::int64_t n, std::int64_t d, const float* x, const float* w,
                 float* z, std::int64_t ld) {
  const float* left[kTileRows];
  const float* right[kTileColumns];
  float out[kTileRows * kTileColumns];
  for (std::int64_t i = 0; i < n; i += kTileColumns) {
    const std::int64_t columns = std::min<std::int64_t>(kTileColumns, n - i);
    for (std::int64_t q = 0; q < kTileColumns; ++q)
      right[q] = w + (i + std::min(q, columns - 1)) * d;
    for (std::int64_t t = 0; t < m; t += kTileRows) {
      const std::int64_t rows = std::min<std::int64_t>(kTileRows, m - t);
      for (std::int64_t r = 0; r < kTileRows; ++r) left[r] = x + (t + std::min(r, rows - 1)) * d;
      Block<kTileRows, kTileColumns>(d, left, right, nullptr, out);
      for (std::int64_t r = 0; r < rows; ++r) {
        std::copy_n(out + r * kTileColumns, columns, z + (t + r) * ld + i);
      }
    }
  }
}

#else  // no registers of 8 floats with a fused multiply-add: the same operations one by one

inline float Dot(std::int64_t d, const float* w, const float* x) {
  float lanes[16] = {};
  std::int64_t j = 0;
  for (; j + 16 <= d; j += 16) {
    for (int l = 0; l < 16; ++l) lanes[l] = std::fma(w[j + l], x[j + l], lanes[l]);
  }
  if (j < d) {
    for (int l = 0; l < 16; ++l) {
      const bool in = j + l < d;
      lanes[l] = std::fma(in ? w[j + l] : 0.0F, in ? x[j + l] : 0.0F, lanes[l]);
    }
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

inline void Dots(std::int64_t d, const float* row, const float* others, const std::int32_t* rows,
                 std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = Dot(d, row, others + rows[i] * d);
}

inline void Tile(std::int64_t m, std::int64_t n, std::int64_t d, const float* x, const float* w,
                 float* z, std::int64_t ld) {
  for (std::int64_t t = 0; t < m; ++t) {
    for (std::int64_t i = 0; i < n; ++i) z[t * ld + i] = Dot(d, x + t * d, w + i * d);
  }
}

#endif

inline void Activate(std::int64_t size, float scale, const float* c, float* z) {
  std::int64_t j = 0;
#if HWY_NATIVE_FMA
  const hn::ScalableTag<float> d;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  for (; j + width <= size; j += width) {
    hn::StoreU(hn::MulAdd(hn::Set(d, scale), hn::LoadU(d, z + j), hn::LoadU(d, c + j)), d, z + j);
  }
#endif
  for (; j < size; ++j) z[j] = std::fma(scale, z[j], c[j]);
}

}  // namespace
}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
