#include "sae/eval/firing_statistics.h"

#include <algorithm>
#include <numeric>

#include "sae/model/metrics.h"

namespace sae::eval {

void FiringStatistics::Add(const kernels::Codes<float>& codes) {
  rows_ += codes.tokens;
  for (std::size_t e = 0; e < static_cast<std::size_t>(codes.nnz()); ++e) {
    if (codes.values[e] > 0) ++fires_[static_cast<std::size_t>(codes.ids[e])];
  }
}

double FiringStatistics::L0() const {
  return static_cast<double>(std::accumulate(fires_.begin(), fires_.end(), std::int64_t{0})) /
         static_cast<double>(rows_);
}

double FiringStatistics::DeadFraction() const {
  return static_cast<double>(std::count(fires_.begin(), fires_.end(), 0)) /
         static_cast<double>(fires_.size());
}

double FiringStatistics::Denser(double density) const {
  const double limit = density * static_cast<double>(rows_);
  return static_cast<double>(
             std::count_if(fires_.begin(), fires_.end(),
                           [&](std::int64_t f) { return static_cast<double>(f) > limit; })) /
         static_cast<double>(fires_.size());
}

std::vector<std::int64_t> FiringStatistics::Histogram(double width) const {
  return model::DensityHistogram(fires_, rows_, width);
}

}  // namespace sae::eval
