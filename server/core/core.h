#pragma once
// The coordinator without sockets, threads or files: commands validate, write events to the store
// and then apply them; time, store and transport come from outside, so a simulator can drive it
// step by step. A command whose events cannot be stored changes nothing. Not thread-safe: one
// thread owns it. Errors as sae/base/status.h's canonical meanings: ABORTED = stale epoch,
// incarnation or attempt.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/ids.h"
#include "server/core/back_offs.h"
#include "server/core/live_index.h"
#include "server/core/messages.h"
#include "server/core/observer.h"
#include "server/core/pending_queue.h"
#include "server/core/planted.h"
#include "server/core/request_key.h"
#include "server/core/retention_index.h"
#include "server/core/retry_policy.h"
#include "server/core/scheduler.h"
#include "server/core/snapshotter.h"
#include "server/core/state.h"
#include "server/core/worker_health.h"
#include "server/core/worker_table.h"
#include "server/store/event_store.h"

namespace sae::server {

struct CoreOptions {
  RetryPolicy retry;
  absl::Duration heartbeat = absl::Seconds(3);
  absl::Duration lease = absl::Seconds(15);
  /// Beyond the lease, before an attempt counts as ended. The worker ends its ranks at 0.8 of the
  /// lease.
  absl::Duration lease_margin = absl::Seconds(3);
  /// Telemetry waits at most this long for company in its transaction.
  absl::Duration group_commit = absl::Milliseconds(50);
  /// A sweep none of whose trials can start says so to its watchers after this long.
  absl::Duration blocked_notice = absl::Seconds(5);
  std::size_t max_trials = 100'000;
  std::string version;  ///< of this program, for people
  /// All hosts of a gang over several workers must have reserved their slots after this long.
  absl::Duration prepare_timeout = absl::Seconds(30);
  /// Workers that fail again and again are cordoned, unless no other is left.
  bool cordon_bad_workers = true;
  /// 64 random bits, of which tokens are made: secrets, so by default the machine's.
  std::function<std::uint64_t()> entropy = SeedFromMachine;
  /// Beyond the grace of a trial that was told to save and end, before it is told to end at once.
  absl::Duration stop_margin = absl::Seconds(10);
  /// A snapshot of the state after so many lifecycle events; 0 = never.
  std::int64_t snapshot_events = 20'000;
  /// Points of sweeps that ended longer ago are deleted, but for each trial's newest.
  absl::Duration keep_telemetry = absl::InfiniteDuration();
  /// Request ids that were used longer ago (wall clock) are forgotten.
  absl::Duration keep_requests = absl::Hours(7 * 24);
  Planting planted;  ///< of the simulator's test
};

/// A spec that was validated and whose points are drawn.
struct PreparedSweep {
  config::SweepSpec spec;
  SweepCreated event;
};
/// Pure and slow (it validates every point): any thread. INVALID_ARGUMENT lists every problem.
[[nodiscard]] absl::StatusOr<PreparedSweep> PrepareSweep(const config::SweepSpec& spec,
                                                         std::size_t max_trials);

/// What a person may ask of one trial (core_lifecycle.cc).
enum class TrialVerb { kPause, kResume, kStop, kPromote };
using TrialAssignments = std::vector<std::pair<std::string, std::string>>;
struct AddedPoints {
  std::vector<std::string> trials;  ///< bare names of the new ones
  std::int64_t skipped = 0;         ///< they exist
};
/// A checkpoint, and whether its sweep's policy keeps it.
struct JudgedCheckpoint {
  int trial = 0;
  CheckpointRecord record;
  bool stays = false;
  std::string why;  ///< and what is still to be done about it
};
/// Changes with what UpdateSweep can change.
std::string EtagOf(const SweepRecord& sweep);

class Core;
/// "ready", "cordoned", "draining" (cordoned, and something still runs there), "lost".
std::string WorkerStateOf(const Core& core, const WorkerEntry& worker);

/// Newest values of a trial's effective curve.
struct Progress {
  std::map<std::string, double> metrics;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
};

struct MetricSeries {
  std::string metric;
  std::vector<std::int64_t> steps;
  std::vector<std::int64_t> tokens;
  std::vector<double> values;
  std::vector<int> attempts;
};

class Core {
 public:
  /// Begins a new epoch and replays the log. `clock` and `store` outlive it.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Core>> Start(const CoreOptions& options,
                                                                   Clock& clock, EventStore& store);
  /// `observer` outlives the core.
  void AddObserver(CoreObserver* observer) { observers_.push_back(observer); }

