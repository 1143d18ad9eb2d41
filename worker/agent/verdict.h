#pragma once
// What became of an attempt, from what its gang left behind. Pure. The rules, first match wins:
//   1. the last event is a verdict -> that; `failed` is classed by its message
//   2. this worker killed the gang -> NODE_LOST when that was for its lease, restart or shutdown
//   3. mpirun's exit code: 0, 75: no failure; 70 HANG; 78 INVALID_CONFIG; 93 USER_ERROR;
//      137 with a kill for lack of memory since the start OOM_HOST; 205, 243 RENDEZVOUS_TIMEOUT
//      (OpenMPI could not reach or start its daemon); no `started` event and 1: INTERNAL; other
//      signals and codes INTERNAL
//   4. no exit code (the gang outlived the worker that started it) -> NODE_LOST

#include <optional>
#include <string>

#include "sae/base/process.h"
#include "sae/config/events.h"
#include "saeloom/v1/sweep.pb.h"

namespace saeloom::agent {

/// Why this worker stopped a gang.
enum class StopCause { kNone, kCoordinator, kLease, kWorkerRestart, kShutdown };

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
  bool killed = false;          ///< by this worker, with SIGKILL
  bool out_of_memory = false;   ///< the kernel killed something for memory while the gang ran
  std::string launcher_output;  ///< what mpirun wrote
};
Ending Conclude(const EndingFacts& facts);

/// The rank that mpirun says failed first; nullopt when it does not say.
std::optional<int> FailedRank(const std::string& launcher_output);

}  // namespace saeloom::agent
