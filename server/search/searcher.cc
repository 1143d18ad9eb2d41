#include "server/search/searcher.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "sae/config/search_rungs.h"
#include "server/search/asha.h"
#include "server/search/median_stop.h"

namespace sae::server::search {
namespace {

constexpr std::array<const char*, 4> kActions = {"continue", "stop", "pause", "promote"};
constexpr double kMedianLooks = 20;  ///< at a trial, over its whole length

/// Grid and random: every point runs to its end.
class RunAll final : public Searcher {
 public:
  double NextLook(int) override { return kNever; }
  std::vector<Decision> Tell(const Input&) override { return {}; }
  std::string DebugString() const override { return ""; }
};

/// Tokens of the longest trial.
double Length(const config::SweepSpec& spec) {
  double length = spec.trial.train.tokens;
  for (const config::ParameterSet& set : spec.parameters) {
    for (const config::Parameter& p : set) {
      if (p.path != "train.tokens") continue;
      length = std::max(length, p.max);
      for (const std::string& value : p.values) {
        config::TrialConfig config;
        if (config::SetField(config, p.path, value).ok())
          length = std::max(length, config.train.tokens);
      }
    }
  }
  return length;
}

std::unique_ptr<Searcher> MakeInner(const config::SweepSpec& spec) {
  AshaShape shape;
  shape.tokens = config::RungTokens(spec);
  if (shape.tokens.empty()) return std::make_unique<RunAll>();
  shape.eta = static_cast<double>(spec.asha.eta > 1 ? spec.asha.eta : 4);
  shape.brackets = config::BracketCount(spec);
  if (spec.asha.mode == "promote") return std::make_unique<AshaPromote>(std::move(shape));
  return std::make_unique<AshaStop>(std::move(shape));
}

}  // namespace

std::string ToString(Action action) { return kActions[static_cast<std::size_t>(action)]; }

double LossOf(const config::SweepSpec& spec, double value, bool feasible) {
  if (!feasible || !std::isfinite(value)) return kWorst;
  return spec.minimize ? value : -value;
}

std::unique_ptr<Searcher> MakeSearcher(const config::SweepSpec& spec) {
  std::unique_ptr<Searcher> inner = MakeInner(spec);
  if (!spec.median_stop.enabled) return inner;
  MedianShape shape;
  shape.grace = spec.median_stop.grace_tokens;
  shape.min_trials = spec.median_stop.min_trials;
  shape.interval = std::max(1.0, Length(spec) / kMedianLooks);
  return std::make_unique<MedianStop>(shape, std::move(inner));
}

}  // namespace sae::server::search