  // For people.
  [[nodiscard]] absl::Status CreateSweep(const PreparedSweep& sweep, const RequestKey& request,
                                         const std::string& owner = "");
  /// `trials` empty = all that failed. Returns those that are PENDING again.
  [[nodiscard]] absl::StatusOr<std::vector<std::string>> RetryTrials(
      const std::string& sweep, const std::vector<std::string>& trials, const RequestKey& request);
  /// The sweep that `request` made, as a fork or not, or nullopt.
  [[nodiscard]] absl::StatusOr<std::optional<std::string>> SweepOfRequest(const RequestKey& request,
                                                                          bool fork = false);
  /// What `request` was answered, or nullopt. `method` as "PauseSweep".
  [[nodiscard]] absl::StatusOr<std::optional<std::string>> FirstAnswer(const RequestKey& request,
                                                                       const std::string& method,
                                                                       const std::string& sweep);
  // core_lifecycle.cc; states that a verb does not fit are FAILED_PRECONDITION, with the remedy.
  [[nodiscard]] absl::Status CancelSweep(const std::string& sweep, bool graceful = false,
                                         const RequestKey& request = {});
  /// Nothing new starts; what runs saves and waits.
  [[nodiscard]] absl::Status PauseSweep(const std::string& sweep, const RequestKey& request);
  [[nodiscard]] absl::Status ResumeSweep(const std::string& sweep, const RequestKey& request);
  /// ABORTED when `etag` is given and is not EtagOf the sweep.
  [[nodiscard]] absl::Status UpdateSweep(const std::string& sweep, const SweepUpdated& update,
                                         const std::string& etag, const RequestKey& request);
  /// One that has ended. Its events stay in the store, its name stays used.
  [[nodiscard]] absl::Status DeleteSweep(const std::string& sweep, const RequestKey& request);
  [[nodiscard]] absl::Status ChangeTrial(TrialVerb verb, const std::string& sweep,
                                         const std::string& trial, const RequestKey& request);
  /// Those of `points` that the sweep does not have, at most `most`, in their order.
  [[nodiscard]] absl::StatusOr<AddedPoints> AddPoints(const std::string& sweep,
                                                      const std::vector<TrialAssignments>& points,
                                                      std::size_t most, const RequestKey& request);

  // Of checkpoints (core_retention.cc).
  /// FAILED_PRECONDITION when it is to be protected and is being deleted.
  [[nodiscard]] absl::Status ProtectCheckpoint(const std::string& sweep, const std::string& trial,
                                               const std::string& checkpoint, bool protect,
                                               const RequestKey& request);
  /// Tells what the policy does not keep to go. Answers with all of the sweep's, as they are then;
  /// `dry_run`: as they would be judged, and nothing changes.
  [[nodiscard]] absl::StatusOr<std::vector<JudgedCheckpoint>> CollectCheckpoints(
      const std::string& sweep, bool dry_run, const RequestKey& request);
  /// Of one trial, or of all where `only` is null.
  std::vector<JudgedCheckpoint> JudgeCheckpoints(const SweepRecord& sweep,
                                                 const TrialRecord* only) const;

  // Of the fleet (core_fleet.cc).
  /// INVALID_ARGUMENT naming the queues there are, when `queue` ("" = default) is none of them.
  [[nodiscard]] absl::Status CheckQueue(const std::string& queue) const;
  /// Makes it when there is none.
  [[nodiscard]] absl::Status UpdateQueue(const std::string& name, const QueueRecord& queue,
                                         const RequestKey& request);
  /// Nothing starts there any more; `drain`: what runs saves and goes elsewhere.
  [[nodiscard]] absl::Status CordonWorker(const std::string& worker, const std::string& reason,
                                          bool drain, const RequestKey& request);
  [[nodiscard]] absl::Status UncordonWorker(const std::string& worker, const RequestKey& request);

