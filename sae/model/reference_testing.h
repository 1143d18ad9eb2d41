#pragma once
// For tests of the reference: central differences of every parameter, distance from kinks, and
// small functions on vectors.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "sae/base/random.h"
#include "sae/model/golden_runs.h"
#include "sae/model/reference.h"

namespace sae::model::testing {

inline ReferenceResult Evaluate(const GoldenRun& run) {
  return ReferenceForwardBackward(run.p, run.x, run.y, run.options);
}

inline double Squares(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return sum;
}

inline double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline std::vector<double> Row(const std::vector<double>& rows, std::int64_t row,
                               std::int64_t width) {
  return {rows.begin() + row * width, rows.begin() + (row + 1) * width};
}

inline double WorstGap(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

/// Largest absolute difference over all parameters.
inline double WorstGap(const ReferenceParameters& a, const ReferenceParameters& b) {
  double worst = 0;
  for (const auto member : kReferenceMembers)
    worst = std::max(worst, WorstGap(a.*member, b.*member));
  return worst;
}

/// Holds what the gradient holds: AuxK's target, Gated's auxiliary decoder. Points into `result`
/// and `p`, which must outlive the options.
inline ReferenceOptions Frozen(ReferenceOptions o, const ReferenceResult& result,
                               const ReferenceParameters& p) {
  o.frozen_x_hat = result.x_hat;
  o.frozen_b_dec = p.b_dec;
  o.frozen_w_dec = p.w_dec;
  o.frozen_w_skip = p.w_skip;
  return o;
}

/// Worst relative difference of the gradient from central differences with h = 1e-6 over every
/// parameter of `run`, but thresholds unless asked for.
inline double WorstDifference(const GoldenRun& run, bool with_threshold = false) {
  constexpr double h = 1e-6;
  const ReferenceResult r = Evaluate(run);
  const ReferenceOptions held = Frozen(run.options, r, run.p);
  double worst = 0;
  for (const auto member : kReferenceMembers) {
    if (member == &ReferenceParameters::threshold && !with_threshold) continue;
    for (std::size_t i = 0; i < (run.p.*member).size(); ++i) {
      ReferenceParameters q = run.p;
      (q.*member)[i] += h;
      const double up = ReferenceForwardBackward(q, run.x, run.y, held).loss;
      (q.*member)[i] -= 2 * h;
      const double down = ReferenceForwardBackward(q, run.x, run.y, held).loss;
      const double analytic = (r.gradient.*member)[i];
      worst =
          std::max(worst, std::abs((up - down) / (2 * h) - analytic) / (1e-3 + std::abs(analytic)));
    }
  }
  return worst;
}

/// Distance of the nearest pre-activation from where the loss has a kink or jump: 0, a threshold,
/// or the gap at a top-k cut.
inline double KinkDistance(const GoldenRun& run) {
  const ReferenceResult r = Evaluate(run);
  const ReferenceParameters& p = run.p;
  const auto n = static_cast<std::size_t>(p.n);
  const std::vector<double>& z = r.pre_activations;
  double nearest = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < z.size(); ++i) {
    double at = z[i];
    if (run.options.architecture == Architecture::kGated) {
      nearest = std::min(nearest, std::abs(std::exp(p.r_mag[i % n]) * at + p.b_mag[i % n]));
      at += p.b_enc[i % n];
    }
    if (run.options.architecture == Architecture::kJumpRelu) at -= p.threshold[i % n];
    nearest = std::min(nearest, std::abs(at));
  }
  const auto cut = [&](std::vector<double> values, std::int64_t k) {
    const auto at = static_cast<std::size_t>(k);
    std::sort(values.rbegin(), values.rend());
    // Between two that are not positive there is no cut: both codes are 0.
    if (k > 0 && at < values.size() && values[at - 1] > 0)
      nearest = std::min(nearest, values[at - 1] - std::max(values[at], 0.0));
  };
  const std::int64_t rows = static_cast<std::int64_t>(run.x.size()) / p.d;
  if (run.options.architecture == Architecture::kTopK) {
    for (std::int64_t b = 0; b < rows; ++b) {
      cut(Row(z, b, p.n), run.options.k);
      if (run.options.multi_topk) cut(Row(z, b, p.n), 4 * run.options.k);
    }
  } else if (run.options.k > 0 && r.min_kept > 0) {
    cut(z, run.options.k * rows);
  }
  for (std::int64_t b = 0; b < rows && run.options.aux_k > 0; ++b) {
    std::vector<double> dead = Row(z, b, p.n);
    for (std::size_t i = 0; i < n; ++i) dead[i] = run.options.dead[i] ? dead[i] : 0;
    cut(dead, run.options.aux_k);
  }
  return nearest;
}

/// Normal values.
inline std::vector<double> Draw(std::uint64_t seed, std::size_t count, double scale = 1,
                                double offset = 0) {
  Random random(seed);
  std::vector<double> out(count);
  for (double& v : out) v = offset + scale * random.Normal();
  return out;
}

}  // namespace sae::model::testing
