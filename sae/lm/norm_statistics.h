#pragma once
// Row norms of a harvest in bounded memory: a histogram with bins 1% wide, so quantiles and the
// share of the largest rows are right to that; smallest, largest and the sum are exact. Not
// thread-safe.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::lm {

/// A limit on row norms: "10x" is a multiple of the median norm, "300" the norm itself.
struct NormLimit {
  double value = 0;
  bool of_median = false;
};
[[nodiscard]] absl::StatusOr<NormLimit> ParseNormLimit(const std::string& text);

double RowNorm(const float* row, std::int64_t d);

class NormStatistics {
 public:
  void Add(double norm);
  std::int64_t count() const { return count_; }
  double smallest() const { return smallest_; }
  double largest() const { return largest_; }
  /// The norm below which a share `q` of the rows lies; 0 without rows.
  double Quantile(double q) const;
  /// Share of the sum of squares that the largest `fraction` of the rows hold.
  double TopShare(double fraction) const;

 private:
  struct Bin {
    std::int64_t count = 0;
    double squares = 0;
  };
  std::map<int, Bin> bins_;  ///< by floor(log(norm) / log(1.01))
  std::int64_t count_ = 0;
  double squares_ = 0;
  double smallest_ = 0;
  double largest_ = 0;
};

}  // namespace sae::lm