  // For workers.
  [[nodiscard]] absl::StatusOr<RegisterReply> Register(const RegisterRequest& request);
  [[nodiscard]] absl::StatusOr<HeartbeatReply> Heartbeat(const HeartbeatRequest& request);
  [[nodiscard]] absl::Status CheckSender(const Sender& sender);
  /// All commands that this worker has not shown done. They count as sent.
  std::vector<Command> CommandsFor(const std::string& worker);
  /// `done` is called when the lines are durable, now or from a later Tick: with the acknowledged
  /// seq.
  void Report(const ReportRequest& request, std::function<void(absl::StatusOr<std::int64_t>)> done);

  // Time.
  /// Does what is due: leases, back-offs, group commits, scheduling, the store's upkeep. Call it
  /// after every command too.
  void Tick();
  /// Tick in two parts, for who wants to answer between them: the store's upkeep may wait.
  void Advance();
  void MaintainStore();
  /// With a store whose syncs are deferred: makes durable what was committed. An error means that
  /// it may be lost: disk() says so, and the next Tick reads the log again.
  [[nodiscard]] absl::Status Sync();
  /// When Tick has something to do next (SinceBoot); InfiniteDuration when nothing waits.
  absl::Duration NextDeadline() const;
  /// Makes durable what waits for company.
  [[nodiscard]] absl::Status Flush();
  /// At a clean stop: Flush, and a snapshot, so that the next start is fast.
  [[nodiscard]] absl::Status Close();

  // Who may call, and who did (server/auth decides it; here it only becomes durable).
  /// The next transaction of a command takes the record with it; TakeAudit gives it back when there
  /// was none.
  void SetAudit(AuditRecord record) { audit_ = std::move(record); }
  std::optional<AuditRecord> TakeAudit() { return std::exchange(audit_, std::nullopt); }
  [[nodiscard]] absl::Status StoreTokens(std::vector<TokenRecord> tokens,
                                         std::vector<UsedRequest> requests);
  [[nodiscard]] absl::StatusOr<std::optional<UsedRequest>> FindRequest(const std::string& id) {
    return store_.FindRequest(id);
  }
  [[nodiscard]] absl::StatusOr<std::vector<AuditRecord>> ReadAudit(std::int64_t after, int limit) {
    return store_.ReadAudit(after, limit);
  }

