#pragma once
// Every metric family of the coordinator: the one table from which they are registered and
// docs/metrics.md is written. No trial or sweep is a label: curves live in the service's own store.
// Pure.

#include <string>
#include <vector>

namespace sae::server {

enum class Metric {
  kBuildInfo,
  kSweeps,
  kTrials,
  kTrialsTotal,
  kTrialAttempts,
  kTrialDuration,
  kTrialPending,
  kPendingTrials,
  kGangStart,
  kRendezvousFailures,
  kPreemptions,
  kPreemptionAck,
  kSlots,
  kGpus,
  kQueueQuota,
  kQueueUsed,
  kWorkers,
  kWorkerCordons,
  kWorkerHeartbeat,
  kLeaseExpirations,
  kReconnects,
  kFenced,
  kSchedulerCycle,
  kSchedulerDecisions,
  kSearcherDecisions,
  kCommitSeconds,
  kSyncSeconds,
  kCommits,
  kStoreSize,
  kLogHead,
  kOutboxDepth,
  kCheckpointSeconds,
  kCheckpointBytes,
  kCheckpointFailures,
  kCheckpointsDeleted,
  kCheckpointBytesDeleted,
  kWatchStreams,
  kWatchLag,
  kWatchResyncs,
  kWatchBytes,
  kWatchSent,
  kLeader,
  kLeaderEpoch,
  kAudit,
  kRpcStarted,
  kRpcHandled,
  kRpcSeconds,
};

struct MetricSpec {
  Metric metric;
  std::string name;
  std::string type;    ///< gauge, counter, histogram
  std::string labels;  ///< "state", "outcome, failure_class", ""
  std::string help;
};

/// In the order of the enum.
const std::vector<MetricSpec>& MetricTable();
const MetricSpec& SpecOf(Metric metric);
/// The coordinator's section of docs/metrics.md.
std::string MetricsMarkdown();

}  // namespace sae::server
