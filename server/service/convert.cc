#include "server/service/convert.h"

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"
#include "sae/config/run_config.h"
#include "server/core/grace_notice.h"
#include "server/core/state_search.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

/// The core's enums have the numbers of the API's.
static_assert(static_cast<int>(TrialState::kCancelled) == v1::Trial::STATE_CANCELLED);
static_assert(static_cast<int>(TrialState::kPreempted) == v1::Trial::STATE_PREEMPTED);
static_assert(static_cast<int>(SweepState::kCancelled) == v1::Sweep::STATE_CANCELLED);
static_assert(static_cast<int>(SweepState::kPaused) == v1::Sweep::STATE_PAUSED);
static_assert(static_cast<int>(FailureClass::kInternal) == v1::INTERNAL);
static_assert(static_cast<int>(CheckpointStatus::State::kFailed) ==
              v1::CheckpointStatus::STATE_FAILED);
static_assert(static_cast<int>(AttemptStatus::State::kPrepared) ==
              v1::AttemptStatus::STATE_PREPARED);
v1::Trial::State ToProto(TrialState s) { return static_cast<v1::Trial::State>(s); }
v1::Sweep::State ToProto(SweepState s) { return static_cast<v1::Sweep::State>(s); }
v1::FailureClass ToProto(FailureClass f) { return static_cast<v1::FailureClass>(f); }

AttemptKey Key(const std::string& sweep, const std::string& trial, int attempt) {
  return {BareName(sweep), BareName(trial), attempt};
}

std::string TrialFolder(const SweepRecord& sweep, const TrialRecord& trial,
                        const AttemptRecord& attempt) {
  return absl::StrCat(attempt.runs_directory, "/", sweep.name, "/", TrialNameOf(trial.index));
}

/// `value` as the JSON scalar that the spec had.
google::protobuf::Value Scalar(const std::string& json) {
  google::protobuf::Value value;
  double number = 0;
  if (json == "true" || json == "false") {
    value.set_bool_value(json == "true");
  } else if (json.size() >= 2 && json.front() == '"') {
    value.set_string_value(json.substr(1, json.size() - 2));
  } else if (absl::SimpleAtod(json, &number)) {
    value.set_number_value(number);
  } else {
    value.set_string_value(json);
  }
  return value;
}

void FillTrialChange(TrialState state, const std::string& reason, int attempt,
                     const std::string& worker, FailureClass failure, v1::SweepEvent& event) {
  auto* change = event.mutable_trial_change();
  change->set_state(ToProto(state));
  change->set_reason(reason);
  change->set_attempt(attempt);
  change->set_worker(worker);
  change->set_failure_class(ToProto(failure));
}