  // Questions.
  const State& state() const { return state_; }
  const WorkerTable& workers() const { return workers_; }
  const CoreOptions& options() const { return options_; }
  std::int64_t epoch() const { return epoch_; }
  absl::Time Now() const { return clock_.Now(); }
  std::int64_t head(const std::string& sweep) const;
  std::int64_t acknowledged(const AttemptKey& key) const;
  int FreeSlots(const WorkerEntry& worker) const;
  /// Why a trial is where it is, now; of a PENDING one what it waits for.
  std::string ReasonOf(const SweepRecord& sweep, const TrialRecord& trial) const;
  /// Pending trials by queue and by what they wait for.
  const std::map<std::pair<std::string, WaitReason>, std::int64_t>& waiting() const {
    return waiting_;
  }
  const LiveIndex& live() const { return live_; }
  const WorkerHealth& health() const { return health_; }
  /// Slots in use by the sweeps of each queue.
  std::map<std::string, QueueTerms> QueuesInUse() const;
  /// Commands that workers have not shown done.
  std::int64_t OutboxDepth() const;
  std::int64_t StoreBytes() const { return store_.SizeBytes(); }
  [[nodiscard]] absl::StatusOr<Progress> ProgressOf(const SweepRecord& sweep,
                                                    const TrialRecord& trial);
  /// `metrics` empty = all; thinned evenly to `max_points` a metric when > 0; `all` = superseded
  /// ones too.
  [[nodiscard]] absl::StatusOr<std::vector<MetricSeries>> QueryMetrics(
      const SweepRecord& sweep, const TrialRecord& trial, const std::vector<std::string>& metrics,
      int max_points, bool all);
  [[nodiscard]] absl::StatusOr<std::vector<LogEvent>> Read(const std::string& sweep,
                                                           std::int64_t after, int limit);
  /// The state of a sweep's searcher, "" when it has none now: for tests.
  std::string SearchDebugString(const std::string& sweep) const;
  /// Events with seq > after in order, at most `limit` of each trial: of these trials and about the
  /// sweep, of all when `trials` is empty; lifecycle events, points or both. `upto` is lowered to
  /// where the answer ends.
  [[nodiscard]] absl::StatusOr<std::vector<LogEvent>> ReadFiltered(const std::string& sweep,
                                                                   const std::vector<int>& trials,
                                                                   std::int64_t after, int limit,
                                                                   bool lifecycle, bool points,
                                                                   std::int64_t& upto);
  /// What the last write to the store met. ABORTED: another coordinator took over, this one must
  /// end. Any other error: nothing new is taken until writes work again, which Tick tries.
  const absl::Status& disk() const { return disk_; }
  /// The first seq from which on every point is still there.
  std::int64_t oldest_kept(const std::string& sweep) const;
  /// Events that the state refused: a bug when not 0.
  int refused_events() const { return refused_events_; }

 private:
  struct Group {
    Transaction transaction;
    std::vector<std::function<void(const absl::Status&)>> done;
    absl::Duration due = absl::InfiniteDuration();
  };
  struct Blocked {
    std::string text;
    absl::Duration since;
    bool told = false;
  };

  Core(const CoreOptions& options, Clock& clock, EventStore& store)
      : options_(options),
        clock_(clock),
        store_(store),
        snapshots_(store, state_, options.snapshot_events, &health_) {}

