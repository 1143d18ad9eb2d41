#include "bench/coordinator/statistics.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace sae::bench {

void Latencies::Add(absl::Duration value) {
  MutexLock lock(mu_);
  values_.push_back(value);
}

std::size_t Latencies::size() {
  MutexLock lock(mu_);
  return values_.size();
}

absl::Duration Latencies::Quantile(double q) {
  MutexLock lock(mu_);
  if (values_.empty()) return absl::ZeroDuration();
  std::sort(values_.begin(), values_.end());
  return values_[static_cast<std::size_t>(q * static_cast<double>(values_.size() - 1))];
}

std::string Latencies::Text() {
  const auto ms = [&](double q) { return absl::ToDoubleMilliseconds(Quantile(q)); };
  return absl::StrFormat("p50 %.1f ms, p99 %.1f ms, most %.1f ms of %d", ms(0.5), ms(0.99), ms(1),
                         size());
}

void Latencies::Clear() {
  MutexLock lock(mu_);
  values_.clear();
}

}  // namespace sae::bench
