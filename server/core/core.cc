#include "server/core/core.h"

#include <algorithm>
#include <spdlog/spdlog.h>

#include "server/core/grace_notice.h"

namespace sae::server {

absl::StatusOr<PreparedSweep> PrepareSweep(const config::SweepSpec& spec, std::size_t max_trials) {
  SAE_RETURN_IF_ERROR(config::Validate(spec));
  PreparedSweep prepared{spec, {config::ToJson(spec), {}}};
  std::size_t trials = 0;
  SAE_RETURN_IF_ERROR(config::ForEachTrial(spec, [&](std::size_t, const config::TrialPoint& point) {
    if (++trials <= max_trials) prepared.event.points.push_back(point.assignments);
    return absl::OkStatus();
  }));
  if (trials > max_trials) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameters: ", trials, " trials, a sweep holds at most ", max_trials,
                     "; split the grid, or draw some with search: random"));
  }
  return prepared;
}

absl::StatusOr<std::unique_ptr<Core>> Core::Start(const CoreOptions& options, Clock& clock,
                                                  EventStore& store) {
  std::unique_ptr<Core> core(new Core(options, clock, store));
  SAE_ASSIGN_OR_RETURN(core->epoch_, store.BeginEpoch());
  SAE_RETURN_IF_ERROR(core->Replay());
  return core;
}

void Core::KeepLease(const AttemptRecord& attempt, const std::string& host) {
  WorkerEntry& worker = workers_[host];
  if (worker.ready) return;  // it was registered before a Reload
  worker.id = host;
  worker.runs_id = attempt.runs_id;
  worker.runs_directory = attempt.runs_directory;
  worker.lease_open = true;
  worker.lease_until = clock_.SinceBoot() + options_.lease + options_.lease_margin;
}

absl::Status Core::Replay() {
  StateSnapshot::Index parts;
  const std::int64_t cut = Snapshotter::Restore(store_, state_, parts, &health_);
  snapshots_.Begin(std::move(parts));
  SAE_RETURN_IF_ERROR(store_.ReplayAfter(cut, [this](const LogEvent& event) -> absl::Status {
    snapshots_.Before(event);
    const absl::Status status = state_.Apply(event);
    if (status.ok()) ObserveHealth(event);
    if (status.ok()) return status;
    // A sweep that cannot be read would vanish: refuse. Any other event was refused when it was
    // live, too.
    if (std::holds_alternative<SweepCreated>(event.body)) {
      return absl::DataLossError(
          absl::StrCat("event log: sweep ", event.sweep, " cannot be read: ", status.message()));
    }
    ++refused_events_;
    spdlog::error("{}", Message(status));
    return absl::OkStatus();
  }));
  SAE_ASSIGN_OR_RETURN(heads_, store_.Heads());
  SAE_ASSIGN_OR_RETURN(const std::vector<server::Acknowledged> acknowledged,
                       store_.AllAcknowledged());
  for (const auto& a : acknowledged) acknowledged_[{a.sweep, a.trial, a.attempt}] = a.seq;
  for (const std::string& name : state_.deleted()) Forget(name);
  SAE_ASSIGN_OR_RETURN(trimmed_, store_.Trimmed());

  const absl::Duration now = clock_.SinceBoot();
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    for (const int index : sweep.live) {
      if (sweep.trials[static_cast<std::size_t>(index)].state == TrialState::kCheckpointing)
        stop_since_[{name, index}] = now;  // when it was told is not known: anew
      // Its last heartbeat may have been answered just before we went down: the lease runs from
      // now.
      const AttemptRecord& attempt = sweep.trials[static_cast<std::size_t>(index)].attempts.back();
      std::vector<HostShare> hosts = attempt.hosts;
      if (hosts.empty()) hosts = {{attempt.worker, attempt.slots}};
      for (const HostShare& host : hosts) KeepLease(attempt, host.worker);
      if (!attempt.hosts.empty() && !attempt.prepared) {
        preparing_[{name, TrialNameOf(index), attempt.number}].until =
            now + options_.prepare_timeout;
      }
    }
    for (const int index : sweep.pending) {
      const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
      // Its head may train on, too.
      if (!trial.attempts.empty()) {
        const AttemptRecord& last = trial.attempts.back();
        if (!last.hosts.empty() && last.prepared && last.outcome == "lost")
          KeepLease(last, last.worker);
      }
      if (trial.delay <= absl::ZeroDuration()) continue;
      // The wall clock may have jumped while we were down: never longer than the whole delay.
      const absl::Duration left = trial.pending_since + trial.delay - clock_.Now();
      not_before_.Set({name, index}, now + std::clamp(left, absl::ZeroDuration(), trial.delay));
    }
  }
  RebuildIndexes();
  return absl::OkStatus();
}

