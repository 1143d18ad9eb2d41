#pragma once
// The worker's Prometheus page. Every family has a help text and no label whose values are
// unbounded. Thread-safe (prometheus-cpp's counters and gauges are) but for SetGpus, which is one
// thread's. Owns the registry and, once
// Expose was called, the HTTP server.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "sae/base/status.h"

namespace saeloom::agent {

class Metrics {
 public:
  explicit Metrics(const std::string& version);

  /// Serves /metrics on HOST:PORT (port 0 = any free one) and returns the address in use.
  /// UNAVAILABLE, naming it, when the port is taken.
  [[nodiscard]] absl::StatusOr<std::string> Expose(const std::string& address);

  void SetSlots(int total, int used);
  void SetRanks(int starting_or_running, int stopping);
  /// Which trial has which GPU, all of them; named as CUDA_VISIBLE_DEVICES names a GPU.
  struct GpuUse {
    std::string gpu, sweep, trial;
    friend bool operator<(const GpuUse& a, const GpuUse& b) {
      return std::tie(a.gpu, a.sweep, a.trial) < std::tie(b.gpu, b.sweep, b.trial);
    }
  };
  void SetGpus(const std::set<GpuUse>& uses);
  void SetLeaseRemaining(double seconds);
  void AttemptStarted(int ranks, bool again);
  /// `verdict` of Ending, "" = none; or "refused".
  void AttemptEnded(const std::string& verdict);
  void Reported(std::int64_t lines_total);
  void Registered(int registrations_total);
  void Fenced();

  /// The page as text.
  std::string Page() const;

 private:
  std::shared_ptr<prometheus::Registry>
      registry_;  // shared with the exposer, which keeps a weak pointer
  prometheus::Gauge* slots_free_;
  prometheus::Gauge* slots_used_;
  prometheus::Gauge* ranks_running_;
  prometheus::Gauge* ranks_stopping_;
  prometheus::Family<prometheus::Gauge>* gpu_allocations_;
  std::map<GpuUse, prometheus::Gauge*> gpus_;  // of the thread that calls SetGpus
  prometheus::Gauge* lease_remaining_;
  prometheus::Counter* rank_restarts_;
  prometheus::Counter* attempts_started_;
  prometheus::Family<prometheus::Counter>* attempts_ended_;
  prometheus::Counter* events_reported_;
  prometheus::Counter* reconnects_;
  prometheus::Counter* fences_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace saeloom::agent