  // core.cc
  absl::Status Replay();
  /// The lease that `host` may have from before this start runs from now.
  void KeepLease(const AttemptRecord& attempt, const std::string& host);
  void ApplyOne(const LogEvent& event);
  absl::Status Commit(Transaction transaction);
  void Committed(const Transaction& transaction);
  void Observe(const LogEvent& event, TrialState before);
  void Add(Transaction& transaction, const std::string& sweep, const std::string& trial, Body body);
  void EndAttempt(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                  const Ending& ending);
  void EndSweeps(Transaction& transaction);
  // core_lifecycle.cc
  /// Tells a live trial to save and end. One of which no worker has heard has ended with this.
  void AskToStop(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                 StopWanted wanted, const std::string& reason);
  /// What its worker is to be told of a trial that is to end; nullopt when it is not.
  std::optional<StopCommand> StopFor(const SweepRecord& sweep, const TrialRecord& trial) const;
  /// Marks the checkpoint that a fork begins from, "SWEEP/TRIAL/CHECKPOINT", so that it stays.
  void KeepForFork(Transaction& transaction, const std::string& source);
  /// Of a sweep that was deleted.
  void Forget(const std::string& sweep);
  struct Preparing {
    std::set<std::string> prepared;  ///< hosts that have said so
    absl::Duration until;            ///< SinceBoot
  };
  // core_search.cc
  struct Search;
  struct SearchPass;
  struct SearchTable {
    SearchTable();
    ~SearchTable();
    std::map<std::string, std::unique_ptr<Search>> of;  ///< by sweep, made when needed
    std::set<std::string> touched;                      ///< by the commit under way
  };
  /// Null when nothing is searched. The sweep has not been deleted.
  Search* SearchOf(const SweepRecord& sweep);
  static void TellSearch(const SweepRecord& sweep, Search& search, const LogEvent& event,
                         std::vector<search::Decision>& decisions);
  /// Puts behind each event what the searches make of it.
  void AddSearchEvents(Transaction& all);
  void LookAtPoint(const SweepRecord& sweep, const LogEvent& event, SearchPass& pass);
  std::optional<SearchReport> LastObjective(const SweepRecord& sweep, const TrialRecord& trial,
                                            const SearchPass& pass);
  /// After a commit, good or bad: drops searchers that are not as the state says.
  void CheckSearches();
  void ForgetSearches();
  /// Before a cycle of the scheduler: what was decided and not done, promotions, the end. False
  /// when it could not be stored.
  bool RunSearches();
  void Settle(Transaction& transaction, const SweepRecord& sweep, Search& search);
  void Promote(Transaction& transaction, const SweepRecord& sweep, Search& search);
  void GiveUpWaiting(Transaction& transaction, const SweepRecord& sweep, Search& search);
  // core_retention.cc
  /// The objective at a trial's step or nearest before it, of `before` (which is not stored yet)
  /// and the store.
  std::optional<CheckpointValue> ValueAt(const SweepRecord& sweep, const TrialRecord& trial,
                                         std::int64_t step, const std::vector<LogEvent>& before);
  /// Puts behind checkpoints and points what the objective was, where a policy asks for it.
  void AddCheckpointValues(Transaction& all);
  /// Makes durable what the policies say of what has changed.
  void RunRetention();
  void MarkFates(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                 bool sweep_best, const std::set<std::string>& forks);
  /// The worker that is told about a checkpoint; "" when none that is ready shares its folder.
  std::string HolderOf(const TrialRecord& trial, const CheckpointRecord& checkpoint) const;
  void RetentionCommands(const std::string& worker, std::vector<Command>& commands) const;
  void TellHolders(const TrialRecord& trial) const;
  absl::Status ApplyCheckpointStatuses(WorkerEntry& worker,
                                       const std::vector<CheckpointStatus>& statuses);
  std::string OpenWorkOf(const SweepRecord& sweep, const TrialRecord& trial,
                         const CheckpointRecord& checkpoint) const;
  absl::Status CheckForkSource(const std::string& source) const;
  // core_index.cc
  /// Brings what is derived from the state up to it, after `event` was applied to it.
  void SyncIndexes(const LogEvent& event);
  void SyncTrial(const SweepRecord& sweep, const TrialRecord& trial);
  void RebuildIndexes();
  SchedulableTrial SchedulableOf(const SweepRecord& sweep, const TrialRecord& trial) const;
  void ObserveHealth(const LogEvent& event);
  // core_store.cc
  /// False while the store does not work.
  bool StoreReady();
  /// The outcome of a commit was unknown: forgets all that was read or derived and reads it again.
  absl::Status Reload();
  void ForgetMemory();
  /// After it: what hosts have said of gangs still holds, and those whose gang ended with the
  /// commit have to let go.
  void KeepGangs(const State& before, const std::map<AttemptKey, Preparing>& preparing);
  void Trim();
  void TrimRequests();
  absl::Duration NextMaintenance() const;
  // core_schedule.cc
  void RunSchedule();
  ScheduleInput MakeScheduleInput() const;
  std::vector<SchedulableWorker> ReadyWorkers() const;
  std::vector<RunningGang> RunningGangs(const std::vector<SchedulableWorker>& workers) const;
  AttemptAllocated Allocation(const ScheduleInput& input, const Placement& placement);
  void KeepWaits(const ScheduleInput& input, const Schedule& schedule);
  void FindBlocked();
  void TellBlocked();
  // core_gangs.cc: gangs over several workers
  /// No process of the attempt can ever have been started.
  bool NeverStarted(const AttemptKey& key, const AttemptRecord& attempt) const;
  /// Its attempt was lost with a peer, and the head has not said that its ranks are gone: another
  /// attempt would train beside them.
  bool HeadMayRun(const SweepRecord& sweep, const TrialRecord& trial) const;
  /// Trials that waited for that and need not any longer may start.
  void LookForHeads();
  absl::Status HostPrepared(const SweepRecord& sweep, const TrialRecord& trial,
                            const std::string& worker);
  void ExpirePreparations();
  void HoldHosts(const AttemptKey& key, const AttemptRecord& attempt);
  void GangCommands(const std::string& worker, const SweepRecord& sweep, const TrialRecord& trial,
                    std::vector<Command>& commands) const;
  bool AddHosts(const AttemptRecord& attempt, StartCommand& start) const;
  void TellHosts(const AttemptRecord& attempt) const;
  // core_fleet.cc
  void CordonBadWorkers();
  void Drain(const std::string& worker, const std::string& reason, Transaction& transaction);
  // core_workers.cc
  void ExpireLeases();
  absl::Duration LeaseEnd() const;
  absl::Status CheckNotLate(const RegisterRequest& request) const;
  absl::Status ReconcileAttempts(const RegisterRequest& request);
  absl::Status ApplyStatus(WorkerEntry& worker, const AttemptStatus& status);
  /// It has reserved slots for an attempt that is over.
  void ReleaseStale(WorkerEntry& worker, const AttemptKey& key);
  std::vector<std::pair<const SweepRecord*, const TrialRecord*>> LiveOn(
      const std::string& worker) const;
  /// The trial for whose attempt `key` this worker may report: its live one, or an older one in the
  /// runs folder where the worker goes on with the trial (its own worker died before it had told
  /// all).
  std::pair<const SweepRecord*, const TrialRecord*> FindReportable(const AttemptKey& key,
                                                                   const std::string& worker) const;
  /// The trial whose live attempt is `key` on `worker`; {null, null} when there is none.
  std::pair<const SweepRecord*, const TrialRecord*> FindLive(const AttemptKey& key,
                                                             const std::string& worker) const;

