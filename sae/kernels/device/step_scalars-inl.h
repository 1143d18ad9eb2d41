#pragma once
// The bodies of step_scalars.h, one thread each: the same source for the host and the device.

#include "sae/kernels/bf16.h"
#include "sae/kernels/device/step_scalars.h"

namespace sae::kernels::device {

SAELOOM_HOST_DEVICE inline bool IsFinite(double v) { return v - v == 0; }

SAELOOM_HOST_DEVICE inline void Apply(const CollectSumsParams& p) {
  p.sums->active = p.active == nullptr ? 0 : static_cast<double>(*p.active);
  p.sums->entries = static_cast<double>(*p.entries);
  p.sums->penalty = p.penalty == nullptr ? 0 : *p.penalty;
  p.sums->dead = p.dead == nullptr ? 0 : static_cast<double>(*p.dead);
  p.sums->not_finite = *p.finite != 0 ? 0 : 1;
  p.sums->overflow = *p.overflow != 0 ? 1 : 0;
  p.sums->dead_overflow = p.dead_overflow != nullptr && *p.dead_overflow != 0 ? 1 : 0;
}

SAELOOM_HOST_DEVICE inline void Apply(const CheckCapacityParams& p) {
  if (*p.count > p.capacity) *p.overflow = 1;
}

SAELOOM_HOST_DEVICE inline void Apply(const DecideParams& p) {
  *p.main = *p.rho * *p.squares;
  double total = *p.main + p.sums->penalty;
  if (p.gate_squares != nullptr) {
    *p.gate = *p.rho * *p.gate_squares;
    total += *p.gate;
  }
  if (p.aux_squares != nullptr) {
    // An absent auxiliary loss leaves no number behind.
    *p.aux = *p.aux_scale > 0 ? *p.aux_scale * *p.aux_squares : 0;
    total += *p.aux;
  }
  *p.go = IsFinite(total) && p.sums->not_finite == 0 && p.sums->overflow == 0 &&
                  p.sums->dead_overflow == 0
              ? 1
              : 0;
}

}  // namespace sae::kernels::device
