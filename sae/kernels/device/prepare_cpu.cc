#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/device/prepare.h"

namespace sae::kernels::plain {

void Fill(const device::FillParams& p) { std::fill_n(p.out, p.count, p.value); }

void FoldBias(const device::FoldBiasParams& p) {
  for (std::int64_t i = 0; i < p.latents; ++i) {
    double sums[32] = {};
    for (std::int64_t j = 0; p.b_dec != nullptr && j < p.d; ++j) {
      sums[j / 4 % 32] = std::fma(static_cast<double>(Weight(p.w, i * p.d + j)),
                                  static_cast<double>(p.b_dec[j]), sums[j / 4 % 32]);
    }
    for (int half = 16; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
    }
    const double bias = p.b_enc == nullptr ? 0 : static_cast<double>(p.b_enc[i]);
    p.c[i] = static_cast<float>(bias - sums[0]);
  }
}

void ToBf16(const device::ToBf16Params& p) {
  for (std::int64_t i = 0; i < p.count; ++i) p.out[i] = FloatToBf16(p.x[i]);
}

void GatherRows(const device::GatherRowsParams& p) {
  if (p.rows > 0 && p.ids != nullptr && p.overflow != nullptr && *p.id_count > p.id_limit)
    *p.overflow = 1;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const bool there = p.first + r < p.all_rows && (p.ids == nullptr || p.first + r < *p.id_count);
    const std::int64_t from = !there ? 0 : p.ids != nullptr ? p.ids[p.first + r] : p.first + r;
    for (std::int64_t j = 0; j < p.d; ++j) {
      const std::int64_t at = from * p.d + j;
      if (p.joined != nullptr) p.joined[r * p.d + j] = there ? Weight(p.w, at) : 0.0F;
      if (p.hi != nullptr) p.hi[r * p.d + j] = there ? p.w.hi[at] : std::uint16_t{0};
    }
    if (p.c_out == nullptr) continue;
    p.c_out[r] = -std::numeric_limits<float>::infinity();
    if (there) p.c_out[r] = p.c == nullptr ? 0.0F : p.c[from];
  }
}

}  // namespace sae::kernels::plain
