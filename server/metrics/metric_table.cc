#include "server/metrics/metric_table.h"

#include "sae/base/status.h"

namespace sae::server {

const std::vector<MetricSpec>& MetricTable() {
  using M = Metric;
  static const std::vector<MetricSpec> table = {
      {M::kBuildInfo, "saeloom_build_info", "gauge", "version, grpc",
       "Always 1; the labels tell what is running."},
      {M::kSweeps, "saeloom_sweeps", "gauge", "state", "Sweeps by state."},
      {M::kTrials, "saeloom_trials", "gauge", "state",
       "Trials of sweeps that have not ended, by state."},
      {M::kTrialsTotal, "saeloom_trials_total", "counter", "outcome, failure_class",
       "Trials that have ended."},
      {M::kTrialAttempts, "saeloom_trial_attempts_total", "counter", "reason",
       "Attempts that were given slots: first, or what ended the attempt before."},
      {M::kTrialDuration, "saeloom_trial_duration_seconds", "histogram", "outcome",
       "From a trial's submission to its end."},
      {M::kTrialPending, "saeloom_trial_pending_seconds", "histogram", "queue",
       "Time a trial waited for slots."},
      {M::kPendingTrials, "saeloom_pending_trials", "gauge", "queue, reason",
       "PENDING trials by queue and by what they wait for."},
      {M::kGangStart, "saeloom_gang_start_duration_seconds", "histogram", "",
       "From the allocation of slots to the trainer's first event."},
      {M::kRendezvousFailures, "saeloom_rendezvous_failures_total", "counter", "reason",
       "Gangs over several workers that did not come together: refused (or not in time), failed."},
      {M::kPreemptions, "saeloom_preemptions_total", "counter", "result",
       "Running trials that gave up their slots when told to: acked (they saved) or timeout."},
      {M::kPreemptionAck, "saeloom_preemption_ack_seconds", "histogram", "",
       "From telling a trial to give up its slots to its end."},
      {M::kSlots, "saeloom_slots", "gauge", "state", "Slots of ready workers: free or allocated."},
      {M::kGpus, "saeloom_gpus", "gauge", "queue, state",
       "GPUs of ready workers: allocated (by queue), free, draining, cordoned or faulty."},
      {M::kQueueQuota, "saeloom_queue_quota_slots", "gauge", "queue",
       "Slots that a queue may use; 0 = no limit."},
      {M::kQueueUsed, "saeloom_queue_used_slots", "gauge", "queue", "Slots that a queue uses."},
      {M::kWorkers, "saeloom_workers", "gauge", "state",
       "Workers by state: ready, cordoned, draining or lost."},
      {M::kWorkerCordons, "saeloom_worker_cordons_total", "counter", "by",
       "Workers on which nothing was to start any more, by person or coordinator."},
      {M::kWorkerHeartbeat, "saeloom_worker_last_heartbeat_timestamp_seconds", "gauge", "node",
       "Unix time of each worker's last heartbeat."},
      {M::kLeaseExpirations, "saeloom_worker_lease_expirations_total", "counter", "",
       "Workers that were not heard of for a whole lease."},
      {M::kReconnects, "saeloom_worker_reconnects_total", "counter", "",
       "Registrations of workers known before."},
      {M::kFenced, "saeloom_fenced_messages_total", "counter", "kind",
       "Messages refused because their epoch, incarnation or attempt was stale."},
      {M::kSchedulerCycle, "saeloom_scheduler_cycle_seconds", "histogram", "",
       "Time of one scheduling cycle."},
      {M::kSchedulerDecisions, "saeloom_scheduler_decisions_total", "counter", "decision",
       "Scheduling decisions: placed or waiting."},
      {M::kSearcherDecisions, "saeloom_searcher_decisions_total", "counter", "algorithm, decision",
       "Decisions of searches: points drawn; trials to continue, stop, pause, promote."},
      {M::kCommitSeconds, "saeloom_store_commit_seconds", "histogram", "",
       "Time of one commit of the event log."},
      {M::kSyncSeconds, "saeloom_store_sync_seconds", "histogram", "",
       "Time of making the commits of one turn durable."},
      {M::kCommits, "saeloom_store_commits_total", "counter", "result",
       "Commits of the event log: ok or error."},
      {M::kStoreSize, "saeloom_store_size_bytes", "gauge", "", "Size of the event log's database."},
      {M::kLogHead, "saeloom_event_log_head_seq", "gauge", "",
       "Events in the log, over all sweeps."},
      {M::kOutboxDepth, "saeloom_outbox_depth", "gauge", "",
       "Commands that workers have not shown done."},
      {M::kCheckpointSeconds, "saeloom_checkpoint_write_seconds", "histogram", "",
       "Time of one write of a checkpoint, as its trainer measured it."},
      {M::kCheckpointBytes, "saeloom_checkpoint_write_bytes", "histogram", "",
       "Size of one checkpoint that was written."},
      {M::kCheckpointFailures, "saeloom_checkpoint_failures_total", "counter", "op",
       "Checkpoints that a trainer could not write, or passed over as damaged (read), or that a "
       "worker could not keep or delete."},
      {M::kCheckpointsDeleted, "saeloom_checkpoint_gc_deleted_total", "counter", "",
       "Checkpoints that workers deleted because no policy keeps them."},
      {M::kCheckpointBytesDeleted, "saeloom_checkpoint_gc_deleted_bytes_total", "counter", "",
       "Bytes of these."},
      {M::kWatchStreams, "saeloom_watch_streams", "gauge", "", "Open WatchSweep streams."},
      {M::kWatchLag, "saeloom_watch_lag_events", "gauge", "",
       "Events that the slowest reader has still to take."},
      {M::kWatchResyncs, "saeloom_watch_resyncs_total", "counter", "",
       "Readers that were too slow for every point and were given the newest ones."},
      {M::kWatchBytes, "saeloom_watch_bytes", "gauge", "",
       "Memory of WatchSweep streams, without gRPC's and what they share."},
      {M::kWatchSent, "saeloom_watch_sent_events_total", "counter", "",
       "Events sent on WatchSweep streams."},
      {M::kLeader, "saeloom_leader", "gauge", "",
       "1 while this coordinator may write its event log; 0 once another has taken it over."},
      {M::kLeaderEpoch, "saeloom_leader_epoch", "gauge", "",
       "This coordinator's epoch: one more at every start."},
      {M::kAudit, "saeloom_audit_events_total", "counter", "action, result",
       "Calls that change something, by method and code, and all calls that were refused."},
      {M::kRpcStarted, "grpc_server_started_total", "counter", "grpc_service, grpc_method",
       "RPCs that began."},
      {M::kRpcHandled, "grpc_server_handled_total", "counter",
       "grpc_service, grpc_method, grpc_code", "RPCs that ended, by code."},
      {M::kRpcSeconds, "grpc_server_handling_seconds", "histogram", "grpc_service, grpc_method",
       "Time from an RPC's begin to its end."},
  };
  return table;
}

const MetricSpec& SpecOf(Metric metric) { return MetricTable()[static_cast<std::size_t>(metric)]; }

std::string MetricsMarkdown() {
  std::string out = "| name | type | labels | meaning |\n|---|---|---|---|\n";
  for (const MetricSpec& spec : MetricTable()) {
    absl::StrAppend(&out, "| `", spec.name, "` | ", spec.type, " | ", spec.labels, " | ", spec.help,
                    " |\n");
  }
  return out;
}

}  // namespace sae::server
