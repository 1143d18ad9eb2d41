#include "server/metrics/live_trials.h"

#include "sae/base/status.h"

namespace sae::server {
namespace {
constexpr char kTokens[] = "saeloom_live_trial_tokens_total";
constexpr char kTokensHelp[] = "Tokens a running trial has trained on.";
constexpr char kDropped[] = "saeloom_dropped_series_total";
constexpr char kDroppedHelp[] =
    "Attempts of running trials without series, as there were --live-trial-metrics already.";
}  // namespace

const std::vector<LiveTrialFamily>& LiveTrialFamilies() {
  static const std::vector<LiveTrialFamily> families = {
      {"train.loss", "saeloom_live_trial_loss", "Training loss of a running trial."},
      {"train.l0", "saeloom_live_trial_l0", "Active latents a token of a running trial."},
      {"train.dead_fraction", "saeloom_live_trial_dead_feature_ratio",
       "Share of a running trial's latents that have long been silent."},
      {"tokens_per_second", "saeloom_live_trial_tokens_per_second",
       "Tokens a running trial trains on in a second."},
      {"straggler.score", "saeloom_live_trial_straggler_score",
       "Fastest rank's own time over the slowest's of a running trial with several; 1 = none is "
       "late."}};
  return families;
}

std::string LiveTrialMarkdown() {
  std::string out = "| name | type | labels | meaning |\n|---|---|---|---|\n";
  for (const LiveTrialFamily& f : LiveTrialFamilies())
    absl::StrAppend(&out, "| `", f.family, "` | gauge | sweep, trial | ", f.help, " |\n");
  absl::StrAppend(&out, "| `", kTokens, "` | counter | sweep, trial | ", kTokensHelp, " |\n");
  absl::StrAppend(&out, "| `", kDropped, "` | counter |  | ", kDroppedHelp, " |\n");
  return out;
}

LiveTrialMetrics::LiveTrialMetrics(prometheus::Registry& registry, int most) : most_(most) {
  if (most == 0) return;
  for (const LiveTrialFamily& f : LiveTrialFamilies())
    gauges_[f.value] = &prometheus::BuildGauge().Name(f.family).Help(f.help).Register(registry);
  tokens_ = &prometheus::BuildCounter().Name(kTokens).Help(kTokensHelp).Register(registry);
  dropped_ =
      &prometheus::BuildCounter().Name(kDropped).Help(kDroppedHelp).Register(registry).Add({});
}

void LiveTrialMetrics::Begin(const State& state) {
  for (const std::string& name : state.sweep_order()) {
    const SweepRecord& sweep = *state.sweep(name);
    for (const int index : sweep.live) {
      const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
      live_[{name, TrialNameOf(index)}].number = trial.live_attempt()->number;
    }
  }
}

void LiveTrialMetrics::OnEvent(const LogEvent& event) {
  if (most_ == 0) return;
  const Key key{event.sweep, event.trial};
  if (const auto* allocated = std::get_if<AttemptAllocated>(&event.body)) {
    live_[key].number = allocated->attempt;
  } else if (std::holds_alternative<AttemptEnded>(event.body)) {
    Remove(key);
  } else if (const auto* point = std::get_if<Point>(&event.body)) {
    // Points may come when their attempt is over.
    const auto it = live_.find(key);
    if (it != live_.end() && it->second.number == point->attempt) Show(key, *point, it->second);
  }
}

void LiveTrialMetrics::Show(const Key& key, const Point& point, Attempt& attempt) {
  if (!attempt.shown && shown_ >= most_) {
    if (!attempt.dropped) dropped_->Increment();
    attempt.dropped = true;
    return;
  }
  if (!attempt.shown) ++shown_;
  attempt.shown = true;
  const std::map<std::string, std::string> labels = {{"sweep", key.first}, {"trial", key.second}};
  for (const auto& [name, family] : gauges_) {
    const auto value = point.values.find(name);
    if (value == point.values.end()) continue;
    prometheus::Gauge*& gauge = attempt.gauges[name];
    if (gauge == nullptr) gauge = &family->Add(labels);
    gauge->Set(value->second);
  }
  if (attempt.tokens == nullptr) attempt.tokens = &tokens_->Add(labels);
  const double more = static_cast<double>(point.tokens) - attempt.tokens->Value();
  if (more > 0) attempt.tokens->Increment(more);
}

void LiveTrialMetrics::Remove(const Key& key) {
  const auto it = live_.find(key);
  if (it == live_.end()) return;
  for (const auto& [name, gauge] : it->second.gauges) gauges_.at(name)->Remove(gauge);
  if (it->second.tokens != nullptr) tokens_->Remove(it->second.tokens);
  if (it->second.shown) --shown_;
  live_.erase(it);
}

}  // namespace sae::server
