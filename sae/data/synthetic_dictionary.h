#pragma once
// The true dictionary of synthetic data: unit rows [features, d], and the bias. Functions of the
// options alone. Source: spec algorithms.md 13.1.

#include <cstdint>
#include <vector>

#include "sae/data/synthetic_options.h"

namespace sae::data {

/// Axes; or Gaussian directions; features <= d: Gram-Schmidt; else `orthogonalise_steps` steps of
/// Adam on sum_{i != j} (F_i . F_j)^2 + N sum_i (|F_i|^2 - 1)^2, then unit norms again.
std::vector<float> MakeDictionary(const SyntheticOptions& options);

/// A random direction of norm bias_norm.
std::vector<float> MakeBias(const SyntheticOptions& options);

/// The first term of that loss per row: mean_i sum_{j != i} (F_i . F_j)^2.
double MeanSquaredOverlap(const std::vector<float>& dictionary, std::int64_t d);

}  // namespace sae::data
