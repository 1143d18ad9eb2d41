#pragma once
// How strongly features of synthetic data fire: uniform in [low, high), or ReLU(mu_i + sigma_i *
// N(0, 1)). Immutable; thread-safe on distinct Random. Source: spec algorithms.md 13.1, 13.2.

#include <algorithm>
#include <cstddef>
#include <vector>

#include "sae/base/random.h"
#include "sae/data/synthetic_options.h"

namespace sae::data {

class SyntheticMagnitudes {
 public:
  explicit SyntheticMagnitudes(const SyntheticOptions& options);

  float Draw(std::size_t i, Random& random) const {
    if (high_ > 0) return static_cast<float>(low_ + (high_ - low_) * random.Uniform());
    return static_cast<float>(std::max(0.0, mu_[i] + sigma_[i] * random.Normal()));
  }
  /// mu_i, or the middle of the uniform range.
  const std::vector<double>& mean() const { return mu_; }
  const std::vector<double>& sigma() const { return sigma_; }

 private:
  const double low_, high_;
  std::vector<double> mu_, sigma_;
};

}  // namespace sae::data
