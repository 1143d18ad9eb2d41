#pragma once
// Initial values of an SAE, the same for every number of ranks: a decoder row is a function of
// (seed, global latent) alone. Everything is computed in float64 from the sample, in row order.
// Functions without state; thread-safe. Sources: Gao et al. 2024 (arXiv 2406.04093) section A.1 and
// OpenAI's train.py (transposed init, geometric median, layer norm); Weiszfeld 1937; Rajamanoharan
// et al. 2024, arXiv 2407.14435 (JumpReLU); spec numerics.md 6.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/status.h"
#include "sae/model/options.h"

namespace sae::model {

/// What the initial sample settles, in units of x' = x / input_scale (and y' = y / input_scale).
struct SampleStatistics {
  double input_scale = 1;    ///< S, in raw units
  double variance = 0;       ///< sum over the width of the variance of the targets (V0 of AuxK)
  std::vector<double> bias;  ///< b_dec: geometric median of x' [d], or mean of y' [d_out]
};

struct SampleOptions {
  /// kRms: S^2 = mean |x|^2. kMeanNorm: S = mean |x| / sqrt d. kLayerNorm: S = 1, rows normalised.
  InputScale input_scale = InputScale::kRms;
  /// A transcoder's: one row of d_out values for each row of the sample, raw units. Empty: x
  /// itself.
  std::span<const float> targets;
  std::int64_t d_out = 0;
};

/// Rows of the sample that the geometric median uses at most.
inline constexpr std::int64_t kMedianRows = 32768;

/// `sample`: rows x d, raw units. INVALID_ARGUMENT when empty, not whole rows, not finite, all
/// zero, or targets that do not match it.
[[nodiscard]] absl::StatusOr<SampleStatistics> MeasureSample(std::span<const float> sample,
                                                             std::int64_t d,
                                                             const SampleOptions& options = {});

/// Layer norm of one token: out = (x - mean) / (deviation + 1e-5), deviation with d - 1 (0 for d =
/// 1). What comes back from x' is x' * deviation + mean. `out` may be `row`.
struct RowNorm {
  double mean = 0;
  double deviation = 0;
};
template <class T>
RowNorm NormaliseRow(std::span<const T> row, std::span<T> out);

/// JumpReLU's start from pre-activations z [tokens, count] of some latents (row-major).
struct ThresholdSample {
  /// Per latent the cut that leaves round(share * tokens) of its values above: their mean with the
  /// next one below, i.e. the (1 - share) quantile. share = L* / n.
  std::vector<double> threshold;
  std::vector<double> deviation;  ///< of z over the tokens
};
/// tokens >= 1, 0 <= share <= 1. NaN in z is a bug of the caller.
template <class T>
ThresholdSample ThresholdQuantiles(std::span<const T> z, std::int64_t count, double share);

/// The window's width: a tenth of the median of all latents' deviations. 0 where z is constant.
double BandwidthOf(std::vector<double> deviations);

/// Raises thresholds to at least the bandwidth, so that no window reaches down to 0.
void FloorThresholds(double bandwidth, std::vector<double>* thresholds);

/// argmin_m sum_j |x_j - m| by Weiszfeld's iteration: from the mean, at most 100 rounds, until m
/// moves less than 1e-5; weights 1 / max(|x_j - m|, 1e-8), so a sample at m is no division by zero.
std::vector<double> GeometricMedian(std::span<const double> rows, std::int64_t d);

/// A random unit vector of `out.size()` values that depends on (seed, latent) alone.
void UnitDirection(std::uint64_t seed, std::int64_t latent, std::span<double> out);

/// `value` rounded to 12 significant bits: hides the order in which a sum over ranks was added.
double RoundedScale(double value);

}  // namespace sae::model
