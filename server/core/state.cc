#include "server/core/state.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "sae/config/search_rungs.h"
#include "server/core/state_checkpoints.h"
#include "server/core/state_lifecycle.h"
#include "server/core/state_search.h"

namespace sae::server {
namespace {

absl::Status Create(const LogEvent& event, const SweepCreated& body, SweepRecord& sweep) {
  SAE_ASSIGN_OR_RETURN(sweep.spec, config::ParseSweepSpec(body.spec));
  sweep.name = event.sweep;
  sweep.created = event.time;
  sweep.owner = body.owner;
  sweep.forked_from = body.forked_from;
  sweep.fork_runs_id = body.fork_runs_id;
  sweep.trials.reserve(body.points.size());
  for (const auto& point : body.points) AddTrial(sweep, point, event.time);
  return absl::OkStatus();
}

void Allocate(const LogEvent& event, const AttemptAllocated& body, TrialRecord& trial) {
  AttemptRecord attempt;
  attempt.number = body.attempt;
  attempt.worker = body.worker;
  attempt.runs_id = body.runs_id;
  attempt.runs_directory = body.runs_directory;
  attempt.slots = body.slots;
  attempt.gang = body.gang;
  attempt.hosts = body.hosts;
  attempt.token = body.token;
  attempt.start = event.time;
  trial.attempts.push_back(std::move(attempt));
  trial.reason.clear();
  trial.failure_class = FailureClass::kUnspecified;
}

void Run(const AttemptRunning& body, TrialRecord& trial) {
  trial.attempts.back().from_step = body.from_step;
  RewindCheckpoints(body.from_step, trial);
}

void End(const LogEvent& event, const AttemptEnded& body, TrialRecord& trial) {
  AttemptRecord& attempt = trial.attempts.back();
  attempt.end = event.time;
  attempt.outcome = body.outcome;
  attempt.reason = body.reason;
  attempt.failure_class = body.failure_class;
  attempt.suspects = body.suspects;
  if (body.charge == Charge::kTrial) ++trial.trial_faults;
  if (body.charge == Charge::kWorker) ++trial.lost_workers;
  trial.reason = body.reason;
  trial.failure_class = body.failure_class;
  trial.pending_since = event.time;
  trial.delay = body.delay;
  if (!body.log_tail.empty()) trial.log_tail = body.log_tail;
}

int AttemptOf(const Body& body) {
  return std::visit(
      [](const auto& e) {
        if constexpr (requires { e.attempt; }) {
          return e.attempt;
        } else {
          return 0;
        }
      },
      body);
}

}  // namespace

std::int64_t TrialRecord::EffectiveUpTo(int number) const {
  std::int64_t limit = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = static_cast<std::size_t>(std::max(number, 0)); i < attempts.size(); ++i) {
    if (attempts[i].from_step) limit = std::min(limit, *attempts[i].from_step);
  }
  return limit;
}

bool SweepRecord::AllEnded() const {
  return std::all_of(AllTrialStates().begin(), AllTrialStates().end(),
                     [&](TrialState s) { return HasEnded(s) || count(s) == 0; });
}

const TrialRecord* SweepRecord::trial(const std::string& trial_name) const {
  const int index = TrialIndexOf(trial_name);
  return index >= 0 && index < static_cast<int>(trials.size())
             ? &trials[static_cast<std::size_t>(index)]
             : nullptr;
}

config::TrialConfig SweepRecord::Config(const TrialRecord& trial) const {
  config::TrialConfig config = spec.trial;
  for (const auto& [path, value] : trial.assignments) {
    // The values were validated at submit; one that this version refuses leaves the sweep's value.
    config::SetField(config, path, value).IgnoreError();
  }
  config::FillForSearch(spec, config);
  return config;
}

int ShareOf(const AttemptRecord& attempt, const std::string& worker) {
  if (attempt.hosts.empty()) return attempt.worker == worker ? attempt.slots : 0;
  for (const HostShare& share : attempt.hosts) {
    if (share.worker == worker) return share.slots;
  }
  return 0;
}

std::string GangOf(const std::string& sweep, const std::string& trial,
                   const AttemptRecord& attempt) {
  if (!attempt.gang.empty()) return absl::StrCat(sweep, "/", attempt.gang);
  return absl::StrCat(sweep, "/", trial, "/", attempt.number);
}

std::string TrialNameOf(int index) { return absl::StrFormat("%04d", index); }

int TrialIndexOf(const std::string& name) {
  if (name.empty() || name.size() > 9) return -1;
  int index = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return -1;
    index = index * 10 + (c - '0');
  }
  return TrialNameOf(index) == name ? index : -1;
}

