// Verbs over sweeps and trials that exist: pause, resume, stop, cancel, change, delete, add points.
// Each looks at the state, writes events in one transaction and is done; what follows is derived
// from the state. A request that carries an id is answered from its first use, before anything
// else is looked at.
#include <algorithm>
#include <unordered_set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/error_reason.h"
#include "sae/base/hash.h"
#include "server/core/core.h"
#include "server/core/no_such.h"
#include "server/core/point_keys.h"

namespace sae::server {
namespace {

constexpr char kCancelled[] = "the sweep was cancelled";
constexpr char kSweepPaused[] = "its sweep was paused";

absl::Status HasEndedError(const SweepRecord& sweep, const std::string& remedy) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "sweep \"", sweep.name, "\" has ended: ", ToString(sweep.state), "; ", remedy)),
      "SWEEP_HAS_ENDED");
}

absl::Status CancellingError(const SweepRecord& sweep) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "sweep \"", sweep.name, "\" is being cancelled; wait until it is CANCELLED, then ",
          "retry its trials")),
      "SWEEP_IS_BEING_CANCELLED");
}

const char* WordOf(TrialVerb verb) {
  switch (verb) {
    case TrialVerb::kPause:
      return "pause";
    case TrialVerb::kResume:
      return "resume";
    case TrialVerb::kStop:
      return "stop";
    case TrialVerb::kPromote:
      return "promote";
  }
  return "";
}

const char* MethodOf(TrialVerb verb) {
  switch (verb) {
    case TrialVerb::kPause:
      return "PauseTrial";
    case TrialVerb::kResume:
      return "ResumeTrial";
    case TrialVerb::kStop:
      return "StopTrial";
    case TrialVerb::kPromote:
      return "PromoteTrial";
  }
  return "";
}

/// What a verb does to a trial in its state.
struct VerbPlan {
  enum class Act { kNothing, kPauseNow, kResumeNow, kStopNow, kAsk, kRefuse };
  Act act = Act::kNothing;
  StopWanted wanted = StopWanted::kNone;  ///< kAsk
  const char* remedy = "";                ///< kRefuse
};

VerbPlan PlanPause(const TrialRecord& trial) {
  using Act = VerbPlan::Act;
  if (trial.state == TrialState::kPending) return {Act::kPauseNow};
  if (trial.state == TrialState::kPaused) return {};
  if (HasEnded(trial.state)) return {Act::kRefuse, {}, "only trials that have not ended can pause"};
  const StopWanted wanted = trial.attempts.back().stop_wanted;
  if (wanted == StopWanted::kPause) return {};
  if (wanted == StopWanted::kNone || wanted == StopWanted::kPreempt)
    return {Act::kAsk, StopWanted::kPause};
  return {Act::kRefuse, {}, "it is being ended already"};
}

VerbPlan PlanResume(const TrialRecord& trial) {
  using Act = VerbPlan::Act;
  if (trial.state == TrialState::kPaused) return {Act::kResumeNow};
  if (trial.state == TrialState::kFailed || trial.state == TrialState::kCancelled)
    return {Act::kRefuse, {}, "retry it instead"};
  if (HasEnded(trial.state)) return {Act::kRefuse, {}, "fork it to train on"};
  if (!IsLive(trial.state)) return {};
  const StopWanted wanted = trial.attempts.back().stop_wanted;
  // It was told to save and will: it goes on from there.
  if (wanted == StopWanted::kPause) return {Act::kAsk, StopWanted::kPreempt};
  if (wanted == StopWanted::kNone || wanted == StopWanted::kPreempt) return {};
  return {Act::kRefuse, {}, "wait until it has ended"};
}

VerbPlan PlanStop(const TrialRecord& trial) {
  using Act = VerbPlan::Act;
  if (trial.state == TrialState::kStoppedEarly) return {};
  if (HasEnded(trial.state)) return {Act::kRefuse, {}, "it has ended already"};
  if (!IsLive(trial.state)) return {Act::kStopNow};
  const StopWanted wanted = trial.attempts.back().stop_wanted;
  if (wanted == StopWanted::kStopEarly) return {};
  if (wanted == StopWanted::kCancel) return {Act::kRefuse, {}, "it is being cancelled"};
  return {Act::kAsk, StopWanted::kStopEarly};
}