struct FillEvent {
  v1::SweepEvent& out;
  void Change(TrialState state, const std::string& reason, int attempt,
              const std::string& worker = "",
              FailureClass failure = FailureClass::kUnspecified) const {
    FillTrialChange(state, reason, attempt, worker, failure, out);
  }
  void operator()(const SweepCreated&) const {
    out.mutable_sweep_change()->set_state(v1::Sweep::STATE_RUNNING);
  }
  void operator()(const SweepChanged& e) const {
    out.mutable_sweep_change()->set_state(ToProto(e.state));
  }
  void operator()(const CancelRequested&) const {
    out.mutable_notice()->set_text("cancel asked for");
  }
  void operator()(const TrialRetried&) const { Change(TrialState::kPending, "retry asked for", 0); }
  void operator()(const TrialCancelled&) const { Change(TrialState::kCancelled, "cancelled", 0); }
  void operator()(const AttemptAllocated& e) const {
    Change(TrialState::kAllocated, "", e.attempt, e.worker);
  }
  void operator()(const AttemptStarting& e) const { Change(TrialState::kStarting, "", e.attempt); }
  void operator()(const AttemptRunning& e) const { Change(TrialState::kRunning, "", e.attempt); }
  void operator()(const Rewound& e) const {
    out.mutable_rewound()->set_step(e.step);
    out.mutable_rewound()->set_attempt(e.attempt);
  }
  void operator()(const CheckpointSaved& e) const {
    out.mutable_notice()->set_text(absl::StrCat("checkpoint ", e.name, " at step ", e.step));
  }
  void operator()(const AttemptVerdict& e) const {
    out.mutable_notice()->set_text(absl::StrCat("attempt ", e.attempt, " ", e.verdict, " at step ",
                                                e.step, e.message.empty() ? "" : ": ", e.message));
  }
  void operator()(const AttemptEnded& e) const {
    Change(e.next, e.reason, e.attempt, "", e.failure_class);
  }
  void operator()(const Notice& e) const {
    out.mutable_notice()->set_text(e.text);
    for (const std::string& line : e.lines) out.mutable_notice()->add_lines(line);
  }
  void operator()(const Point& e) const {
    auto* point = out.mutable_point();
    point->set_step(e.step);
    point->set_tokens(e.tokens);
    point->set_attempt(e.attempt);
    point->set_evaluation(e.evaluation);
    point->mutable_values()->insert(e.values.begin(), e.values.end());
  }
  void operator()(const SweepUpdated&) const {
    out.mutable_notice()->set_text("the sweep was updated");
  }
  void operator()(const StopRequested& e) const {
    const bool waits = e.attempt == 0;
    Change(waits ? TrialState::kStoppedEarly : TrialState::kCheckpointing, e.reason, e.attempt);
  }
  void operator()(const TrialResumed& e) const { Change(TrialState::kPending, e.reason, 0); }
  void operator()(const TrialPaused& e) const { Change(TrialState::kPaused, e.reason, 0); }
  void operator()(const PointsAdded& e) const {
    out.mutable_notice()->set_text(absl::StrCat(e.points.size(), " points added"));
  }
  void operator()(const SearchReport& e) const {
    out.mutable_notice()->set_text(
        absl::StrCat("the search saw ", e.value, " at ", e.tokens, " tokens"));
  }
  void operator()(const SearchDecided& e) const {
    auto* decision = out.mutable_decision();
    decision->set_rung(e.rung);
    decision->set_value(e.value);
    decision->set_decision(e.decision);
  }
  void operator()(const AttemptPrepared& e) const {
    out.mutable_notice()->set_text(
        absl::StrCat("attempt ", e.attempt, ": all its workers have reserved their slots"));
  }
  void operator()(const CheckpointMarked& e) const {
    std::string text = absl::StrCat("checkpoint ", e.name);
    if (e.is_protected)
      absl::StrAppend(&text, *e.is_protected ? " protected" : " no longer protected");
    if (e.kept) absl::StrAppend(&text, *e.kept ? " among the best" : " no longer among the best");
    if (e.secured.value_or(false)) absl::StrAppend(&text, " linked below kept");
    if (e.deleting.value_or(false)) absl::StrAppend(&text, " is to be deleted");
    if (e.value) absl::StrAppend(&text, ": the objective was ", e.value->value);
    out.mutable_notice()->set_text(text);
  }
  void operator()(const CheckpointsDeleted& e) const {
    out.mutable_notice()->set_text(absl::StrCat(absl::StrJoin(e.names, ", "), " deleted",
                                                e.reason.empty() ? "" : ": ", e.reason));
  }
  void operator()(const SweepDeleted&) const {
    out.mutable_notice()->set_text("the sweep was deleted");
  }
  void operator()(const QueueUpdated&) const {}
  void operator()(const WorkerCordoned&) const {}
  void operator()(const WorkerUncordoned&) const {}
};

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp out;
  const std::int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(
      static_cast<std::int32_t>((time - absl::FromUnixSeconds(seconds)) / absl::Nanoseconds(1)));
  return out;
}

absl::StatusOr<std::string> ParseSweepName(const std::string& name, const std::string& field) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() == 1 && !name.empty()) return name;
  if (parts.size() == 4 && parts[0] == "projects" && parts[1] == "default" &&
      parts[2] == "sweeps" && !parts[3].empty()) {
    return parts[3];
  }
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": \"", name, "\" is not a sweep; give its name, or projects/default/sweeps/NAME"));
}