const SweepRecord* State::sweep(const std::string& name) const {
  const auto it = sweeps_.find(name);
  return it == sweeps_.end() ? nullptr : &it->second;
}

absl::Status State::Apply(const LogEvent& event) {
  if (event.sweep.empty()) return fleet_.Apply(event);
  if (const auto* created = std::get_if<SweepCreated>(&event.body)) {
    if (sweeps_.contains(event.sweep)) return EventBug(event, "the sweep exists");
    if (deleted_.contains(event.sweep)) return EventBug(event, "the name was used");
    SweepRecord sweep;
    SAE_RETURN_IF_ERROR(Create(event, *created, sweep));
    sweeps_.emplace(event.sweep, std::move(sweep));
    order_.push_back(event.sweep);
    return absl::OkStatus();
  }
  const auto it = sweeps_.find(event.sweep);
  if (it == sweeps_.end()) return EventBug(event, "no such sweep");
  if (std::holds_alternative<SweepDeleted>(event.body)) {
    if (!HasEnded(it->second.state)) return EventBug(event, "the sweep has not ended");
    sweeps_.erase(it);
    std::erase(order_, event.sweep);
    deleted_.insert(event.sweep);
    return absl::OkStatus();
  }
  const absl::Status status = ApplyTo(event, it->second);
  if (status.ok()) FollowSearch(event, it->second);
  return status;
}

absl::Status State::ApplyTo(const LogEvent& event, SweepRecord& sweep) {
  if (event.telemetry() || std::holds_alternative<Notice>(event.body)) return absl::OkStatus();
  if (const auto* changed = std::get_if<SweepChanged>(&event.body)) {
    sweep.state = changed->state;
    sweep.ended = HasEnded(changed->state) ? event.time : absl::InfiniteFuture();
    if (changed->state == SweepState::kRunning) sweep.cancel_requested = false;
    return absl::OkStatus();
  }
  if (auto applied = ApplySweepVerb(event, sweep)) return *applied;
  const int index = TrialIndexOf(event.trial);
  if (index < 0 || index >= static_cast<int>(sweep.trials.size()))
    return EventBug(event, "no such trial");
  return ApplyTrial(event, sweep, sweep.trials[static_cast<std::size_t>(index)]);
}

absl::Status State::ApplyTrial(const LogEvent& event, SweepRecord& sweep, TrialRecord& trial) {
  const Body& body = event.body;
  const auto move_to = [&](TrialState to) -> absl::Status {
    if (!TransitionAllowed(trial.state, to)) {
      return EventBug(event, absl::StrCat("from ", ToString(trial.state), " to ", ToString(to)));
    }
    SetState(sweep, trial, to);
    return absl::OkStatus();
  };
  if (std::holds_alternative<TrialRetried>(body)) {
    if (trial.state != TrialState::kFailed && trial.state != TrialState::kCancelled) {
      return EventBug(event, absl::StrCat("from ", ToString(trial.state)));
    }
    SetState(sweep, trial, TrialState::kPending);
    trial.trial_faults = trial.lost_workers = 0;
    trial.fresh_from = static_cast<int>(trial.attempts.size());
    trial.failure_class = FailureClass::kUnspecified;
    trial.reason = "retry asked for";
    trial.pending_since = event.time;
    trial.delay = absl::ZeroDuration();
    return absl::OkStatus();
  }
  if (std::holds_alternative<TrialCancelled>(body)) {
    if (trial.live_attempt() != nullptr) return EventBug(event, "an attempt is live");
    SAE_RETURN_IF_ERROR(move_to(TrialState::kCancelled));
    trial.reason = "cancelled";
    return absl::OkStatus();
  }
  if (auto applied = ApplyTrialVerb(event, sweep, trial)) return *applied;
  if (auto applied = ApplySearch(event, sweep, trial)) return *applied;
  if (const auto* e = std::get_if<AttemptAllocated>(&body)) {
    if (e->attempt != static_cast<int>(trial.attempts.size()) + 1)
      return EventBug(event, "not the next attempt");
    SAE_RETURN_IF_ERROR(move_to(TrialState::kAllocated));
    Allocate(event, *e, trial);
    return absl::OkStatus();
  }
  if (auto applied = ApplyCheckpoint(event, sweep.spec.checkpoints, trial)) {
    const auto* saved = std::get_if<CheckpointSaved>(&body);
    if (saved != nullptr && applied->ok())
      sweep.slowest_save_seconds = std::max(sweep.slowest_save_seconds, saved->seconds);
    return *applied;
  }
  if (trial.live_attempt() == nullptr || trial.live_attempt()->number != AttemptOf(body)) {
    return EventBug(event, absl::StrCat("attempt ", AttemptOf(body), " is not live"));
  }
  // One that was told to stop before it had said so goes on to stop.
  const bool stopping = trial.state == TrialState::kCheckpointing;
  if (std::holds_alternative<AttemptStarting>(body))
    return stopping ? absl::OkStatus() : move_to(TrialState::kStarting);
  if (const auto* running = std::get_if<AttemptRunning>(&body)) {
    if (!stopping) {
      SAE_RETURN_IF_ERROR(move_to(TrialState::kRunning));
    }
    Run(*running, trial);
  }
  if (const auto* verdict = std::get_if<AttemptVerdict>(&body)) {
    trial.attempts.back().verdict = verdict->verdict;
    trial.attempts.back().verdict_message = verdict->message;
  }
  if (std::holds_alternative<AttemptPrepared>(body)) trial.attempts.back().prepared = true;
  if (const auto* ended = std::get_if<AttemptEnded>(&body)) {
    SAE_RETURN_IF_ERROR(move_to(ended->next));
    End(event, *ended, trial);
  }
  return absl::OkStatus();  // Rewound changes nothing here: AttemptRunning has said it
}

