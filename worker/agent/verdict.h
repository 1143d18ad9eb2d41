#pragma once
// What became of an attempt, from what its gang left behind. Pure. The rules, first match wins:
//   1. the last event is a verdict -> that; `failed` is classed by its message, and where that says
//   nothing, by what
//      the ranks logged (GPU_FAULT, OOM_GPU)
//   2. this worker stopped the gang -> NODE_LOST when that was for its lease, restart or shutdown,
//   NO_PROGRESS,
//      RENDEZVOUS_TIMEOUT
//   3. mpirun's exit code: 0, 75: no failure; 70 HANG; 78 INVALID_CONFIG; 93 USER_ERROR;
//      137 with a kill for lack of memory since the start OOM_HOST; 205, 243 (OpenMPI could not
//      reach or start its daemon) RENDEZVOUS_TIMEOUT, or NODE_LOST when the gang had begun; other
//      signals and codes by what the ranks logged, else INTERNAL
//   4. no exit code (the gang outlived the worker that started it): the one that mpirun's words
//   tell; without words
//      INTERNAL when this worker had taken the gang back, else NODE_LOST

#include <optional>
#include <string>

#include "sae/base/process.h"
#include "sae/config/events.h"
#include "saeloom/v1/sweep.pb.h"

namespace saeloom::agent {

/// Why this worker stopped a gang.
enum class StopCause {
  kNone,
  kCoordinator,
  kLease,
  kWorkerRestart,
  kShutdown,
  kNoProgress,
  kRendezvous
};

struct Ending {
  std::string verdict;  ///< finished, yielded, stopped, failed, or ""
  int exit_code =
      0;  ///< the one in the event `failed`, else mpirun's as a shell shows it; -1 = unknown
  std::string reason;  ///< one line
  saeloom::v1::FailureClass failure_class = saeloom::v1::FAILURE_CLASS_UNSPECIFIED;
};

struct EndingFacts {
  std::optional<sae::config::Event> last_event;
  std::optional<sae::ExitStatus> exit;
  StopCause stop_cause = StopCause::kNone;
  std::string stop_reason;
  bool killed = false;         ///< by this worker, with SIGKILL
  bool out_of_memory = false;  ///< the kernel killed something for memory while the gang ran
  bool adopted = false;  ///< this worker took the living gang back from an earlier incarnation
  std::string launcher_output;  ///< what mpirun wrote
  std::string rank_logs;        ///< last lines of all ranks' logs
};
Ending Conclude(const EndingFacts& facts);

/// The rank that mpirun says failed first; nullopt when it does not say.
std::optional<int> FailedRank(const std::string& launcher_output);

}  // namespace saeloom::agent
