#pragma once
// How often latents fire (f > 0): L0, dead fraction, densities. Counts over all rows added. The
// dead fraction depends on how many those are: state them. Shrinkage (gamma) and the ratio of norms
// are in sae/model/metrics.h. Not thread-safe. Source: spec algorithms.md 8.4, 8.5, 8.10.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/codes.h"

namespace sae::eval {

class FiringStatistics {
 public:
  explicit FiringStatistics(std::int64_t latents) : fires_(static_cast<std::size_t>(latents)) {}
  void Add(const kernels::Codes<float>& codes);

  std::int64_t rows() const { return rows_; }
  std::span<const std::int64_t> fires() const { return fires_; }
  double L0() const;            ///< mean latents a row; NaN without rows
  double DeadFraction() const;  ///< latents that never fired
  double Denser(
      double density) const;  ///< share of latents that fire on more than this share of rows
  /// Counts of log10(density + 1e-10) in bins of `width` from -10 to 0; dead latents in the first.
  std::vector<std::int64_t> Histogram(double width = 0.25) const;

 private:
  std::vector<std::int64_t> fires_;
  std::int64_t rows_ = 0;
};

}  // namespace sae::eval