  const CoreOptions options_;
  Clock& clock_;
  EventStore& store_;
  std::vector<CoreObserver*> observers_;

  State state_;
  std::int64_t epoch_ = 0;
  std::map<std::string, std::int64_t> heads_;
  std::map<AttemptKey, std::int64_t> acknowledged_;  ///< durable
  std::map<AttemptKey, std::int64_t> accepted_;  ///< waiting in group_; absent = as acknowledged_
  Group group_;
  std::optional<AuditRecord> audit_;  ///< of the command that runs
  int refused_events_ = 0;
  Snapshotter snapshots_;
  std::map<std::string, std::int64_t> trimmed_;
  struct Trimming {
    std::string sweep;  ///< "" = none
    std::int64_t after = 0;
    std::int64_t upto = 0;
  };
  Trimming trimming_;
  absl::Duration next_trim_;
  absl::Duration next_request_trim_;  ///< SinceBoot; when something else is to be done anyhow
  bool more_requests_ = false;        ///< the last batch was not all
  absl::Status disk_;
  absl::Duration next_try_;  ///< of a store that does not work

  SearchTable searches_;
  WorkerTable workers_;
  std::set<AttemptKey> unsent_;                ///< allocated in this epoch, Start never handed out
  std::map<AttemptKey, Preparing> preparing_;  ///< live ones whose hosts have not all said so
  BackOffs not_before_;
  std::set<TrialId> until_head_ends_;  ///< PENDING ones for which HeadMayRun
  PendingQueue pending_;
  LiveIndex live_;
  WorkerHealth health_;
  bool health_changed_ = true;
  RetentionIndex retention_;
  absl::Duration next_retention_;                       ///< SinceBoot
  std::map<std::string, std::string> retention_notes_;  ///< what workers could not do, and why
  std::map<std::string, std::int64_t> submitted_;       ///< sweeps by the order of submission
  std::map<TrialId, absl::Duration> stop_since_;        ///< of CHECKPOINTING ones, SinceBoot
  std::map<std::string, std::map<Shape, Wait>> waits_;  ///< of the last cycle, by sweep
  std::map<std::pair<std::string, WaitReason>, std::int64_t> waiting_;
  std::map<TrialId, Progress> progress_;
  std::map<std::string, Blocked> blocked_;
  bool dirty_ = true;  ///< something that scheduling depends on has changed
};

}  // namespace sae::server
