#include "sae/data/synthetic_firing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "sae/data/synthetic_streams.h"

namespace sae::data {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752440;

double NormalCdf(double x) { return 0.5 * std::erfc(-x * kSqrtHalf); }

/// Share of a feature's variance that common factors may take.
constexpr double kLargestShare = 0.99;

std::vector<double> Compensate(const std::vector<double>& p,
                               const std::vector<std::int64_t>& parents) {
  std::vector<double> siblings(p.size());  // by parent: sum of the children's p
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (parents[i] >= 0) siblings[static_cast<std::size_t>(parents[i])] += p[i];
  }
  std::vector<double> q = p;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (parents[i] < 0) continue;
    const auto parent = static_cast<std::size_t>(parents[i]);
    if (p[parent] <= 0) continue;
    q[i] = std::min(1.0, p[i] / p[parent] * (1 + (siblings[parent] - p[i]) / p[parent]));
  }
  return q;
}

}  // namespace

std::vector<double> FiringProbabilities(const SyntheticOptions& o) {
  if (!o.probabilities.empty()) return o.probabilities;
  std::vector<double> out(static_cast<std::size_t>(o.features));
  const double last = std::pow(static_cast<double>(o.features), -o.zipf);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double raw = std::pow(static_cast<double>(i + 1), -o.zipf);
    const double share = last < 1 ? (raw - last) / (1 - last) : 1;
    out[i] = o.p_min + share * (o.p_max - o.p_min);
  }
  return out;
}

std::vector<std::int64_t> Parents(const SyntheticOptions& o) {
  if (!o.parents.empty()) return o.parents;
  std::vector<std::int64_t> out(static_cast<std::size_t>(o.features), -1);
  std::int64_t first = o.roots;  // of the level
  std::int64_t level = o.roots;  // its parents' level's size
  for (std::int64_t depth = 0; depth < o.depth && first < o.features; ++depth) {
    level = std::min(level * o.branching, o.features - first);
    for (std::int64_t i = first; i < first + level; ++i)
      out[static_cast<std::size_t>(i)] = (i - o.roots) / o.branching;
    first += level;
  }
  return out;
}

// Rational approximation (Acklam; error 1e-9), then two steps of Halley's method on the CDF.
double NormalQuantile(double p) {
  if (p <= 0) return -std::numeric_limits<double>::infinity();
  if (p >= 1) return std::numeric_limits<double>::infinity();
  if (p > 0.5) return -NormalQuantile(1 - p);
  double x = 0;
  if (p < 0.02425) {
    const double q = std::sqrt(-2 * std::log(p));
    x = (((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838) * q -
           2.549732539343734) *
              q +
          4.374664141464968) *
             q +
         2.938163982698783) /
        ((((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996) * q +
          3.754408661907416) *
             q +
         1);
  } else {
    const double q = p - 0.5, r = q * q;
    x = (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
           1.383577518672690e+02) *
              r -
          3.066479806614716e+01) *
             r +
         2.506628277459239) *
        q /
        (((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
           6.680131188771972e+01) *
              r -
          1.328068155288572e+01) *
             r +
         1);
  }
  for (int i = 0; i < 2; ++i) {
    const double error = (NormalCdf(x) - p) * std::sqrt(6.283185307179586) * std::exp(x * x / 2);
    x -= error / (1 + x * error / 2);
  }
  return x;
}

SyntheticFiring::SyntheticFiring(const SyntheticOptions& o)
    : probabilities_(FiringProbabilities(o)),
      drawn_(o.compensate ? Compensate(probabilities_, Parents(o)) : probabilities_),
      rank_(static_cast<std::size_t>(o.correlation_rank)) {
  if (rank_ == 0) return;
  Random random(HashCounter(o.seed, 0, kLoadingStream));
  loadings_.resize(drawn_.size() * rank_);
  for (std::size_t i = 0; i < drawn_.size(); ++i) {
    double squares = 0;
    double* row = &loadings_[i * rank_];
    for (std::size_t r = 0; r < rank_; ++r) {
      row[r] = o.correlation_scale * random.Normal();
      squares += row[r] * row[r];
    }
    if (squares > kLargestShare) {
      for (std::size_t r = 0; r < rank_; ++r) row[r] *= std::sqrt(kLargestShare / squares);
      squares = kLargestShare;
    }
    rest_.push_back(std::sqrt(1 - squares));
    threshold_.push_back(-NormalQuantile(drawn_[i]));
  }
}

SyntheticFiring::Factors SyntheticFiring::DrawFactors(Random& random) const {
  Factors out(rank_);
  for (double& v : out) v = random.Normal();
  return out;
}

double SyntheticFiring::Conditional(std::size_t i, const Factors& factors) const {
  double mean = 0;
  for (std::size_t r = 0; r < rank_; ++r) mean += loadings_[i * rank_ + r] * factors[r];
  return NormalCdf((mean - threshold_[i]) / rest_[i]);
}

SyntheticHierarchy::SyntheticHierarchy(const SyntheticOptions& o, std::vector<double> mean)
    : exclusive_(o.exclusive),
      scale_(o.scale_by_parent),
      mean_(std::move(mean)),
      parents_(Parents(o)) {
  std::map<std::int64_t, std::vector<std::size_t>> children;
  for (std::size_t i = 0; i < parents_.size(); ++i) {
    if (parents_[i] >= 0) children[parents_[i]].push_back(i);
  }
  for (auto& [parent, list] : children)
    families_.push_back({static_cast<std::size_t>(parent), std::move(list)});
}

void SyntheticHierarchy::Apply(std::span<float> a, Random& random) const {
  for (const Family& family : families_) {
    const float parent = a[family.parent];
    std::uint64_t active = 0;
    for (const std::size_t child : family.children) {
      if (a[child] == 0.0F) continue;
      if (parent == 0.0F) {
        a[child] = 0.0F;
        continue;
      }
      if (scale_) a[child] = static_cast<float>(a[child] * (parent / mean_[family.parent]));
      ++active;
    }
    if (!exclusive_ || active < 2) continue;
    std::uint64_t kept = random.Below(active);
    for (const std::size_t child : family.children) {
      if (a[child] != 0.0F && kept-- != 0) a[child] = 0.0F;
    }
  }
}

}  // namespace sae::data
