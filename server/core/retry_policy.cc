#include "server/core/retry_policy.h"

#include <algorithm>

namespace sae::server {
namespace {

absl::Duration Backoff(const RetryPolicy& policy, int charges) {
  absl::Duration delay = policy.first_delay;
  for (int i = 1; i < charges && delay < policy.longest_delay; ++i) delay *= 2;
  return std::min(delay, policy.longest_delay);
}

bool NeverRetried(const Ending& ending, FailureClass failure) {
  if (failure == FailureClass::kInvalidConfig) return true;
  return ending.how == Ending::How::kExited &&
         (ending.exit_code == kExitInvalidConfig || ending.exit_code == kExitDoNotRestart);
}

FailureClass ClassOf(const Ending& ending) {
  if (ending.how == Ending::How::kLost) return FailureClass::kNodeLost;
  if (ending.how == Ending::How::kExited && ending.exit_code == kExitInvalidConfig)
    return FailureClass::kInvalidConfig;
  if (ending.failure_class != FailureClass::kUnspecified) return ending.failure_class;
  return ending.how == Ending::How::kRefused || ending.exit_code == 0 ? FailureClass::kInternal
                                                                      : FailureClass::kUserError;
}

std::string ReasonOf(const Ending& ending, const std::string& verdict,
                     const std::string& verdict_message) {
  if (ending.how == Ending::How::kExited && verdict == "failed" && !verdict_message.empty() &&
      ending.reason.empty()) {
    return verdict_message;
  }
  if (!ending.reason.empty()) return ending.reason;
  switch (ending.how) {
    case Ending::How::kRefused:
      return "the worker could not start it";
    case Ending::How::kLost:
      return "its worker is gone";
    case Ending::How::kExited:
      break;
  }
  return absl::StrCat("exit code ", ending.exit_code,
                      verdict.empty() ? ", and its events hold no verdict" : "");
}

/// How many attempts a failure may take, and how many it has taken.
struct Budget {
  std::int64_t used = 1;   ///< with the one that has just ended
  std::int64_t limit = 0;  ///< -1 = without
  const char* of = " attempts";
};

/// Ended attempts since the last retry by a person, of a class for which `counts` holds; and this
/// one.
template <typename Predicate>
std::int64_t Count(const TrialRecord& trial, int after, Predicate counts) {
  std::int64_t n = 1;
  for (const AttemptRecord& a : trial.attempts) {
    const bool ended = a.number < trial.attempts.back().number;
    n += ended && a.number > std::max(after, trial.fresh_from) && counts(a.failure_class) ? 1 : 0;
  }
  return n;
}

Budget BudgetOf(const RetryPolicy& policy, const TrialRecord& trial,
                const std::vector<config::RetryRule>& rules, FailureClass failure) {
  if (const config::RetryRule* rule = RuleFor(rules, failure)) {
    const std::int64_t used =
        Count(trial, 0, [&](FailureClass f) { return RuleFor({*rule}, f) != nullptr; });
    return {used, rule->limit < 0 ? -1 : rule->limit + 1};
  }
  if (failure == FailureClass::kNoProgress) {
    int saved = 0;  // the newest attempt with a checkpoint
    for (const CheckpointRecord& c : trial.checkpoints) saved = std::max(saved, c.attempt);
    if (saved == trial.attempts.back().number) return {1, policy.stalled_attempts};
    return {Count(trial, saved, [](FailureClass f) { return f == FailureClass::kNoProgress; }),
            policy.stalled_attempts, " attempts without a new checkpoint"};
  }
  const bool memory = failure == FailureClass::kOomGpu || failure == FailureClass::kOomHost;
  // In a gang with others memory may suffice for each alone; alone it will not do next time either.
  if (memory && trial.attempts.back().gang.empty()) return {1, 1};
  if (IsWorkersFault(failure)) return {1 + trial.lost_workers, policy.worker_attempts};
  return {1 + trial.trial_faults, policy.trial_attempts};
}

/// Fills next, charge and delay of an attempt that failed.
void RetryOrFail(const RetryPolicy& policy, const TrialRecord& trial, const Ending& ending,
                 const std::vector<config::RetryRule>& rules, AttemptEnded& out) {
  if (NeverRetried(ending, out.failure_class)) {
    out.charge = Charge::kTrial;
    out.next = TrialState::kFailed;
    return;
  }
  out.charge = IsWorkersFault(out.failure_class) ? Charge::kWorker : Charge::kTrial;
  const Budget budget = BudgetOf(policy, trial, rules, out.failure_class);
  if (budget.limit >= 0 && budget.used >= budget.limit) {
    out.next = TrialState::kFailed;
    out.reason = absl::StrCat(out.reason, " (", budget.used, " of ", budget.limit, budget.of, ")");
    return;
  }
  out.next = TrialState::kPending;
  out.delay = Backoff(policy, static_cast<int>(std::min<std::int64_t>(budget.used, 64)));
}

}  // namespace

const config::RetryRule* RuleFor(const std::vector<config::RetryRule>& rules,
                                 FailureClass failure) {
  for (const config::RetryRule& rule : rules) {
    if (std::find(rule.on.begin(), rule.on.end(), ToString(failure)) != rule.on.end()) return &rule;
  }
  return nullptr;
}

bool IsWorkersFault(FailureClass failure) {
  return failure == FailureClass::kNodeLost || failure == FailureClass::kGpuFault ||
         failure == FailureClass::kRendezvousTimeout;
}

AttemptEnded EndedAsAsked(int attempt, StopWanted wanted, const std::string& reason,
                          const std::string& how) {
  AttemptEnded out;
  out.attempt = attempt;
  out.reason = how.empty() ? reason : absl::StrCat(reason, " (", how, ")");
  switch (wanted) {
    case StopWanted::kNone:
    case StopWanted::kPreempt:
      out.outcome = "preempted";
      out.next = TrialState::kPending;
      break;
    case StopWanted::kPause:
      out.outcome = "paused";
      out.next = TrialState::kPaused;
      break;
    case StopWanted::kStopEarly:
      out.outcome = "stopped";
      out.next = TrialState::kStoppedEarly;
      break;
    case StopWanted::kCancel:
      out.outcome = "cancelled";
      out.next = TrialState::kCancelled;
      break;
  }
  return out;
}

AttemptEnded Judge(const RetryPolicy& policy, const TrialRecord& trial, bool cancelled,
                   const Ending& ending, const std::vector<config::RetryRule>& rules) {
  const AttemptRecord& attempt = trial.attempts.back();
  AttemptEnded out;
  out.attempt = attempt.number;
  out.log_tail = ending.log_tail;
  if (out.log_tail.size() > kLogTailLines) {
    out.log_tail.erase(out.log_tail.begin(),
                       out.log_tail.end() - static_cast<std::ptrdiff_t>(kLogTailLines));
  }
  std::string verdict = attempt.verdict.empty() ? ending.verdict : attempt.verdict;
  if (verdict.empty() && ending.how == Ending::How::kExited && ending.exit_code == kExitYielded)
    verdict = "yielded";

  if (verdict == "finished") {
    out.outcome = "succeeded";
    out.next = TrialState::kSucceeded;
    out.log_tail.clear();
    return out;
  }
  cancelled = cancelled || attempt.stop_wanted == StopWanted::kCancel;
  if (verdict == "stopped" && !cancelled) {
    out.outcome = "stopped";
    out.next = TrialState::kStoppedEarly;
    out.reason = attempt.verdict_message;
    out.log_tail.clear();
    return out;
  }
  if (attempt.stop_wanted != StopWanted::kNone && !cancelled) {
    const bool saved = verdict == "yielded";
    const std::string how = ReasonOf(ending, verdict, attempt.verdict_message);
    AttemptEnded asked =
        EndedAsAsked(attempt.number, attempt.stop_wanted, attempt.stop_reason,
                     saved ? "" : absl::StrCat("it went before it had saved: ", how));
    if (!saved) asked.log_tail = std::move(out.log_tail);
    return asked;
  }
  if (cancelled) {
    out.outcome = "cancelled";
    out.next = TrialState::kCancelled;
    out.reason = "cancelled";
    out.log_tail.clear();
    return out;
  }
  // One that yields because it did not get on has failed.
  if (verdict == "yielded" && ending.failure_class != FailureClass::kNoProgress) {
    out.outcome = "yielded";
    out.next = TrialState::kPending;
    out.log_tail.clear();
    out.reason = !ending.reason.empty()            ? ending.reason
                 : attempt.verdict_message.empty() ? "checkpointed and yielded"
                                                   : attempt.verdict_message;
    // One that yields without having come further waits, so that it cannot spin.
    const bool advanced =
        !trial.checkpoints.empty() && trial.checkpoints.back().attempt == attempt.number;
    out.delay = advanced ? absl::ZeroDuration() : policy.first_delay;
    return out;
  }
  out.outcome = ending.how == Ending::How::kLost      ? "lost"
                : ending.how == Ending::How::kRefused ? "refused"
                                                      : "failed";
  out.failure_class = ClassOf(ending);
  out.reason = ReasonOf(ending, verdict, attempt.verdict_message);
  RetryOrFail(policy, trial, ending, rules, out);
  return out;
}

}  // namespace sae::server
