#pragma once
// How good a label of a latent is, on the natural distribution: recall and precision at a
// threshold, precision by tenths of the activations (the top one is what examples show), and how
// much of the activation the label covers. Pure. Source: spec algorithms.md 10.6.

#include <array>
#include <cstdint>
#include <span>

namespace sae::eval {

/// Precision at a base rate, from a balanced probe set's recall and false-positive rate (Bayes).
double PrecisionAtBaseRate(double recall, double false_positive_rate, double base_rate);

struct LabelQuality {
  std::int64_t rows = 0;
  std::int64_t fired = 0;     ///< f > threshold
  std::int64_t labelled = 0;  ///< label holds
  double recall = 0;          ///< P(f > threshold | label); NaN where undefined, as are all
  double precision = 0;       ///< P(label | f > threshold)
  double coverage = 0;        ///< share of the sum of f > threshold that lies on labelled rows
  /// P(label | tenth of the rows that fired, by f); [9] = the strongest. Of equal f the earlier row
  /// counts as the weaker.
  std::array<double, 10> precision_by_decile{};
};

/// `f` and `label` of the same rows; label 0 or 1.
LabelQuality MeasureLabel(std::span<const float> f, std::span<const std::uint8_t> label,
                          float threshold = 0);

}  // namespace sae::eval
