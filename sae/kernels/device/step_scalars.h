#pragma once
// The scalars of a step that are computed on the device, so that nothing waits for the host inside a
// step. One thread each, but for SmallestKept (one block). All pointers are device memory. Partners: namespace plain
// (step_scalars_cpu.cc).
#include <cstdint>

#include "sae/kernels/device/slots.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// Sums over all ranks that a step needs, float64 so that one reduction takes them all.
struct StepSums {
  double active;        ///< codes f > 0
  double entries;       ///< of the sparse path
  double penalty;       ///< this rank's latents' part
  double dead;
  double not_finite;    ///< ranks with a pre-activation that is no number
  double overflow;      ///< ranks where a buffer was too small
  double dead_overflow; ///< ranks with more dead latents than AuxK had room for
};
struct CollectSumsParams {
  const std::int64_t* active = nullptr;
  const std::int32_t* entries = nullptr;
  const double* penalty = nullptr;        ///< null: 0
  const std::int32_t* dead = nullptr;     ///< null: 0
  const std::int32_t* finite = nullptr;
  const std::int32_t* overflow = nullptr;
  const std::int32_t* dead_overflow = nullptr;  ///< null: 0
  StepSums* sums = nullptr;
};
/// *overflow = 1 where *count > capacity.
struct CheckCapacityParams {
  const std::int32_t* count = nullptr;
  std::int64_t capacity = 0;
  std::int32_t* overflow = nullptr;  ///< set to 1, never back
};
/// *smallest = the smallest kept value of BatchTopK on this rank: the cut where there is one, else
/// the least of the codes; infinity without codes.
struct SmallestKeptParams {
  DeviceCodes codes;
  const BatchCut* cut = nullptr;
  float* smallest = nullptr;
};
/// *main = *rho * *squares, and so the gate's and AuxK's; *go = the loss is finite, no rank saw
/// NaN, none overflowed.
struct DecideParams {
  const StepSums* sums = nullptr;
  const double* squares = nullptr;       ///< weighted sum of squared errors
  const double* gate_squares = nullptr;  ///< of the gate's or Multi-TopK's reconstruction, or null
  const double* rho = nullptr;
  const double* aux_squares = nullptr;   ///< null: no AuxK
  const double* aux_scale = nullptr;
  double* main = nullptr;
  double* gate = nullptr;                ///< with gate_squares
  double* aux = nullptr;                 ///< with aux_squares
  std::int32_t* go = nullptr;
};
/// *norm = sqrt(*shard + *shared), *scale = clip / max(*norm, clip).
struct ClipScaleParams {
  const double* shard = nullptr;   ///< rows and vectors of latents, over all ranks
  const double* shared = nullptr;  ///< what is the same on every rank
  double clip = 0;
  double* norm = nullptr;
  double* scale = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error CollectSums(const device::CollectSumsParams& params, void* stream);
[[nodiscard]] Error CheckCapacity(const device::CheckCapacityParams& params, void* stream);
[[nodiscard]] Error SmallestKept(const device::SmallestKeptParams& params, void* stream);
[[nodiscard]] Error Decide(const device::DecideParams& params, void* stream);
[[nodiscard]] Error ClipScale(const device::ClipScaleParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void CollectSums(const device::CollectSumsParams& params);
void CheckCapacity(const device::CheckCapacityParams& params);
void SmallestKept(const device::SmallestKeptParams& params);
void Decide(const device::DecideParams& params);
void ClipScale(const device::ClipScaleParams& params);
}  // namespace sae::kernels::plain
