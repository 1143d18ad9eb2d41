#pragma once
// Which features of synthetic data fire. Independent: feature i fires with q_i. Correlated: a
// Gaussian copula, fire_i = 1[g_i > Phi^-1(1 - q_i)], g ~ N(0, A A^T + diag(1 - |A_i|^2)), A of low
// rank; given the factors features are independent, so one uniform number a feature decides. A
// forest then silences children of silent parents. Immutable; thread-safe on distinct Random and
// Factors. Source: spec algorithms.md 13.1, 13.2 (SynthSAEBench).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/random.h"
#include "sae/data/synthetic_options.h"

namespace sae::data {

/// p_i: given, or Zipf's law r^-s mapped affinely so that rank 1 has p_max and rank N p_min.
std::vector<double> FiringProbabilities(const SyntheticOptions& options);

/// parent of each feature, -1 = none: given, or the forest of roots, branching and depth.
std::vector<std::int64_t> Parents(const SyntheticOptions& options);

/// Phi^-1(p); -inf at 0, +inf at 1. Relative error below 1e-13 in the middle.
double NormalQuantile(double p);

class SyntheticFiring {
 public:
  explicit SyntheticFiring(const SyntheticOptions& options);

  using Factors = std::vector<double>;
  /// The row's common factors: rank normal numbers.
  Factors DrawFactors(Random& random) const;
  bool Fires(std::size_t i, const Factors& factors, Random& random) const {
    return random.Uniform() < (rank_ == 0 ? drawn_[i] : Conditional(i, factors));
  }

  /// p_i as asked for, and q_i as drawn: with `compensate`, of a child with siblings C under parent
  /// p, min(1, p_i / p_p * (1 + sum_{C without i} p_c / p_p)).
  const std::vector<double>& probabilities() const { return probabilities_; }
  const std::vector<double>& drawn() const { return drawn_; }
  /// A, [features, rank].
  std::span<const double> loadings() const { return loadings_; }
  std::int64_t rank() const { return static_cast<std::int64_t>(rank_); }

 private:
  double Conditional(std::size_t i, const Factors& factors) const;

  std::vector<double> probabilities_, drawn_;
  std::size_t rank_;
  std::vector<double> loadings_, threshold_, rest_;  // rest = sqrt(1 - |A_i|^2)
};

/// The forest's rules on a row of magnitudes, parents before children.
class SyntheticHierarchy {
 public:
  /// `mean`: mean magnitude of each feature, for scale_by_parent.
  SyntheticHierarchy(const SyntheticOptions& options, std::vector<double> mean);
  void Apply(std::span<float> magnitudes, Random& random) const;
  const std::vector<std::int64_t>& parents() const { return parents_; }

 private:
  const bool exclusive_, scale_;
  std::vector<double> mean_;
  std::vector<std::int64_t> parents_;
  struct Family {
    std::size_t parent;
    std::vector<std::size_t> children;
  };
  std::vector<Family> families_;  // by ascending parent
};

}  // namespace sae::data
