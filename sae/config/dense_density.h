#pragma once
// When a step of relu_l1 or gated, which start with half of their latents firing, goes through
// dense products rather than by entries. Pure functions of the config. Source: spec numerics.md 7.

#include "sae/config/run_config.h"

namespace sae::config {

/// Whether there is a dense step. Without one every step goes by entries, whatever their number:
/// other architectures, rows that rest (lazy, deferred), decoders on_the_fly and unit_before, a
/// fixed reduction, certified selection, clipping, a decoder cut by columns.
bool HasDenseStep(const TrialConfig& resolved);

/// Entries of the last step (codes f > 0; gated: open gates), as a share of batch x latents, from
/// which on a step is dense: where it is the faster one, and less where entries would take more
/// memory than the dense step's blocks (5% there). The same on every rank; above 1 without a dense
/// step.
double DenseDensity(const TrialConfig& resolved);

}  // namespace sae::config