VerbPlan PlanPromote(const SweepRecord& sweep, const TrialRecord& trial) {
  using Act = VerbPlan::Act;
  const bool search = sweep.spec.search == "asha" || sweep.spec.search == "hyperband";
  if (!search || sweep.spec.asha.mode != "promote")
    return {Act::kRefuse, {}, "only an asha or hyperband search with mode promote promotes"};
  if (trial.state == TrialState::kPaused) return {Act::kResumeNow};
  return {Act::kRefuse, {}, "only a PAUSED trial can be promoted"};
}

VerbPlan PlanOf(TrialVerb verb, const SweepRecord& sweep, const TrialRecord& trial) {
  switch (verb) {
    case TrialVerb::kPause:
      return PlanPause(trial);
    case TrialVerb::kResume:
      return PlanResume(trial);
    case TrialVerb::kStop:
      return PlanStop(trial);
    case TrialVerb::kPromote:
      return PlanPromote(sweep, trial);
  }
  return {};
}

std::string ReasonFor(TrialVerb verb, const TrialRecord& trial) {
  switch (verb) {
    case TrialVerb::kPause:
      return "paused by a person";
    case TrialVerb::kResume:
      return IsLive(trial.state) ? "resumed while it was pausing" : "resumed";
    case TrialVerb::kStop:
      return "stopped by a person";
    case TrialVerb::kPromote:
      return "promoted by a person";
  }
  return "";
}

}  // namespace

std::string EtagOf(const SweepRecord& sweep) {
  std::string text = absl::StrCat(sweep.spec.priority, "\n", sweep.spec.max_concurrent, "\n",
                                  sweep.spec.queue, "\n");
  for (const auto& [key, value] : sweep.spec.labels)
    absl::StrAppend(&text, key.size(), ":", key, value.size(), ":", value);
  return HashToText(Xxh3(text)).substr(5);
}

void Core::AskToStop(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                     StopWanted wanted, const std::string& reason) {
  const std::string name = TrialNameOf(trial.index);
  const int attempt = trial.attempts.back().number;
  Add(transaction, sweep.name, name, StopRequested{attempt, wanted, reason});
  if (trial.state == TrialState::kAllocated &&
      NeverStarted({sweep.name, name, attempt}, trial.attempts.back()))
    Add(transaction, sweep.name, name, EndedAsAsked(attempt, wanted, reason, ""));
}

std::optional<StopCommand> Core::StopFor(const SweepRecord& sweep, const TrialRecord& trial) const {
  const AttemptRecord& attempt = trial.attempts.back();
  const AttemptKey key{sweep.name, TrialNameOf(trial.index), attempt.number};
  if (sweep.cancel_requested && !sweep.cancel_graceful)
    return StopCommand{key, false, kCancelled, {}};
  if (attempt.stop_wanted == StopWanted::kNone) return std::nullopt;
  const absl::Duration grace = absl::Seconds(sweep.spec.grace_seconds);
  const auto since = stop_since_.find({sweep.name, trial.index});
  if (since != stop_since_.end() &&
      clock_.SinceBoot() >= since->second + grace + options_.stop_margin) {
    return StopCommand{
        key, false, absl::StrCat(attempt.stop_reason, "; it did not save in time"), {}};
  }
  return StopCommand{key, true, attempt.stop_reason, grace};
}

void Core::KeepForFork(Transaction& transaction, const std::string& source) {
  const std::vector<std::string> names = absl::StrSplit(source, '/');
  const SweepRecord* sweep = names.size() == 3 ? state_.sweep(names[0]) : nullptr;
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(names[1]);
  if (trial == nullptr) return;
  CheckpointMarked mark;
  mark.name = names[2];
  mark.is_protected = true;
  Add(transaction, names[0], names[1], std::move(mark));
}

