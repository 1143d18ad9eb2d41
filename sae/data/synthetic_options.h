#pragma once
// What synthetic data is made of. Plain values. Sources: Sharkey et al. 2022 (elementary); SAELens'
// synthetic data and SynthSAEBench (correlation, hierarchy, the 16k preset); Chanin et al. 2024
// (absorption toy).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::data {

struct SyntheticOptions {
  std::string preset;  ///< name of the preset that set the values below; "" = none
  std::int64_t d = 64;
  std::int64_t features = 256;  ///< N
  std::uint64_t seed = 0;

  /// The dictionary: a random orthonormal one when N <= d, or the first N axes (Adam, which works
  /// by coordinates, finds those more easily); else random unit directions, pushed apart by so many
  /// steps of Adam.
  bool axes = false;
  std::int64_t orthogonalise_steps = 0;
  double orthogonalise_lr = 0.01;

  double p_max = 0.1;    ///< firing probability of the most frequent feature
  double p_min = 0.005;  ///< and of the rarest
  double zipf = 0.5;     ///< exponent s of rank^-s, mapped affinely onto [p_min, p_max]
  std::vector<double> probabilities;  ///< [N], in place of the three above; empty = those
  /// Firing is correlated by a Gaussian copula of this rank: loadings are scale * N(0, 1).
  std::int64_t correlation_rank = 0;
  double correlation_scale = 0.1;

  /// A forest: roots, then `depth` levels of `branching` children each, by index, breadth first. A
  /// child fires only where its parent does. Features beyond the forest are free.
  std::int64_t roots = 0;
  std::int64_t branching = 0;
  std::int64_t depth = 0;
  std::vector<std::int64_t> parents;  ///< [N], -1 = none, parent < child; in place of the three
  bool exclusive = false;   ///< at most one child of a parent fires: one of them at random
  bool compensate = false;  ///< children are drawn more often, so that p_i remain what they were
  bool scale_by_parent = false;  ///< a child's magnitude times its parent's over the parent's mean

  /// a_i = max(0, mu_i + sigma_i * N(0, 1)) when it fires. mu_i runs from mu to mu_end by index;
  /// sigma_i = |N(sigma, sigma_spread)|, drawn once.
  double mu = 1.0;
  std::optional<double> mu_end;
  double sigma = 0.25;
  double sigma_spread = 0;
  /// high > 0: a_i is uniform in [low, high) instead.
  double low = 0;
  double high = 0;

  double bias_norm = 0.5;
};

/// Every value that makes no sense, in one INVALID_ARGUMENT.
[[nodiscard]] absl::Status Validate(const SyntheticOptions& options);

/// elementary; toy_a (32 orthonormal features of probability 0.1, magnitudes U(0.5, 1.5)); toy_b
/// (64 random directions in d = 32, probability 0.05); absorption (4 features, feature 1 only with
/// feature 0); synthsaebench_16k. Unknown: INVALID_ARGUMENT that names the nearest.
[[nodiscard]] absl::StatusOr<SyntheticOptions> SyntheticPreset(const std::string& name);

/// "d=64,features=256,rows=50000,seed=0": keys are the numbers and switches (0 or 1) above by their
/// names, rows, `p` (p_max and p_min at once) and, first, preset=NAME. An unknown key is an error
/// that names the nearest.
struct SyntheticSpec {
  SyntheticOptions options;
  std::int64_t rows = 50000;
};
[[nodiscard]] absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(const std::string& text);
/// The text that parses to `spec`, but for `probabilities` and `parents` that no preset set.
std::string ToText(const SyntheticSpec& spec);

}  // namespace sae::data
