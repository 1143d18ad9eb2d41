#pragma once
// The coordinator's Prometheus metrics: hears of the core and of every RPC, and copies gauges when
// asked. Thread-safe but for Update, which belongs to the core's thread. The registry outlives it.

#include <map>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "server/core/core.h"
#include "server/metrics/metric_table.h"
#include "server/service/hubs.h"

namespace sae::server {

class Metrics final : public CoreObserver, public RpcObserver {
 public:
  Metrics(prometheus::Registry& registry, const std::string& version);

  /// Copies gauges from the core; cheap to call often, as it works at most every half second of
  /// `now`.
  void Update(const Core& core, EventStore& store, const WatchHub::Stats& watch,
              absl::Duration now);

  void OnCommit(absl::Duration took, const absl::Status& status) override;
  void OnSync(absl::Duration took) override;
  void OnAllocated(const std::string& why, const std::string& queue,
                   absl::Duration waited) override;
  void OnCheckpointFailed(const std::string& what) override;
  void OnGangRunning(absl::Duration took) override;
  void OnLifecycle(const LogEvent& event) override;
  void OnPreempted(bool saved, absl::Duration took) override;
  void OnTrialEnded(TrialState state, FailureClass failure, absl::Duration since_created) override;
  void OnScheduled(absl::Duration took, std::size_t placed, std::size_t waiting) override;
  void OnPointsDrawn(const std::string& algorithm, std::size_t points) override;
  void OnSearchDecided(const std::string& algorithm, const std::string& decision) override;
  void OnFenced(const std::string& kind) override;
  void OnLeaseExpired(const std::string& worker) override;
  void OnReconnect(const std::string& worker) override;
  void OnStarted(const std::string& service, const std::string& method) override;
  void OnHandled(const std::string& service, const std::string& method, absl::StatusCode code,
                 absl::Duration took) override;
  void OnAudited(const std::string& method, absl::StatusCode code) override;

 private:
  using Labels = std::map<std::string, std::string>;
  prometheus::Gauge& Gauge(Metric metric, const Labels& labels = {});
  prometheus::Counter& Counter(Metric metric, const Labels& labels = {});
  void Observe(Metric metric, absl::Duration value, const Labels& labels = {});
  void ObserveNumber(Metric metric, double value, const Labels& labels = {});
  void UpdateSweeps(const Core& core);
  void UpdateWorkers(const Core& core);
  void UpdateQueues(const Core& core);
  void UpdateGpus(const Core& core);

  std::map<Metric, prometheus::Family<prometheus::Gauge>*> gauges_;
  std::map<Metric, prometheus::Family<prometheus::Counter>*> counters_;
  std::map<Metric, prometheus::Family<prometheus::Histogram>*> histograms_;
  absl::Duration next_update_;
  std::int64_t sent_ = 0;
  std::int64_t resyncs_ = 0;
};

}  // namespace sae::server
