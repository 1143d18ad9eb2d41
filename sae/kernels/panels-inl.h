// Included once per instruction set by panels.cc; no include guard on purpose.
#include <algorithm>
#include <array>
#include <cstdint>
#include <hwy/highway.h>

#include "sae/kernels/panels.h"

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;

/// out[k * kPanel + r] = row r's element k, for four rows and four k.
HWY_INLINE void Transpose4(const float* a, const float* b, const float* c, const float* e,
                           float* out) {
#if HWY_TARGET == HWY_SCALAR
  for (int k = 0; k < 4; ++k) {
    int r = 0;
    for (const float* row : {a, b, c, e}) out[k * kPanel + r++] = row[k];
  }
#else
  const hn::FixedTag<float, 4> f;
  const hn::FixedTag<double, 2> pair;
  const auto ra = hn::LoadU(f, a), rb = hn::LoadU(f, b), rc = hn::LoadU(f, c), re = hn::LoadU(f, e);
  const auto ab0 = hn::BitCast(pair, hn::InterleaveLower(f, ra, rb));
  const auto ab1 = hn::BitCast(pair, hn::InterleaveUpper(f, ra, rb));
  const auto ce0 = hn::BitCast(pair, hn::InterleaveLower(f, rc, re));
  const auto ce1 = hn::BitCast(pair, hn::InterleaveUpper(f, rc, re));
  hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pair, ab0, ce0)), f, out);
  hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pair, ab0, ce0)), f, out + kPanel);
  hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pair, ab1, ce1)), f, out + 2 * kPanel);
  hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pair, ab1, ce1)), f, out + 3 * kPanel);
#endif
}

/// 16 rows of a panel, a cache line of each at a time.
HWY_INLINE void PackSixteen(const std::array<const float*, 16>& rows, std::int64_t d, float* out) {
  std::int64_t k = 0;
  for (; k + 16 <= d; k += 16) {
    for (std::int64_t q = k; q < k + 16; q += 4) {
      for (std::size_t r = 0; r < 16; r += 4) {
        Transpose4(rows[r] + q, rows[r + 1] + q, rows[r + 2] + q, rows[r + 3] + q,
                   out + q * kPanel + r);
      }
    }
  }
  for (; k < d; ++k) {
    for (std::size_t r = 0; r < 16; ++r)
      out[k * kPanel + static_cast<std::int64_t>(r)] = rows[r][k];
  }
}

inline void Pack(const float* w, const std::int32_t* rows, std::int64_t count, std::int64_t d,
                 float* panels) {
  const auto row = [&](std::int64_t j) { return w + (rows == nullptr ? j : rows[j]) * d; };
  for (std::int64_t first = 0; first < count; first += kPanel, panels += kPanel * d) {
    for (std::int64_t r = 0; r < kPanel; r += 16) {
      const std::int64_t here = std::clamp<std::int64_t>(count - first - r, 0, 16);
      std::array<const float*, 16> sources;
      for (std::int64_t q = 0; q < 16; ++q)
        sources[static_cast<std::size_t>(q)] = row(q < here ? first + r + q : first);
      PackSixteen(sources, d, panels + r);
      if (here == 16) continue;
      for (std::int64_t k = 0; k < d; ++k)
        std::fill(panels + k * kPanel + r + here, panels + k * kPanel + r + 16, 0.0F);
    }
  }
}

/// Vectors side by side: with six rows the sums fill the registers but for a panel's row and one x.
constexpr int kWide = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;
constexpr int kTall = 6;

template <int kRows>
HWY_INLINE void Tile(const float* HWY_RESTRICT x, std::int64_t d, const float* HWY_RESTRICT panel,
                     float* HWY_RESTRICT z, std::int64_t ld) {
  const D f;
  constexpr int kLanes = hn::MaxLanes(D());
  hn::Vec<D> sum[kRows][kWide];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kWide; ++v) sum[r][v] = hn::Zero(f);
  }
  for (std::int64_t k = 0; k < d; ++k) {
    hn::Vec<D> w[kWide];
    for (int v = 0; v < kWide; ++v) w[v] = hn::Load(f, panel + k * kPanel + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const auto own = hn::Set(f, x[r * d + k]);
      for (int v = 0; v < kWide; ++v) sum[r][v] = hn::MulAdd(own, w[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kWide; ++v) hn::StoreU(sum[r][v], f, z + r * ld + v * kLanes);
  }
}

inline void Rest(std::int64_t rows, const float* x, std::int64_t d, const float* panel, float* z,
                 std::int64_t ld) {
  switch (rows) {
    case 1:
      return Tile<1>(x, d, panel, z, ld);
    case 2:
      return Tile<2>(x, d, panel, z, ld);
    case 3:
      return Tile<3>(x, d, panel, z, ld);
    case 4:
      return Tile<4>(x, d, panel, z, ld);
    case 5:
      return Tile<5>(x, d, panel, z, ld);
    default:
      return;
  }
}

inline void Multiply(const float* x, std::int64_t tokens, std::int64_t d, const float* panels,
                     std::int64_t count, float* z, std::int64_t ld) {
  constexpr std::int64_t kColumns = kWide * static_cast<std::int64_t>(hn::MaxLanes(D()));
  static_assert(kPanel % kColumns == 0);
  for (std::int64_t first = 0; first < count; first += kPanel, panels += kPanel * d) {
    for (std::int64_t q = 0; q < kPanel; q += kColumns) {
      std::int64_t t = 0;
      for (; t + kTall <= tokens; t += kTall)
        Tile<kTall>(x + t * d, d, panels + q, z + t * ld + first + q, ld);
      Rest(tokens - t, x + t * d, d, panels + q, z + t * ld + first + q, ld);
    }
  }
}

}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
