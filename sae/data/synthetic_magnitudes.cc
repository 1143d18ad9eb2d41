#include "sae/data/synthetic_magnitudes.h"

#include <cmath>

#include "sae/data/synthetic_streams.h"

namespace sae::data {

SyntheticMagnitudes::SyntheticMagnitudes(const SyntheticOptions& o)
    : low_(o.low),
      high_(o.high),
      mu_(static_cast<std::size_t>(o.features), o.high > 0 ? (o.low + o.high) / 2 : o.mu),
      sigma_(mu_.size(), o.sigma) {
  Random random(HashCounter(o.seed, 0, kSpreadStream));
  const double last = std::max(1.0, static_cast<double>(mu_.size()) - 1);
  for (std::size_t i = 0; i < mu_.size(); ++i) {
    if (o.mu_end && o.high == 0) mu_[i] += (*o.mu_end - o.mu) * static_cast<double>(i) / last;
    if (o.sigma_spread > 0) sigma_[i] = std::abs(o.sigma + o.sigma_spread * random.Normal());
  }
}

}  // namespace sae::data