void Core::Forget(const std::string& sweep) {
  heads_.erase(sweep);
  // Both maps have a sweep's entries together: a start forgets each deleted sweep.
  for (auto it = acknowledged_.lower_bound({sweep, "", 0});
       it != acknowledged_.end() && it->first.sweep == sweep;)
    it = acknowledged_.erase(it);
  waits_.erase(sweep);
  for (auto it = progress_.lower_bound({sweep, 0});
       it != progress_.end() && it->first.first == sweep;)
    it = progress_.erase(it);
  blocked_.erase(sweep);
  std::erase_if(retention_notes_,
                [&](const auto& note) { return note.first.rfind(sweep + "/", 0) == 0; });
}

absl::Status Core::CancelSweep(const std::string& name, bool graceful, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "CancelSweep", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  Transaction transaction;
  Remember(request, "CancelSweep", name, "", transaction);
  // A second cancel can only be in more of a hurry.
  const bool asked = sweep->cancel_requested && (graceful || !sweep->cancel_graceful);
  if (sweep->state == SweepState::kCancelled || asked) return Commit(std::move(transaction));
  if (HasEnded(sweep->state)) return HasEndedError(*sweep, "there is nothing to cancel");
  Add(transaction, name, "", CancelRequested{graceful});
  for (const TrialRecord& trial : sweep->trials) {
    const std::string trial_name = TrialNameOf(trial.index);
    const AttemptRecord* live = trial.live_attempt();
    if (live == nullptr && !HasEnded(trial.state))
      Add(transaction, name, trial_name, TrialCancelled{});
    if (live == nullptr) continue;
    const bool unheard = NeverStarted({name, trial_name, live->number}, *live);
    if (graceful) {
      AskToStop(transaction, *sweep, trial, StopWanted::kCancel, kCancelled);
    } else if (unheard) {
      Add(transaction, name, trial_name,
          EndedAsAsked(live->number, StopWanted::kCancel, "cancelled", ""));
    }
  }
  EndSweeps(transaction);
  return Commit(std::move(transaction));
}

absl::Status Core::PauseSweep(const std::string& name, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "PauseSweep", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (HasEnded(sweep->state)) return HasEndedError(*sweep, "there is nothing to pause");
  if (sweep->cancel_requested) return CancellingError(*sweep);
  Transaction transaction;
  Remember(request, "PauseSweep", name, "", transaction);
  if (sweep->state != SweepState::kPaused) {
    Add(transaction, name, "", SweepChanged{SweepState::kPaused});
    // They are PENDING when they have saved, as if preempted: the sweep's resumption starts them,
    // and not those that were paused one by one.
    for (const int index : sweep->live) {
      const TrialRecord& trial = sweep->trials[static_cast<std::size_t>(index)];
      if (trial.attempts.back().stop_wanted != StopWanted::kNone) continue;
      AskToStop(transaction, *sweep, trial, StopWanted::kPreempt, kSweepPaused);
    }
  }
  return Commit(std::move(transaction));
}

absl::Status Core::ResumeSweep(const std::string& name, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "ResumeSweep", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (HasEnded(sweep->state)) return HasEndedError(*sweep, "retry its trials, or add points");
  if (sweep->cancel_requested) return CancellingError(*sweep);
  Transaction transaction;
  Remember(request, "ResumeSweep", name, "", transaction);
  if (sweep->state == SweepState::kPaused)
    Add(transaction, name, "", SweepChanged{SweepState::kRunning});
  return Commit(std::move(transaction));
}

absl::Status Core::UpdateSweep(const std::string& name, const SweepUpdated& update,
                               const std::string& etag, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "UpdateSweep", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (!etag.empty() && etag != EtagOf(*sweep)) {
    return WithReason(
        absl::AbortedError(absl::StrCat("etag: \"", etag, "\" is old, sweep \"", name,
                                        "\" was changed since and has \"", EtagOf(*sweep),
                                        "\"; get it again, then update it")),
        "ETAG_IS_OLD");
  }
  if (update.queue) {
    SAE_RETURN_IF_ERROR(CheckQueue(*update.queue));
  }
  Transaction transaction;
  Remember(request, "UpdateSweep", name, "", transaction);
  Add(transaction, name, "", update);
  return Commit(std::move(transaction));
}

