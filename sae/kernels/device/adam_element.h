#pragma once
// For .cu files: Adam's step of one element, the operations of row_ops.h (kernels::AdamRow) in
// their order and roundings. C++17. Source: sae algorithms 0.4 (Kingma and Ba 2015).

#include <cmath>

#include "sae/kernels/device.h"
#include "sae/kernels/device/rows.h"

namespace sae::kernels::cuda {

struct AdamConstants {
  float beta1, beta2, rest1, rest2, step, inverse2, epsilon;

  SAELOOM_DEVICE AdamConstants(const device::AdamScalars& a, double lr)
      : beta1(static_cast<float>(a.beta1)),
        beta2(static_cast<float>(a.beta2)),
        rest1(static_cast<float>(1 - a.beta1)),
        rest2(static_cast<float>(1 - a.beta2)),
        step(static_cast<float>(lr / a.correction1)),
        inverse2(static_cast<float>(1 / a.correction2)),
        epsilon(static_cast<float>(a.epsilon)) {}
};

inline constexpr float kSmallestNormal = 0x1.0p-126F;

/// What is below the smallest normal number becomes 0; NaN stays.
SAELOOM_DEVICE inline float Flush(float value) {
  return fabsf(value) < kSmallestNormal ? 0.0F : value;
}

SAELOOM_DEVICE inline float Moved(const AdamConstants& a, float p, float m, float v) {
  const float root = __fsqrt_rn(v * a.inverse2);
  return p - __fdiv_rn(a.step * m, root + a.epsilon);
}
SAELOOM_DEVICE inline void AdamElement(const AdamConstants& a, float g, float* p, float* m,
                                       float* v) {
  *m = Flush(__fmaf_rn(a.rest1, g, a.beta1 * *m));
  *v = Flush(__fmaf_rn(a.rest2, g * g, a.beta2 * *v));
  *p = Moved(a, *p, *m, *v);
}
/// The same with g = 0.
SAELOOM_DEVICE inline void AdamElementWithoutGradient(const AdamConstants& a, float* p, float* m,
                                                      float* v) {
  *m = Flush(a.beta1 * *m);
  *v = Flush(a.beta2 * *v);
  *p = Moved(a, *p, *m, *v);
}

/// What `steps` of them do to v: successive multiplications (kernels::DecayRow).
SAELOOM_DEVICE inline float Decayed(const AdamConstants& a, std::int64_t steps, float v) {
  for (std::int64_t i = 0; i < steps; ++i) {
    const float next = Flush(a.beta2 * v);
    if (next == v) break;
    v = next;
  }
  return v;
}

/// What a row is multiplied by to have norm 1 (kernels::InverseNorm).
SAELOOM_DEVICE inline float InverseNorm(double norm2) {
  const double norm = sqrt(norm2);
  return static_cast<float>(1 / (norm < 0x1.0p-24 ? 0x1.0p-24 : norm));
}

}  // namespace sae::kernels::cuda