std::int64_t Core::head(const std::string& sweep) const {
  const auto it = heads_.find(sweep);
  return it == heads_.end() ? 0 : it->second;
}

std::int64_t Core::acknowledged(const AttemptKey& key) const {
  const auto it = acknowledged_.find(key);
  return it == acknowledged_.end() ? 0 : it->second;
}

void Core::Add(Transaction& transaction, const std::string& sweep, const std::string& trial,
               Body body) {
  transaction.events.push_back({sweep, 0, clock_.Now(), trial, std::move(body)});
}

absl::Status Core::Flush() { return Commit({}); }

absl::Status Core::StoreTokens(std::vector<TokenRecord> tokens, std::vector<UsedRequest> requests) {
  Transaction transaction;
  transaction.tokens = std::move(tokens);
  transaction.requests = std::move(requests);
  return Commit(std::move(transaction));
}

absl::Status Core::Commit(Transaction transaction) {
  // What waits goes first, so that a sweep's sequence has no holes and an attempt's lines keep
  // their order.
  Group group = std::exchange(group_, {});
  Transaction& all = group.transaction;
  all.Append(std::move(transaction));
  if (all.empty()) return absl::OkStatus();
  accepted_.clear();
  if (absl::IsUnavailable(disk_) || absl::IsAborted(disk_)) {
    const absl::Status status = disk_;  // nothing is written before Reload
    for (const auto& done : group.done) done(status);
    return status;
  }
  if (audit_) all.audit.push_back(*std::exchange(audit_, std::nullopt));
  AddSearchEvents(all);
  AddCheckpointValues(all);
  AddGraceNotices(state_, all.events);
  for (UsedRequest& request : all.requests) request.time = clock_.Now();

  std::map<std::string, std::int64_t> heads;
  for (LogEvent& event : all.events) {
    const auto [it, added] = heads.emplace(event.sweep, 0);
    if (added) it->second = head(event.sweep);
    event.seq = ++it->second;
  }
  const absl::Duration before = clock_.SinceBoot();
  const absl::Status status = disk_ = store_.Commit(all);
  for (CoreObserver* o : observers_) o->OnCommit(clock_.SinceBoot() - before, status);
  if (status.ok()) {
    for (const auto& [sweep, seq] : heads) heads_[sweep] = seq;
    Committed(all);
  } else {
    spdlog::error("cannot write the event log: {}", Message(status));
  }
  CheckSearches();
  for (const auto& done : group.done) done(status);
  return status;
}

void Core::Committed(const Transaction& transaction) {
  std::set<std::string> sweeps;
  for (const LogEvent& event : transaction.events) {
    ApplyOne(event);
    sweeps.insert(event.sweep);
    for (CoreObserver* o : observers_) o->OnEvent(event);
  }
  for (const auto& a : transaction.acknowledged)
    acknowledged_[{a.sweep, a.trial, a.attempt}] = a.seq;
  for (const std::string& sweep : sweeps) {
    for (CoreObserver* o : observers_) o->OnHead(sweep, head(sweep));
  }
}