std::string State::DebugString() const {
  std::string out =
      absl::StrCat("deleted ", absl::StrJoin(deleted_, " "), "\n", fleet_.DebugString());
  for (const std::string& name : order_) {
    const SweepRecord& s = sweeps_.at(name);
    absl::StrAppend(
        &out, "sweep ", name, " ", ToString(s.state), " cancel=", s.cancel_requested,
        s.cancel_graceful ? " graceful" : "", " owner=", s.owner, " from=", s.forked_from, "@",
        s.fork_runs_id, " etc=", s.spec.priority, ",", s.spec.max_concurrent, ",", s.spec.queue,
        ",", absl::StrJoin(s.spec.labels, ",", absl::PairFormatter("=")),
        " created=", absl::FormatTime(s.created, absl::UTCTimeZone()),
        " ended=", absl::FormatTime(s.ended, absl::UTCTimeZone()),
        " counts=", absl::StrJoin(s.counts, ","), " pending=", absl::StrJoin(s.pending, ","),
        " live=", absl::StrJoin(s.live, ","), " paused=", absl::StrJoin(s.paused, ","),
        " ranked=", absl::StrJoin(s.ranked, ",", absl::PairFormatter(":")),
        " save=", s.slowest_save_seconds, "\n", config::ToJson(s.spec), "\n", SearchDebugString(s));
    for (const TrialRecord& t : s.trials) {
      absl::StrAppend(&out, " trial ", t.index, " ", ToString(t.state), " \"", t.reason, "\" ",
                      ToString(t.failure_class), " faults=", t.trial_faults,
                      " lost=", t.lost_workers, " fresh=", t.fresh_from,
                      " since=", absl::FormatTime(t.pending_since, absl::UTCTimeZone()),
                      " delay=", absl::FormatDuration(t.delay),
                      " log=", absl::StrJoin(t.log_tail, "|"));
      out += SearchDebugString(t);
      for (const auto& [path, value] : t.assignments) absl::StrAppend(&out, " ", path, "=", value);
      for (const AttemptRecord& a : t.attempts) {
        absl::StrAppend(&out, "\n  attempt ", a.number, " ", a.worker, " ", a.runs_id, " ",
                        a.runs_directory);
        absl::StrAppend(&out, " slots=", a.slots, " gang=", a.gang, " ",
                        absl::FormatTime(a.start, absl::UTCTimeZone()), " ",
                        absl::FormatTime(a.end, absl::UTCTimeZone()), " ", a.outcome, " \"",
                        a.reason, "\" ", ToString(a.failure_class),
                        " from=", a.from_step.value_or(-1), " ", a.verdict, " \"",
                        a.verdict_message, "\" stop=", ToString(a.stop_wanted), " \"",
                        a.stop_reason, "\" suspects=", absl::StrJoin(a.suspects, ","));
        if (!a.hosts.empty())
          absl::StrAppend(&out, " token=", a.token, " prepared=", a.prepared, " hosts=");
        for (const HostShare& h : a.hosts) absl::StrAppend(&out, h.worker, ":", h.slots, " ");
      }
      for (const CheckpointRecord& c : t.checkpoints) out += server::DebugString(c);
      out += '\n';
    }
  }
  return out;
}

}  // namespace sae::server
