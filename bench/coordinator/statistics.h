#pragma once
// Latencies from many threads, and their quantiles. Thread-safe.

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/mutex.h"

namespace sae::bench {

class Latencies {
 public:
  void Add(absl::Duration value);
  std::size_t size();
  /// Zero when there are none.
  absl::Duration Quantile(double q);
  /// "p50 1.2 ms, p99 8 ms, most 12 ms of 345".
  std::string Text();
  void Clear();

 private:
  Mutex mu_;
  std::vector<absl::Duration> values_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::bench