void Core::ApplyOne(const LogEvent& event) {
  const TrialId id{event.sweep, TrialIndexOf(event.trial)};
  if (const auto* point = std::get_if<Point>(&event.body)) {
    // One that was told late, of an older attempt, is not the newest.
    if (const auto it = progress_.find(id);
        it != progress_.end() && point->step >= it->second.step) {
      for (const auto& [name, value] : point->values) it->second.metrics[name] = value;
      it->second.step = point->step;
      it->second.tokens = point->tokens;
    }
    return;
  }
  snapshots_.Before(event);
  const SweepRecord* sweep = state_.sweep(event.sweep);
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(event.trial);
  const TrialState before = trial == nullptr ? TrialState::kUnspecified : trial->state;
  if (const absl::Status status = state_.Apply(event); !status.ok()) {
    ++refused_events_;  // a replay refuses it as well, so both agree
    spdlog::error("{}", Message(status));
    return;
  }
  if (std::holds_alternative<AttemptRunning>(event.body)) progress_.erase(id);
  if (const auto* e = std::get_if<AttemptEnded>(&event.body)) {
    unsent_.erase({event.sweep, event.trial, e->attempt});
    not_before_.Erase(id);
    const AttemptRecord& ended = trial->attempts.back();
    const auto told = stop_since_.find(id);
    if (told != stop_since_.end() && ended.stop_wanted == StopWanted::kPreempt) {
      const absl::Duration took = clock_.SinceBoot() - told->second;
      for (CoreObserver* o : observers_) o->OnPreempted(e->reason == ended.stop_reason, took);
    }
    stop_since_.erase(id);
    if (e->next == TrialState::kPending && e->delay > absl::ZeroDuration()) {
      not_before_.Set(id, clock_.SinceBoot() + e->delay);
    }
    preparing_.erase({event.sweep, event.trial, e->attempt});
    HoldHosts({event.sweep, event.trial, e->attempt}, trial->attempts.back());
  }
  if (const auto* e = std::get_if<AttemptAllocated>(&event.body)) {
    const AttemptKey key{event.sweep, event.trial, e->attempt};
    unsent_.insert(key);
    if (!e->hosts.empty()) preparing_[key].until = clock_.SinceBoot() + options_.prepare_timeout;
  }
  if (const auto* e = std::get_if<AttemptPrepared>(&event.body))
    preparing_.erase({event.sweep, event.trial, e->attempt});
  if (std::holds_alternative<StopRequested>(event.body) &&
      trial->state == TrialState::kCheckpointing)
    stop_since_.try_emplace(id, clock_.SinceBoot());
  // Also one that was cancelled or stopped while it waited: a retry begins anew.
  if (trial != nullptr && trial->state != TrialState::kPending) not_before_.Erase(id);
  if (std::holds_alternative<SweepDeleted>(event.body)) Forget(event.sweep);
  if (!std::holds_alternative<Notice>(event.body) &&
      !std::holds_alternative<CheckpointSaved>(event.body) &&
      !std::holds_alternative<CheckpointMarked>(event.body) &&
      !std::holds_alternative<CheckpointsDeleted>(event.body))
    dirty_ = true;
  ObserveHealth(event);
  SyncIndexes(event);
  Observe(event, before);
}

void Core::Observe(const LogEvent& event, TrialState before) {
  const SweepRecord* sweep = state_.sweep(event.sweep);
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(event.trial);
  for (CoreObserver* o : observers_) o->OnLifecycle(event);
  if (const auto* e = std::get_if<SweepCreated>(&event.body)) {
    for (CoreObserver* o : observers_) o->OnPointsDrawn(sweep->spec.search, e->points.size());
  }
  if (const auto* e = std::get_if<SearchDecided>(&event.body)) {
    for (CoreObserver* o : observers_) o->OnSearchDecided(sweep->spec.search, e->decision);
  }
  if (std::holds_alternative<CancelRequested>(event.body)) {
    for (const int index : sweep->live) {
      const std::string& worker =
          sweep->trials[static_cast<std::size_t>(index)].attempts.back().worker;
      for (CoreObserver* o : observers_) o->OnCommands(worker);
    }
  }
  if (trial == nullptr) return;
  if (std::holds_alternative<AttemptPrepared>(event.body) ||
      (std::holds_alternative<AttemptEnded>(event.body) && !trial->attempts.back().hosts.empty()))
    TellHosts(trial->attempts.back());
  if (std::holds_alternative<CheckpointMarked>(event.body)) TellHolders(*trial);
  for (CoreObserver* o : observers_) {
    if (std::holds_alternative<StopRequested>(event.body) && trial->live_attempt() != nullptr)
      o->OnCommands(trial->attempts.back().worker);
    if (HasEnded(trial->state) && !HasEnded(before)) {
      o->OnTrialEnded(trial->state, trial->failure_class, event.time - sweep->created);
    }
    if (trial->state == TrialState::kAllocated && before == TrialState::kPending) {
      std::string why = "first";
      if (trial->attempts.size() > 1) {
        const AttemptRecord& last = trial->attempts[trial->attempts.size() - 2];
        why = last.failure_class == FailureClass::kUnspecified ? last.outcome
                                                               : ToString(last.failure_class);
      }
      o->OnAllocated(why, QueueNameOf(sweep->spec.queue), event.time - trial->pending_since);
      TellHosts(trial->attempts.back());
    }
    if (trial->state == TrialState::kRunning && before != TrialState::kRunning) {
      o->OnGangRunning(event.time - trial->attempts.back().start);
    }
  }
}