absl::StatusOr<std::pair<std::string, std::string>> ParseTrialName(const std::string& name,
                                                                   const std::string& field) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() == 2 && !parts[0].empty() && !parts[1].empty())
    return std::make_pair(parts[0], parts[1]);
  if (parts.size() == 6 && parts[0] == "projects" && parts[1] == "default" &&
      parts[2] == "sweeps" && parts[4] == "trials" && !parts[3].empty() && !parts[5].empty()) {
    return std::make_pair(parts[3], parts[5]);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": \"", name,
      "\" is not a trial; give SWEEP/TRIAL, or projects/default/sweeps/SWEEP/trials/TRIAL"));
}

v1::Sweep SweepToProto(const SweepRecord& sweep, std::int64_t head) {
  v1::Sweep proto;
  proto.set_name(SweepName(sweep.name));
  *proto.mutable_spec() = sae::ToProto(sweep.spec);
  proto.set_state(ToProto(sweep.state));
  *proto.mutable_create_time() = ToTimestamp(sweep.created);
  if (sweep.ended != absl::InfiniteFuture()) *proto.mutable_end_time() = ToTimestamp(sweep.ended);
  for (const TrialState s : AllTrialStates()) {
    if (sweep.count(s) > 0) (*proto.mutable_trials())[ToString(s)] = sweep.count(s);
  }
  proto.set_head_seq(head);
  if (const TrialRecord* best = BestTrial(sweep))
    proto.set_best_trial(TrialName(sweep.name, TrialNameOf(best->index)));
  if (!HasEnded(sweep.state)) {
    if (std::string grace = ShortGrace(sweep.spec, sweep.slowest_save_seconds); !grace.empty())
      proto.add_warnings(std::move(grace));
  }
  proto.set_etag(EtagOf(sweep));
  proto.set_owner(sweep.owner);
  const std::vector<std::string> from = absl::StrSplit(sweep.forked_from, '/');
  if (from.size() == 3)
    proto.set_forked_from(absl::StrCat(TrialName(from[0], from[1]), "/checkpoints/", from[2]));
  return proto;
}

v1::Trial TrialToProto(const SweepRecord& sweep, const TrialRecord& trial,
                       const std::string& reason, const Progress& progress) {
  v1::Trial proto;
  proto.set_name(TrialName(sweep.name, TrialNameOf(trial.index)));
  proto.set_state(ToProto(trial.state));
  proto.set_reason(reason);
  proto.set_failure_class(ToProto(trial.failure_class));
  for (const auto& [path, value] : trial.assignments)
    (*proto.mutable_parameters())[path] = Scalar(value);
  const config::TrialConfig config = sweep.Config(trial);
  *proto.mutable_config() = sae::ToProto(config);
  proto.set_attempt(static_cast<int>(trial.attempts.size()));
  proto.mutable_metrics()->insert(progress.metrics.begin(), progress.metrics.end());
  proto.set_step(progress.step);
  proto.set_tokens(progress.tokens);
  proto.set_total_steps(config::TotalSteps(config));
  proto.set_rung(trial.rung);
  if (const AttemptRecord* live = trial.live_attempt())
    proto.set_stopping(ToString(live->stop_wanted));
  if (!trial.attempts.empty())
    proto.set_directory(TrialFolder(sweep, trial, trial.attempts.back()));
  if (!trial.checkpoints.empty()) {
    proto.set_checkpoint(CheckpointToProto(sweep, trial, trial.checkpoints.back()).path());
  }
  return proto;
}

void AddDetails(const TrialRecord& trial, v1::Trial& proto) {
  for (const AttemptRecord& attempt : trial.attempts) {
    v1::Attempt* out = proto.add_attempts();
    out->set_number(attempt.number);
    out->set_worker(attempt.worker);
    *out->mutable_start_time() = ToTimestamp(attempt.start);
    if (attempt.end != absl::InfiniteFuture()) *out->mutable_end_time() = ToTimestamp(attempt.end);
    out->set_outcome(attempt.outcome);
    out->set_reason(attempt.reason);
    out->set_from_step(attempt.from_step.value_or(0));
    out->set_failure_class(ToProto(attempt.failure_class));
    for (const HostShare& host : attempt.hosts) out->add_hosts(host.worker);
  }
  for (const std::string& line : trial.log_tail) proto.add_log_tail(line);
}

