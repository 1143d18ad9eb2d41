#include "server/metrics/metrics.h"

#include <algorithm>
#include <cctype>

#include <grpc/grpc.h>

namespace sae::server {
namespace {

/// Seconds: for what takes milliseconds, and for what takes minutes. Bytes.
const std::vector<double>& Buckets(Metric metric) {
  static const std::vector<double> fast = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                           0.05,   0.1,   0.25,   0.5,   1,    2.5};
  static const std::vector<double> slow = {0.1, 0.5, 1,   2.5,  5,     10,   30,
                                           60,  300, 900, 3600, 14400, 86400};
  static const std::vector<double> sizes = {1e5, 1e6, 1e7, 1e8, 3e8, 1e9, 3e9, 1e10, 1e11, 1e12};
  if (metric == Metric::kCheckpointBytes) return sizes;
  const bool is_slow = metric == Metric::kTrialDuration || metric == Metric::kTrialPending ||
                       metric == Metric::kGangStart || metric == Metric::kPreemptionAck ||
                       metric == Metric::kCheckpointSeconds;
  return is_slow ? slow : fast;
}

std::string Lower(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

}  // namespace

Metrics::Metrics(prometheus::Registry& registry, const std::string& version) {
  for (const MetricSpec& spec : MetricTable()) {
    if (spec.type == "gauge") {
      gauges_[spec.metric] =
          &prometheus::BuildGauge().Name(spec.name).Help(spec.help).Register(registry);
    } else if (spec.type == "counter") {
      counters_[spec.metric] =
          &prometheus::BuildCounter().Name(spec.name).Help(spec.help).Register(registry);
    } else {
      histograms_[spec.metric] =
          &prometheus::BuildHistogram().Name(spec.name).Help(spec.help).Register(registry);
    }
    // A family without labels is there from the start, at 0.
    if (!spec.labels.empty()) continue;
    if (spec.type == "gauge") Gauge(spec.metric);
    if (spec.type == "counter") Counter(spec.metric);
    if (spec.type == "histogram") histograms_.at(spec.metric)->Add({}, Buckets(spec.metric));
  }
  Gauge(Metric::kBuildInfo, {{"version", version}, {"grpc", grpc_version_string()}}).Set(1);
  for (const char* kind : {"epoch", "incarnation", "attempt"})
    Counter(Metric::kFenced, {{"kind", kind}});
  for (const char* result : {"acked", "timeout"})
    Counter(Metric::kPreemptions, {{"result", result}});
  for (const char* reason : {"refused", "failed"})
    Counter(Metric::kRendezvousFailures, {{"reason", reason}});
  for (const char* op : {"write", "read", "keep", "delete"})
    Counter(Metric::kCheckpointFailures, {{"op", op}});
  for (const char* by : {"person", "coordinator"}) Counter(Metric::kWorkerCordons, {{"by", by}});
}

prometheus::Gauge& Metrics::Gauge(Metric metric, const Labels& labels) {
  return gauges_.at(metric)->Add(labels);
}
prometheus::Counter& Metrics::Counter(Metric metric, const Labels& labels) {
  return counters_.at(metric)->Add(labels);
}
void Metrics::Observe(Metric metric, absl::Duration value, const Labels& labels) {
  ObserveNumber(metric, absl::ToDoubleSeconds(value), labels);
}
void Metrics::ObserveNumber(Metric metric, double value, const Labels& labels) {
  histograms_.at(metric)->Add(labels, Buckets(metric)).Observe(value);
}

void Metrics::Update(const Core& core, EventStore& store, const WatchHub::Stats& watch,
                     absl::Duration now) {
  if (now < next_update_) return;
  next_update_ = now + absl::Milliseconds(500);
  UpdateSweeps(core);
  UpdateWorkers(core);
  UpdateQueues(core);
  UpdateGpus(core);
  Gauge(Metric::kOutboxDepth).Set(static_cast<double>(core.OutboxDepth()));
  Gauge(Metric::kStoreSize).Set(static_cast<double>(store.SizeBytes()));
  Gauge(Metric::kLeader).Set(absl::IsAborted(core.disk()) ? 0 : 1);
  Gauge(Metric::kLeaderEpoch).Set(static_cast<double>(core.epoch()));
  Gauge(Metric::kWatchStreams).Set(static_cast<double>(watch.streams));
  Gauge(Metric::kWatchLag).Set(static_cast<double>(watch.largest_lag));
  Counter(Metric::kWatchSent).Increment(static_cast<double>(watch.sent - sent_));
  sent_ = watch.sent;
  Gauge(Metric::kWatchBytes).Set(static_cast<double>(watch.bytes));
  Counter(Metric::kWatchResyncs).Increment(static_cast<double>(watch.resyncs - resyncs_));
  resyncs_ = watch.resyncs;
}

void Metrics::UpdateSweeps(const Core& core) {
  std::map<SweepState, std::int64_t> sweeps;
  std::map<TrialState, std::int64_t> trials;
  std::int64_t head = 0;
  for (const std::string& name : core.state().sweep_order()) {
    const SweepRecord& sweep = *core.state().sweep(name);
    ++sweeps[sweep.state];
    head += core.head(name);
    if (HasEnded(sweep.state)) continue;
    for (const TrialState s : AllTrialStates()) trials[s] += sweep.count(s);
  }
  for (const SweepState s : AllSweepStates()) {
    Gauge(Metric::kSweeps, {{"state", Lower(ToString(s))}}).Set(static_cast<double>(sweeps[s]));
  }
  for (const TrialState s : AllTrialStates()) {
    Gauge(Metric::kTrials, {{"state", Lower(ToString(s))}}).Set(static_cast<double>(trials[s]));
  }
  Gauge(Metric::kLogHead).Set(static_cast<double>(head));
}

void Metrics::UpdateWorkers(const Core& core) {
  std::int64_t free = 0, slots = 0;
  std::map<std::string, std::int64_t> states = {
      {"ready", 0}, {"cordoned", 0}, {"draining", 0}, {"lost", 0}};
  for (const auto& [id, worker] : core.workers()) {
    ++states[WorkerStateOf(core, worker)];
    if (worker.ready) {
      slots += worker.slots;
      free += core.FreeSlots(worker);
    }
    if (worker.last_heartbeat == absl::Time()) continue;
    Gauge(Metric::kWorkerHeartbeat, {{"node", id}})
        .Set(absl::ToDoubleSeconds(worker.last_heartbeat - absl::UnixEpoch()));
  }
  for (const auto& [state, n] : states)
    Gauge(Metric::kWorkers, {{"state", state}}).Set(static_cast<double>(n));
  Gauge(Metric::kSlots, {{"state", "free"}}).Set(static_cast<double>(free));
  Gauge(Metric::kSlots, {{"state", "allocated"}}).Set(static_cast<double>(slots - free));
}

void Metrics::UpdateQueues(const Core& core) {
  for (const auto& [name, queue] : core.QueuesInUse()) {
    Gauge(Metric::kQueueQuota, {{"queue", name}}).Set(static_cast<double>(queue.quota));
    Gauge(Metric::kQueueUsed, {{"queue", name}}).Set(static_cast<double>(queue.used));
    for (int i = 1; i <= static_cast<int>(WaitReason::kVacating); ++i) {
      const auto reason = static_cast<WaitReason>(i);
      const auto it = core.waiting().find({name, reason});
      const std::int64_t n = it == core.waiting().end() ? 0 : it->second;
      Gauge(Metric::kPendingTrials, {{"queue", name}, {"reason", ToString(reason)}})
          .Set(static_cast<double>(n));
    }
  }
}

void Metrics::UpdateGpus(const Core& core) {
  std::map<std::pair<std::string, std::string>, std::int64_t> gpus = {
      {{"", "free"}, 0}, {{"", "draining"}, 0}, {{"", "cordoned"}, 0}, {{"", "faulty"}, 0}};
  for (const auto& [name, queue] : core.state().fleet().queues) gpus[{name, "allocated"}] = 0;
  for (const auto& [id, worker] : core.workers()) {
    if (!worker.ready || worker.gpus == 0) continue;  // a slot is a GPU, or none has one
    for (const std::string& key : core.live().host(id).gangs) {
      const LiveIndex::Gang& gang = core.live().gangs().at(key);
      const std::string queue = QueueNameOf(core.state().sweep(gang.sweep)->spec.queue);
      for (const HostShare& host : gang.hosts)
        gpus[{queue, "allocated"}] += host.worker == id ? host.slots : 0;
    }
    gpus[{"", "draining"}] += worker.DrainingSlots();
    const auto cordon = core.state().fleet().cordons.find(id);
    std::string state = "free";
    if (cordon != core.state().fleet().cordons.end()) {
      const bool faulty = cordon->second.reason.find("GPU_FAULT") != std::string::npos;
      state = faulty ? "faulty" : "cordoned";
    }
    gpus[{"", state}] += core.FreeSlots(worker);
  }
  for (const auto& [key, n] : gpus) {
    Gauge(Metric::kGpus, {{"queue", key.first}, {"state", key.second}}).Set(static_cast<double>(n));
  }
}

void Metrics::OnLifecycle(const LogEvent& event) {
  if (const auto* cordoned = std::get_if<WorkerCordoned>(&event.body)) {
    Counter(Metric::kWorkerCordons, {{"by", cordoned->by_person ? "person" : "coordinator"}})
        .Increment();
  }
  if (const auto* deleted = std::get_if<CheckpointsDeleted>(&event.body);
      deleted != nullptr && deleted->reason.empty()) {
    Counter(Metric::kCheckpointsDeleted).Increment(static_cast<double>(deleted->names.size()));
    Counter(Metric::kCheckpointBytesDeleted).Increment(static_cast<double>(deleted->bytes));
  }
  if (const auto* saved = std::get_if<CheckpointSaved>(&event.body)) {
    if (saved->seconds > 0) ObserveNumber(Metric::kCheckpointSeconds, saved->seconds);
    if (saved->bytes > 0)
      ObserveNumber(Metric::kCheckpointBytes, static_cast<double>(saved->bytes));
  }
  if (const auto* notice = std::get_if<Notice>(&event.body);
      notice != nullptr && !notice->failed.empty())
    Counter(Metric::kCheckpointFailures, {{"op", notice->failed}}).Increment();
  const auto* ended = std::get_if<AttemptEnded>(&event.body);
  if (ended != nullptr && ended->failure_class == FailureClass::kRendezvousTimeout)
    Counter(Metric::kRendezvousFailures, {{"reason", ended->outcome}}).Increment();
}
void Metrics::OnPreempted(bool saved, absl::Duration took) {
  Counter(Metric::kPreemptions, {{"result", saved ? "acked" : "timeout"}}).Increment();
  Observe(Metric::kPreemptionAck, took);
}
void Metrics::OnCommit(absl::Duration took, const absl::Status& status) {
  Observe(Metric::kCommitSeconds, took);
  Counter(Metric::kCommits, {{"result", status.ok() ? "ok" : "error"}}).Increment();
}
void Metrics::OnSync(absl::Duration took) { Observe(Metric::kSyncSeconds, took); }
void Metrics::OnCheckpointFailed(const std::string& what) {
  Counter(Metric::kCheckpointFailures, {{"op", what}}).Increment();
}
void Metrics::OnAllocated(const std::string& why, const std::string& queue, absl::Duration waited) {
  Counter(Metric::kTrialAttempts, {{"reason", Lower(why)}}).Increment();
  Observe(Metric::kTrialPending, waited, {{"queue", queue}});
}
void Metrics::OnGangRunning(absl::Duration took) { Observe(Metric::kGangStart, took); }
void Metrics::OnTrialEnded(TrialState state, FailureClass failure, absl::Duration since_created) {
  const std::string outcome = Lower(ToString(state));
  Counter(Metric::kTrialsTotal, {{"outcome", outcome}, {"failure_class", Lower(ToString(failure))}})
      .Increment();
  Observe(Metric::kTrialDuration, since_created, {{"outcome", outcome}});
}
void Metrics::OnScheduled(absl::Duration took, std::size_t placed, std::size_t waiting) {
  Observe(Metric::kSchedulerCycle, took);
  Counter(Metric::kSchedulerDecisions, {{"decision", "placed"}})
      .Increment(static_cast<double>(placed));
  Counter(Metric::kSchedulerDecisions, {{"decision", "waiting"}})
      .Increment(static_cast<double>(waiting));
}
void Metrics::OnSearchDecided(const std::string& algorithm, const std::string& decision) {
  Counter(Metric::kSearcherDecisions, {{"algorithm", algorithm}, {"decision", decision}})
      .Increment();
}

void Metrics::OnPointsDrawn(const std::string& algorithm, std::size_t points) {
  Counter(Metric::kSearcherDecisions, {{"algorithm", algorithm}, {"decision", "draw"}})
      .Increment(static_cast<double>(points));
}
void Metrics::OnFenced(const std::string& kind) {
  Counter(Metric::kFenced, {{"kind", kind}}).Increment();
}
void Metrics::OnLeaseExpired(const std::string&) { Counter(Metric::kLeaseExpirations).Increment(); }
void Metrics::OnReconnect(const std::string&) { Counter(Metric::kReconnects).Increment(); }
void Metrics::OnStarted(const std::string& service, const std::string& method) {
  Counter(Metric::kRpcStarted, {{"grpc_service", service}, {"grpc_method", method}}).Increment();
}
void Metrics::OnHandled(const std::string& service, const std::string& method,
                        absl::StatusCode code, absl::Duration took) {
  Counter(Metric::kRpcHandled, {{"grpc_service", service},
                                {"grpc_method", method},
                                {"grpc_code", absl::StatusCodeToString(code)}})
      .Increment();
  Observe(Metric::kRpcSeconds, took, {{"grpc_service", service}, {"grpc_method", method}});
}

void Metrics::OnAudited(const std::string& method, absl::StatusCode code) {
  Counter(Metric::kAudit, {{"action", method}, {"result", absl::StatusCodeToString(code)}})
      .Increment();
}

}  // namespace sae::server
