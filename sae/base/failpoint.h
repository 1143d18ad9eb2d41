#pragma once
// Named points at which a test makes a program die, fail or wait. Armed by the environment before
// the program starts:
//   SAELOOM_FAILPOINTS="store.before_commit=kill@3;worker.after_report=sleep(500ms)"
// kill = SIGKILL to itself, exit(N), error (UNAVAILABLE, where the point can fail), sleep(TIME);
// each time the point is passed, or with @N the N-th time only. Text that cannot be parsed ends the
// program with 2: a test must not pass because its fault never came. Thread-safe. The points are
// compiled in only where SAE_FAILPOINTS is defined (CMake: SAE_FAILPOINTS, for the targets given to
// sae_failpoints()); elsewhere a point is nothing.

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"

namespace sae {

struct FailpointRule {
  enum class Action { kKill, kExit, kError, kSleep };
  std::string name;
  Action action = Action::kKill;
  int exit_code = 0;
  absl::Duration sleep;
  int at = 0;  ///< 0 = every time
};
/// INVALID_ARGUMENT names what cannot be read.
[[nodiscard]] absl::StatusOr<std::vector<FailpointRule>> ParseFailpoints(const std::string& text);

/// Passes the point `name`: what the environment says of it happens. UNAVAILABLE for `error`.
absl::Status HitFailpoint(const char* name);

}  // namespace sae

#ifdef SAE_FAILPOINTS
#define SAE_FAILPOINT(name) ::sae::HitFailpoint(name).IgnoreError()
#define SAE_FAILPOINT_RETURN(name) SAE_RETURN_IF_ERROR(::sae::HitFailpoint(name))
#else
#define SAE_FAILPOINT(name) static_cast<void>(0)
#define SAE_FAILPOINT_RETURN(name) static_cast<void>(0)
#endif