v1::Checkpoint CheckpointToProto(const SweepRecord& sweep, const TrialRecord& trial,
                                 const CheckpointRecord& checkpoint) {
  v1::Checkpoint proto;
  proto.set_name(checkpoint.name);
  if (const AttemptRecord* attempt = trial.attempt(checkpoint.attempt)) {
    proto.set_path(absl::StrCat(TrialFolder(sweep, trial, *attempt),
                                checkpoint.secured ? "/kept/" : "/checkpoints/", checkpoint.name));
  }
  proto.set_step(checkpoint.step);
  proto.set_tokens(checkpoint.tokens);
  proto.set_attempt(checkpoint.attempt);
  *proto.mutable_create_time() = ToTimestamp(checkpoint.time);
  proto.set_protected_(checkpoint.is_protected);
  proto.set_kept(checkpoint.kept);
  proto.set_secured(checkpoint.secured);
  proto.set_deleting(checkpoint.deleting);
  if (checkpoint.value) proto.set_value(checkpoint.value->value);
  proto.set_resource(absl::StrCat(TrialName(sweep.name, TrialNameOf(trial.index)), "/checkpoints/",
                                  checkpoint.name));
  return proto;
}

v1::SweepEvent EventToProto(const LogEvent& event) {
  v1::SweepEvent proto;
  proto.set_seq(event.seq);
  *proto.mutable_time() = ToTimestamp(event.time);
  proto.set_trial(event.trial);
  std::visit(FillEvent{proto}, event.body);
  return proto;
}

v1::QueryMetricsResponse SeriesToProto(const std::vector<MetricSeries>& series) {
  v1::QueryMetricsResponse proto;
  for (const MetricSeries& s : series) {
    auto* out = proto.add_series();
    out->set_metric(s.metric);
    out->mutable_steps()->Assign(s.steps.begin(), s.steps.end());
    out->mutable_tokens()->Assign(s.tokens.begin(), s.tokens.end());
    out->mutable_values()->Assign(s.values.begin(), s.values.end());
    out->mutable_attempts()->Assign(s.attempts.begin(), s.attempts.end());
  }
  return proto;
}

RegisterRequest FromProto(const v1::RegisterRequest& proto) {
  RegisterRequest out{proto.worker_id(),
                      proto.boot_id(),
                      proto.incarnation(),
                      proto.slots(),
                      proto.gpus(),
                      proto.runs_directory(),
                      proto.runs_id(),
                      proto.version(),
                      proto.address(),
                      {},
                      proto.memory_bytes(),
                      proto.rack(),
                      proto.peer_address(),
                      proto.mpi_host(),
                      absl::Nanoseconds(proto.sent_nanos())};
  for (const auto& a : proto.attempts())
    out.attempts.push_back({Key(a.sweep(), a.trial(), a.attempt()), a.running()});
  return out;
}

v1::RegisterResponse ToProto(const RegisterReply& reply) {
  v1::RegisterResponse proto;
  const auto set = [](absl::Duration d, google::protobuf::Duration* out) {
    absl::Duration rest;
    out->set_seconds(absl::IDivDuration(d, absl::Seconds(1), &rest));
    out->set_nanos(static_cast<std::int32_t>(absl::ToInt64Nanoseconds(rest)));
  };
  proto.set_epoch(reply.epoch);
  set(reply.heartbeat_interval, proto.mutable_heartbeat_interval());
  set(reply.lease, proto.mutable_lease());
  for (const AcknowledgedAttempt& a : reply.attempts) {
    auto* out = proto.add_attempts();
    out->set_sweep(a.key.sweep);
    out->set_trial(a.key.trial);
    out->set_attempt(a.key.attempt);
    out->set_seq(a.seq);
    out->set_wanted(a.wanted);
  }
  return proto;
}

