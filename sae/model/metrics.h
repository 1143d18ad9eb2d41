#pragma once
// Reconstruction metrics of section "Metrics": sums in float64 over all rows, finalised once, so
// any split of the rows gives the same numbers. Sums are taken about a given centre (the data's
// mean or near it), which keeps them accurate where the mean is large. Not thread-safe; add
// per-thread accumulators with Merge. Definitions: fvu = sum |x - x_hat|^2 / sum |x - mean of the
// rows added|^2; explained_variance = 1 - fvu; gamma = sum |x_hat - c|^2 / sum (x - c).(x_hat - c),
// c the centre; cosine = mean of x.x_hat / (|x| |x_hat|) without centring, 0 for a zero vector.

#include <cstdint>
#include <span>
#include <vector>

namespace sae::model {

struct ReconstructionMetrics {
  std::int64_t rows = 0;
  double squared_error = 0;       ///< mean over rows of |x - x_hat|^2
  double mean_squared_error = 0;  ///< mean over rows and columns of (x - x_hat)^2
  double fvu = 0;
  double explained_variance = 0;
  double explained_variance_centred =
      0;  ///< of the residual without its mean; >= explained_variance
  double gamma = 0;
  double cosine = 0;
  double l2_ratio = 0;  ///< mean of |x_hat| / |x|
};

class ReconstructionAccumulator {
 public:
  ReconstructionAccumulator() = default;
  /// `centre`: d values in the units of the rows.
  explicit ReconstructionAccumulator(std::span<const double> centre);

  /// rows x d each.
  template <class T>
  void Add(std::span<const T> x, std::span<const T> x_hat);
  void Merge(const ReconstructionAccumulator& other);
  /// All sums, so that ranks can add theirs; the centre is the same on all of them.
  std::vector<double> Sums() const;
  void SetSums(std::span<const double> sums);
  /// Ratios of empty or constant data are NaN, not an error.
  ReconstructionMetrics Result() const;

 private:
  std::vector<double> centre_;
  std::int64_t rows_ = 0;
  double error_ = 0;        // sum |e|^2
  double squares_ = 0;      // sum |x - c|^2
  double hat_squares_ = 0;  // sum |x_hat - c|^2
  double products_ = 0;     // sum (x - c).(x_hat - c)
  double cosine_ = 0;
  double ratio_ = 0;
  std::vector<double> sum_;        // sum (x - c)
  std::vector<double> error_sum_;  // sum (x - x_hat)
};

/// Counts of log10(fires / tokens + 1e-10) in bins of `width` from -10 to 0; the last bin takes 0
/// itself.
std::vector<std::int64_t> DensityHistogram(std::span<const std::int64_t> fires, std::int64_t tokens,
                                           double width);

/// Latents that never fired over all latents; NaN for none. State how many tokens were counted.
double DeadFraction(std::span<const std::int64_t> fires);

/// (Z - S) / (Z - C) of cross-entropies: C of the model, S with x_hat spliced in, Z with zeros (or
/// the mean) in its place. Meaningless where Z is near C: print all three.
double LossRecovered(double clean, double spliced, double ablated);

}  // namespace sae::model
