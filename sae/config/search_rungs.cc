#include "sae/config/search_rungs.h"

#include <algorithm>

namespace sae::config {
namespace {

/// The largest n with eta^n <= x; exact where x is a power of eta, which logarithms are not.
std::int64_t WholeLog(double x, double eta) {
  std::int64_t n = 0;
  for (double power = eta; power <= x && n < 64; power *= eta) ++n;
  return n;
}

bool HasRungs(const SweepSpec& spec) { return spec.search == "asha" || spec.search == "hyperband"; }

}  // namespace

bool IsSearching(const SweepSpec& spec) { return HasRungs(spec) || spec.median_stop.enabled; }

std::vector<double> RungTokens(const SweepSpec& spec) {
  std::vector<double> rungs;
  if (!HasRungs(spec)) return rungs;
  const AshaOptions& a = spec.asha;
  const double top = a.max_time > 0 ? a.max_time : spec.trial.train.tokens;
  const double eta = static_cast<double>(a.eta > 1 ? a.eta : 4);
  std::int64_t n = a.max_rungs > 0 ? a.max_rungs : 5;
  n = std::min(n, 1 + WholeLog(top / std::max(a.min_time, 1.0), eta));
  n = std::min(n, 1 + WholeLog(static_cast<double>(spec.max_trials), eta));
  double at = top;
  for (std::int64_t i = 0; i < n; ++i, at /= eta) rungs.push_back(std::max(at, 1.0));
  std::reverse(rungs.begin(), rungs.end());
  return rungs;
}

int BracketCount(const SweepSpec& spec) {
  const auto rungs = static_cast<std::int64_t>(RungTokens(spec).size());
  if (rungs == 0) return 0;
  const std::int64_t wanted = spec.asha.brackets > 0       ? spec.asha.brackets
                              : spec.search == "hyperband" ? rungs
                                                           : 1;
  return static_cast<int>(std::min(wanted, rungs));
}

bool IsEvaluationMetric(const std::string& metric) { return metric.rfind("heldout.", 0) == 0; }

void FillForSearch(const SweepSpec& spec, TrialConfig& config) {
  if (config.train.eval_every_tokens || !IsEvaluationMetric(spec.objective_metric)) return;
  const std::vector<double> rungs = RungTokens(spec);
  if (!rungs.empty())
    config.train.eval_every_tokens = std::min(rungs.front(), config.train.tokens / 10);
}

}  // namespace sae::config