HeartbeatRequest FromProto(const v1::WorkerMessage& proto) {
  HeartbeatRequest out{{proto.worker_id(), proto.incarnation(), proto.epoch()},
                       proto.heartbeat(),
                       proto.free_slots(),
                       {}};
  for (const auto& s : proto.statuses()) {
    AttemptStatus status;
    status.key = Key(s.sweep(), s.trial(), s.attempt());
    status.state = static_cast<AttemptStatus::State>(s.state());
    status.exit_code = s.exit_code();
    status.verdict = s.verdict();
    status.reason = s.reason();
    const bool known =
        v1::FailureClass_IsValid(s.failure_class());  // a newer worker may know more classes
    status.failure_class =
        known ? static_cast<FailureClass>(s.failure_class()) : FailureClass::kInternal;
    status.log_tail.assign(s.log_tail().begin(), s.log_tail().end());
    status.status_id = s.status_id();
    out.statuses.push_back(std::move(status));
  }
  for (const auto& s : proto.checkpoints()) {
    out.checkpoints.push_back({BareName(s.sweep()), BareName(s.trial()), s.name(), s.attempt(),
                               static_cast<CheckpointStatus::State>(s.state()), s.reason(),
                               s.bytes(), s.status_id()});
  }
  return out;
}

namespace {

template <class Proto>
void SetKey(const AttemptKey& key, Proto* out) {
  out->set_sweep(key.sweep);
  out->set_trial(key.trial);
  out->set_attempt(key.attempt);
}

void Fill(const StartCommand& start, v1::StartAttempt* out) {
  SetKey(start.key, out);
  *out->mutable_config() = sae::ToProto(start.config);
  out->set_store(start.store);
  out->set_store_hash(start.store_hash);
  out->set_slots(start.slots);
  for (const StartCommand& other : start.with) Fill(other, out->add_with());
  for (const StartCommand::Host& host : start.hosts) {
    auto* h = out->add_hosts();
    h->set_worker(host.worker);
    h->set_slots(host.slots);
    h->set_mpi_host(host.mpi_host);
    h->set_peer_address(host.peer_address);
  }
  out->set_token(start.token);
  out->set_from_checkpoint(start.from_checkpoint);
  out->set_progress_timeout_seconds(absl::ToDoubleSeconds(start.progress_timeout));
  out->set_keep_checkpoints(start.keep_checkpoints);
}

}  // namespace

v1::Command ToProto(const Command& command) {
  v1::Command proto;
  if (const auto* start = std::get_if<StartCommand>(&command)) {
    Fill(*start, proto.mutable_start());
  } else if (const auto* stop = std::get_if<StopCommand>(&command)) {
    auto* out = proto.mutable_stop();
    SetKey(stop->key, out);
    out->set_mode(stop->checkpoint ? v1::StopAttempt::MODE_CHECKPOINT : v1::StopAttempt::MODE_NOW);
    out->set_reason(stop->reason);
    out->set_grace_seconds(absl::ToDoubleSeconds(stop->grace));
  } else if (const auto* prepare = std::get_if<PrepareCommand>(&command)) {
    auto* out = proto.mutable_prepare();
    SetKey(prepare->key, out);
    out->set_slots(prepare->slots);
    out->set_token(prepare->token);
    out->set_store(prepare->store);
    out->set_store_hash(prepare->store_hash);
  } else if (const auto* release = std::get_if<ReleaseCommand>(&command)) {
    SetKey(release->key, proto.mutable_release());
  } else if (const auto* keep = std::get_if<KeepCheckpointCommand>(&command)) {
    auto* out = proto.mutable_keep();
    out->set_sweep(keep->sweep);
    out->set_trial(keep->trial);
    out->set_name(keep->name);
    out->set_attempt(keep->attempt);
  } else if (const auto* remove = std::get_if<DeleteCheckpointsCommand>(&command)) {
    auto* out = proto.mutable_delete_checkpoints();
    out->set_sweep(remove->sweep);
    out->set_trial(remove->trial);
    for (const std::string& name : remove->names) out->add_names(name);
    out->set_attempt(remove->attempt);
    out->set_kept_only(remove->kept_only);
  }
  return proto;
}

ReportRequest FromProto(const v1::ReportBatchRequest& proto) {
  return {{proto.worker_id(), proto.incarnation(), proto.epoch()},
          Key(proto.sweep(), proto.trial(), proto.attempt()),
          proto.first_seq(),
          {proto.lines().begin(), proto.lines().end()}};
}

}  // namespace sae::server
