#pragma once
// What becomes of a trial when its attempt has ended: exit codes and verdicts to states, who is
// charged, when it may be tried again (design.md, "Exit codes of a trial"; "Retries"). Pure.

#include <string>
#include <vector>

#include "sae/config/sweep_spec.h"
#include "server/core/state.h"

namespace sae::server {

inline constexpr int kExitYielded = 75;
inline constexpr int kExitInvalidConfig = 78;
inline constexpr int kExitDoNotRestart = 93;
inline constexpr std::size_t kLogTailLines = 100;

struct RetryPolicy {
  int trial_attempts = 3;    ///< attempts when the trial is at fault
  int worker_attempts = 10;  ///< attempts when workers are lost
  int stalled_attempts = 3;  ///< NO_PROGRESS attempts in a row without a new checkpoint
  absl::Duration first_delay = absl::Seconds(1);  ///< doubles with each charge of the same kind
  absl::Duration longest_delay = absl::Minutes(1);
};

/// How an attempt ended, as far as the coordinator can know.
struct Ending {
  enum class How {
    kExited,   ///< the worker says all its processes are gone
    kRefused,  ///< the worker could not start it
    kLost,     ///< the worker is gone, or came back without it
  };
  How how = How::kExited;
  int exit_code = 0;
  std::string
      verdict;  ///< the trainer's last word as the worker saw it; the log's own stands over it
  std::string reason;
  FailureClass failure_class = FailureClass::kUnspecified;
  std::vector<std::string> log_tail;
  std::vector<std::string> suspects;  ///< workers that may be why; none = the attempt's own
};

/// The event that records the end of the trial's live attempt. `cancelled`: its sweep is being
/// cancelled.
AttemptEnded Judge(const RetryPolicy& policy, const TrialRecord& trial, bool cancelled,
                   const Ending& ending, const std::vector<config::RetryRule>& rules = {});

/// The end of an attempt that was told to stop and did not finish first: one outcome for each way
/// to stop, however it ended, and no charge. `how` = what else there is to say, "" = it saved.
AttemptEnded EndedAsAsked(int attempt, StopWanted wanted, const std::string& reason,
                          const std::string& how);

/// The first rule that names the class; null = the coordinator's own rules hold.
const config::RetryRule* RuleFor(const std::vector<config::RetryRule>& rules, FailureClass failure);

/// NODE_LOST and the like: the machine's fault, not the trial's.
bool IsWorkersFault(FailureClass failure);

}  // namespace sae::server
