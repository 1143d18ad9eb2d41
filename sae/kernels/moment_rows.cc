// The loops of moment_format.h, compiled for each instruction set. Numerics: integers, and products
// and comparisons of float32 that round alone (no contraction): the same bits everywhere.
#include "sae/kernels/moment_rows.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sae/kernels/moment_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sae::kernels::HWY_NAMESPACE {

void LoadHalves(std::int64_t count, const std::uint16_t* codes, float* values) {
  DecodeBf16Row(count, codes, values);
}
void StoreHalves(std::int64_t first, std::int64_t count, const float* values, RoundingKey key,
                 Moment moment, MomentRounding rounding, std::uint16_t* codes) {
  EncodeBf16Row(first, count, values, key, moment, rounding, codes);
}
void LoadBytes(std::int64_t count, const std::uint8_t* codes, const float* scales, Moment moment,
               float* values) {
  Decode8Row(count, codes, scales, moment, values);
}
void StoreBytes(std::int64_t first, std::int64_t count, const float* values, RoundingKey key,
                Moment moment, MomentRounding rounding, std::uint8_t* codes, float* scales) {
  Encode8Row(first, count, values, key, moment, rounding, codes, scales);
}

}  // namespace sae::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sae::kernels {

HWY_EXPORT(LoadHalves);
HWY_EXPORT(StoreHalves);
HWY_EXPORT(LoadBytes);
HWY_EXPORT(StoreBytes);

namespace {

/// The row of one moment of one matrix.
struct MomentRow {
  MomentFormat format;
  Moment moment;
  void* codes;    ///< of the row
  float* scales;  ///< of the row, 8 bits only

  void Load(std::int64_t first, std::int64_t count, float* values) const {
    if (format == MomentFormat::kBf16) {
      HWY_DYNAMIC_DISPATCH(LoadHalves)
      (count, static_cast<const std::uint16_t*>(codes) + first, values);
    } else {
      HWY_DYNAMIC_DISPATCH(LoadBytes)
      (count, static_cast<const std::uint8_t*>(codes) + first, scales + first / kMomentBlock,
       moment, values);
    }
  }
  void Store(std::int64_t first, std::int64_t count, const float* values, RoundingKey key,
             MomentRounding rounding) const {
    if (format == MomentFormat::kBf16) {
      HWY_DYNAMIC_DISPATCH(StoreHalves)
      (first, count, values, key, moment, rounding, static_cast<std::uint16_t*>(codes) + first);
    } else {
      HWY_DYNAMIC_DISPATCH(StoreBytes)
      (first, count, values, key, moment, rounding, static_cast<std::uint8_t*>(codes) + first,
       scales + first / kMomentBlock);
    }
  }

  void Load(std::int64_t d, float* values) const { Load(0, d, values); }
  void Load(std::int64_t d, double* values) const {
    float part[kMomentBlock];
    for (std::int64_t j = 0; j < d; j += kMomentBlock) {
      const std::int64_t count = std::min<std::int64_t>(kMomentBlock, d - j);
      Load(j, count, part);
      std::copy(part, part + count, values + j);
    }
  }
  void Store(std::int64_t d, const float* values, RoundingKey key, MomentRounding rounding) const {
    Store(0, d, values, key, rounding);
  }
  void Store(std::int64_t d, const double* values, RoundingKey key, MomentRounding rounding) const {
    float part[kMomentBlock];
    for (std::int64_t j = 0; j < d; j += kMomentBlock) {
      const std::int64_t count = std::min<std::int64_t>(kMomentBlock, d - j);
      for (std::int64_t i = 0; i < count; ++i) part[i] = static_cast<float>(values[j + i]);
      Store(j, count, part, key, rounding);
    }
  }
};

MomentRow RowOf(const ReducedMoments& moments, const ReducedMatrix& matrix, Moment moment,
                std::int64_t latent) {
  const bool first = moment == Moment::kFirst;
  MomentRow row{moments.format, moment, first ? matrix.m : matrix.v, nullptr};
  if (moments.format == MomentFormat::kBf16) {
    row.codes = static_cast<std::uint16_t*>(row.codes) + latent * matrix.d;
  } else {
    row.codes = static_cast<std::uint8_t*>(row.codes) + latent * matrix.d;
    row.scales = (first ? matrix.m_scale : matrix.v_scale) + latent * MomentBlocks(matrix.d);
  }
  return row;
}

}  // namespace

template <class T>
void LoadMoments(const ReducedMoments& moments, MomentMatrix which, std::int64_t latent, T* m,
                 T* v) {
  const ReducedMatrix& matrix = moments.of(which);
  RowOf(moments, matrix, Moment::kFirst, latent).Load(matrix.d, m);
  RowOf(moments, matrix, Moment::kSecond, latent).Load(matrix.d, v);
}

template <class T>
void StoreMoments(const ReducedMoments& moments, MomentMatrix which, std::int64_t latent,
                  std::int64_t step, const T* m, const T* v) {
  const ReducedMatrix& matrix = moments.of(which);
  const RoundingKey key =
      RoundingKeyOf(moments.seed, static_cast<std::uint64_t>(step),
                    static_cast<std::uint64_t>(moments.global_id(latent)), which);
  RowOf(moments, matrix, Moment::kFirst, latent).Store(matrix.d, m, key, moments.rounding);
  RowOf(moments, matrix, Moment::kSecond, latent).Store(matrix.d, v, key, moments.rounding);
}

#define SAE_INSTANTIATE(T)                                                                    \
  template void LoadMoments(const ReducedMoments&, MomentMatrix, std::int64_t, T*, T*);       \
  template void StoreMoments(const ReducedMoments&, MomentMatrix, std::int64_t, std::int64_t, \
                             const T*, const T*);
SAE_INSTANTIATE(float)
SAE_INSTANTIATE(double)
#undef SAE_INSTANTIATE

}  // namespace sae::kernels
#endif  // HWY_ONCE
