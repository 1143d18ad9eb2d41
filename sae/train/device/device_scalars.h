#pragma once
// The scalars of a step: one block of device memory, written by the host before a step and by the
// kernels in it, and copied back once at its end.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/step_scalars.h"

namespace sae::train {

struct DeviceScalars {
  // By the host, before a step.
  kernels::device::AdamScalars adam;
  double rho;
  double lambda;
  double power, next_power;  ///< p-annealed: exponents
  // By the step.
  std::int32_t finite;
  std::int32_t overflow;
  std::int32_t dead_overflow;
  std::int32_t go;
  std::int32_t dead;      ///< of this rank
  std::int32_t all_dead;  ///< of all ranks
  std::int32_t aux_enabled;
  std::int32_t entries;  ///< of this rank's codes
  float smallest;        ///< BatchTopK: kept value, over all ranks
  std::int64_t active;
  std::int64_t all_active;  ///< of all ranks; quadratic L0
  double coefficient;       ///< quadratic L0
  double powers[2];         ///< sums of f^power and f^next_power over all ranks
  double squares, gate_squares, aux_squares, penalty;  ///< gate's: Multi-TopK's where there is that
  double aux_variance, aux_factor, aux_scale;
  double main_loss, gate_loss, aux_loss;
  double shard_norm2, shared_norm2, norm, gradient_scale;
  kernels::device::StepSums sums;
};

}  // namespace sae::train
