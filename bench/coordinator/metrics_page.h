#pragma once
// The coordinator's metrics page, read and taken apart. Pure but for Fetch.

#include <map>
#include <string>

#include "sae/base/status.h"

namespace sae::bench {

/// A histogram of Prometheus: how many were at most so many seconds.
struct Histogram {
  std::map<double, double> at_most;  ///< the last one is +infinity
  double count() const { return at_most.empty() ? 0 : at_most.rbegin()->second; }
  /// Those since `before`.
  Histogram Since(const Histogram& before) const;
  /// Milliseconds, by straight lines inside the buckets; 0 when there are none.
  double Quantile(double q) const;
  /// "p50 1.2 ms, p99 8 ms of 345 (by buckets)".
  std::string Text() const;
};

class MetricsPage {
 public:
  /// From HOST:PORT, within ten seconds.
  [[nodiscard]] static absl::StatusOr<MetricsPage> Fetch(const std::string& address);
  explicit MetricsPage(const std::string& text);

  /// Of a line "name{labels} value"; -1 when there is none.
  double Value(const std::string& series) const;
  /// Those of all series whose labels contain `label`, together.
  Histogram HistogramOf(const std::string& name, const std::string& label = "") const;

 private:
  std::map<std::string, double> values_;
};

}  // namespace sae::bench