void Core::EndAttempt(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                      const Ending& ending) {
  AttemptEnded ended =
      Judge(options_.retry, trial, sweep.cancel_requested, ending, sweep.spec.retry);
  if (ended.failure_class != FailureClass::kUnspecified) ended.suspects = ending.suspects;
  if (ended.outcome == "preempted" && sweep.state == SweepState::kPaused) ended.outcome = "paused";
  if (ended.next == TrialState::kPending && ended.failure_class != FailureClass::kUnspecified) {
    ended.reason = absl::StrCat(
        "retry after ", ToString(ended.failure_class), " at ",
        absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", clock_.Now() + ended.delay, absl::UTCTimeZone()),
        ": ", ended.reason);
  }
  const std::string name = TrialNameOf(trial.index);
  const int attempt = ended.attempt;
  std::vector<std::string> lines = ended.log_tail;
  if (lines.size() > 20) lines.erase(lines.begin(), lines.end() - 20);
  Add(transaction, sweep.name, name, std::move(ended));
  if (!lines.empty()) {
    Add(transaction, sweep.name, name,
        Notice{attempt, absl::StrCat("last lines of attempt ", attempt, "'s log"),
               std::move(lines)});
  }
}

void Core::EndSweeps(Transaction& transaction) {
  struct Tally {
    std::int64_t ended = 0, failed = 0, cancelled = 0;
  };
  std::map<std::string, Tally> tallies;
  std::set<std::string> cancelling;
  const auto count = [](Tally& tally, TrialState state, std::int64_t n) {
    if (HasEnded(state)) tally.ended += n;
    if (state == TrialState::kFailed) tally.failed += n;
    if (state == TrialState::kCancelled) tally.cancelled += n;
  };
  for (const LogEvent& event : transaction.events) {
    if (const auto* e = std::get_if<AttemptEnded>(&event.body))
      count(tallies[event.sweep], e->next, 1);
    if (std::holds_alternative<TrialCancelled>(event.body))
      count(tallies[event.sweep], TrialState::kCancelled, 1);
    if (std::holds_alternative<StopRequested>(event.body) &&
        !IsLive(state_.sweep(event.sweep)->trial(event.trial)->state))
      count(tallies[event.sweep], TrialState::kStoppedEarly, 1);
    if (std::holds_alternative<CancelRequested>(event.body)) cancelling.insert(event.sweep);
  }
  for (auto& [name, tally] : tallies) {
    const SweepRecord& sweep = *state_.sweep(name);
    for (const TrialState s : AllTrialStates()) count(tally, s, sweep.count(s));
    if (tally.ended < static_cast<std::int64_t>(sweep.trials.size())) continue;
    SweepState state = SweepState::kSucceeded;
    if (tally.cancelled > 0) state = SweepState::kCancelled;
    const bool cancel = sweep.cancel_requested || cancelling.contains(name);
    if (tally.failed > 0 && !(cancel && tally.cancelled > 0)) state = SweepState::kFailed;
    Add(transaction, name, "", SweepChanged{state});
  }
}

void Core::Tick() {
  Advance();
  MaintainStore();
}

void Core::Advance() {
  if (!StoreReady()) return;
  const absl::Duration now = clock_.SinceBoot();
  if (now >= group_.due) Flush().IgnoreError();  // those who wait were told
  // With a full disk, not more often than it is tried.
  const bool may_write = disk_.ok() || now >= next_try_;
  if (may_write) {
    ExpireLeases();
    ExpirePreparations();
  }
  for (const TrialId& id : not_before_.TakeDue(now)) {
    dirty_ = true;
    const SweepRecord* sweep = state_.sweep(id.first);
    if (sweep != nullptr) SyncTrial(*sweep, sweep->trials[static_cast<std::size_t>(id.second)]);
  }
  LookForHeads();
  if (may_write) RunRetention();
  if (may_write && health_changed_) CordonBadWorkers();
  if (may_write && dirty_) RunSchedule();
  TellBlocked();
}

absl::Duration Core::NextDeadline() const {
  if (absl::IsUnavailable(disk_) || absl::IsAborted(disk_)) return next_try_;
  absl::Duration next = std::min(group_.due, NextMaintenance());
  for (const auto& [id, worker] : workers_) {
    if (worker.lease_open) next = std::min(next, worker.lease_until);
  }
  next = std::min(next, not_before_.next());
  if (!retention_.changed().empty()) next = std::min(next, next_retention_);
  for (const auto& [key, preparing] : preparing_) next = std::min(next, preparing.until);
  for (const auto& [sweep, blocked] : blocked_) {
    if (!blocked.told) next = std::min(next, blocked.since + options_.blocked_notice);
  }
  return dirty_ && disk_.ok() ? absl::ZeroDuration() : next;
}

}  // namespace sae::server
