#pragma once
// Initial values of an SAE, the same for every number of ranks: a decoder row is a function of
// (seed, global latent) alone. Everything is computed in float64 from the sample, in row order.
// Functions without state; thread-safe. Sources: Gao et al. 2024 (arXiv 2406.04093) section A.1 and
// OpenAI's train.py (transposed init, geometric median); Weiszfeld 1937.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/status.h"

namespace sae::model {

/// What the initial sample settles, in units of x' = x / input_scale.
struct SampleStatistics {
  double input_scale = 1;    ///< S: the root of the sample's mean |x|^2, in raw units
  double variance = 0;       ///< sum over the width of the variance of x' (V0 of the AuxK scale)
  std::vector<double> bias;  ///< geometric median of x' (d values)
};

/// Rows of the sample that the geometric median uses at most.
inline constexpr std::int64_t kMedianRows = 32768;

/// `sample`: rows x d, raw units. INVALID_ARGUMENT when empty, not whole rows, not finite, or all
/// zero.
[[nodiscard]] absl::StatusOr<SampleStatistics> MeasureSample(std::span<const float> sample,
                                                             std::int64_t d);

/// argmin_m sum_j |x_j - m| by Weiszfeld's iteration: from the mean, at most 100 rounds, until m
/// moves less than 1e-5; weights 1 / max(|x_j - m|, 1e-8), so a sample at m is no division by zero.
std::vector<double> GeometricMedian(std::span<const double> rows, std::int64_t d);

/// A random unit vector of `out.size()` values that depends on (seed, latent) alone.
void UnitDirection(std::uint64_t seed, std::int64_t latent, std::span<double> out);

/// `value` rounded to 12 significant bits: hides the order in which a sum over ranks was added.
double RoundedScale(double value);

}  // namespace sae::model
