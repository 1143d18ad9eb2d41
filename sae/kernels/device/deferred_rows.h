#pragma once
// Decoder rows that have rested (row_step.h's kDeferred) catch up before they are read: the steps
// with g = 0 that they have missed, one after the other, in registers: Adam with each step's own
// constants, renormalisation where m is not 0 after it, and where m is 0 v's decay alone. It is
// what the row update does with dense rows, but for the order of |w|^2's float64 sum, which the
// width decides here. A row is read and written once, whatever it has missed; last_step is set.
// Moments are float32, weights joined (hi and lo), rules kUnit and kFree. A block has a row.
// All pointers are device memory; enqueued on `stream`; one call at a time for the same rows.
// Errors: kInvalidArgument where a size is negative or beyond kMostDeferredWidth, a needed pointer
// is null, or formats or the rule are others. Partner: namespace plain (deferred_rows_cpu.cc), the
// CPU engine's operations (kernels::CatchUp). Source: sae numerics 4.

#include <cstdint>

#include "sae/kernels/device/row_update.h"

namespace sae::kernels::device {

/// Adam of one step as rows at rest need it: lr / correction1 and 1 / correction2.
struct RestStep {
  float step = 0, inverse2 = 0;
};
inline RestStep RestStepOf(double lr, double correction1, double correction2) {
  return {static_cast<float>(lr / correction1), static_cast<float>(1 / correction2)};
}

inline constexpr std::int64_t kMostDeferredWidth = 8192;

struct CatchUpDecoderParams {
  std::int64_t latents = 0, d = 0;
  RowRule rule = RowRule::kUnit;
  MutableWeightRows w;
  MomentRows moments;
  std::int64_t* last_step = nullptr;     ///< latents
  const std::int32_t* indptr = nullptr;  ///< latents + 1: rows with entries; null: all rows
  const RestStep* steps = nullptr;       ///< window: of step t at (t - 1) % window
  std::int64_t window = 0;               ///< no row has rested longer
  double beta1 = 0, beta2 = 0, epsilon = 0;
  const AdamScalars* adam = nullptr;  ///< device: up to the step before adam->t; null: up to t
  std::int64_t t = 0;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error CatchUpDecoder(const device::CatchUpDecoderParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void CatchUpDecoder(const device::CatchUpDecoderParams& params);
}  // namespace sae::kernels::plain