absl::Status Core::DeleteSweep(const std::string& name, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "DeleteSweep", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (!HasEnded(sweep->state)) {
    return WithReason(
        absl::FailedPreconditionError(
            absl::StrCat("sweep \"", name, "\" is ", ToString(sweep->state),
                         ", and only one that has ended can be deleted; cancel it first, or wait")),
        "SWEEP_HAS_NOT_ENDED");
  }
  Transaction transaction;
  Remember(request, "DeleteSweep", name, "", transaction);
  Add(transaction, name, "", SweepDeleted{});
  return Commit(std::move(transaction));
}

absl::Status Core::ChangeTrial(TrialVerb verb, const std::string& name,
                               const std::string& trial_name, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, MethodOf(verb), name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  const TrialRecord* trial = sweep->trial(trial_name);
  if (trial == nullptr) {
    return absl::NotFoundError(absl::StrCat("no trial \"", trial_name, "\" in sweep \"", name,
                                            "\", which has ", sweep->trials.size()));
  }
  if (sweep->cancel_requested && !HasEnded(sweep->state)) return CancellingError(*sweep);
  const VerbPlan plan = PlanOf(verb, *sweep, *trial);
  Transaction transaction;
  Remember(request, MethodOf(verb), name, "", transaction);
  const std::string reason = ReasonFor(verb, *trial);
  switch (plan.act) {
    case VerbPlan::Act::kNothing:
      break;
    case VerbPlan::Act::kPauseNow:
      Add(transaction, name, trial_name, TrialPaused{reason});
      break;
    case VerbPlan::Act::kResumeNow:
      Add(transaction, name, trial_name, TrialResumed{reason});
      break;
    case VerbPlan::Act::kStopNow:
      Add(transaction, name, trial_name, StopRequested{0, StopWanted::kStopEarly, reason});
      EndSweeps(transaction);
      break;
    case VerbPlan::Act::kAsk:
      AskToStop(transaction, *sweep, *trial, plan.wanted, reason);
      EndSweeps(transaction);
      break;
    case VerbPlan::Act::kRefuse:
      return WithReason(absl::FailedPreconditionError(absl::StrCat(
                            "cannot ", WordOf(verb), " trial ", trial_name, " of sweep \"", name,
                            "\": it is ", ToString(trial->state), "; ", plan.remedy)),
                        "TRIAL_STATE");
  }
  return Commit(std::move(transaction));
}

absl::StatusOr<AddedPoints> Core::AddPoints(const std::string& name,
                                            const std::vector<TrialAssignments>& points,
                                            std::size_t most, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "AddPoints", name));
  AddedPoints out;
  if (answer) {
    std::vector<std::string> parts = absl::StrSplit(*answer, ',', absl::SkipEmpty());
    if (parts.empty() || !absl::SimpleAtoi(parts[0], &out.skipped))
      return absl::DataLossError(absl::StrCat("request ", request.id, ": no answer of AddPoints"));
    out.trials.assign(parts.begin() + 1, parts.end());
    return out;
  }
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  if (sweep->cancel_requested && !HasEnded(sweep->state)) return CancellingError(*sweep);
  const PointKeys keys(sweep->spec.trial);
  std::unordered_set<std::uint64_t> seen;
  for (const TrialRecord& trial : sweep->trials) seen.insert(keys.Of(trial.assignments));
  PointsAdded added;
  for (const TrialAssignments& point : points) {
    if (added.points.size() >= most) break;
    if (seen.insert(keys.Of(point)).second) {
      out.trials.push_back(
          TrialNameOf(static_cast<int>(sweep->trials.size() + added.points.size())));
      added.points.push_back(point);
    } else {
      ++out.skipped;
    }
  }
  const std::size_t total = sweep->trials.size() + added.points.size();
  if (total > options_.max_trials) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parameters: ", added.points.size(), " new points make ", total,
        " trials, a sweep holds at most ", options_.max_trials, "; give fewer, or a new sweep"));
  }
  Transaction transaction;
  Remember(request, "AddPoints", name,
           absl::StrCat(out.skipped, ",", absl::StrJoin(out.trials, ",")), transaction);
  if (!added.points.empty()) {
    if (HasEnded(sweep->state)) Add(transaction, name, "", SweepChanged{SweepState::kRunning});
    Add(transaction, name, "", std::move(added));
  }
  SAE_RETURN_IF_ERROR(Commit(std::move(transaction)));
  return out;
}

}  // namespace sae::server
