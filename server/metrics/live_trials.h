#pragma once
// Newest values of running trials for Prometheus, where asked for: the one family with a trial in
// its labels, so it is bounded. A trial has its series from its first point till its attempt ends;
// beyond the bound it has none, and its attempt is counted. Belongs to the core's thread; the
// registry outlives it.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "server/core/observer.h"
#include "server/core/state.h"

namespace sae::server {

class LiveTrialMetrics final : public CoreObserver {
 public:
  /// Of at most `most` trials at once; registers nothing where that is 0.
  LiveTrialMetrics(prometheus::Registry& registry, int most);

  /// Once, before the first event: attempts that are under way in `state`.
  void Begin(const State& state);
  void OnEvent(const LogEvent& event) override;

 private:
  using Key = std::pair<std::string, std::string>;  // sweep, trial
  struct Attempt {
    int number = 0;
    bool shown = false, dropped = false;
    std::map<std::string, prometheus::Gauge*> gauges;  // by the value's name
    prometheus::Counter* tokens = nullptr;
  };

  void Show(const Key& key, const Point& point, Attempt& attempt);
  void Remove(const Key& key);

  int most_;
  std::map<std::string, prometheus::Family<prometheus::Gauge>*> gauges_;  // by the value's name
  prometheus::Family<prometheus::Counter>* tokens_ = nullptr;
  prometheus::Counter* dropped_ = nullptr;
  std::map<Key, Attempt> live_;
  int shown_ = 0;
};

/// Name of a value in a trial's points and of its family, and what that says.
struct LiveTrialFamily {
  std::string value, family, help;
};
const std::vector<LiveTrialFamily>& LiveTrialFamilies();
/// Their part of docs/metrics.md.
std::string LiveTrialMarkdown();

}  // namespace sae::server
