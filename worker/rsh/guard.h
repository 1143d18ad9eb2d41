#pragma once
// What a worker runs for a peer is wrapped in this: the command in a shell, and whatever it starts,
// ends when the worker dies. It leads the session that the worker gave it; standard error joins
// standard output.

#include <string>

#include "sae/base/status.h"

namespace saeloom::rsh {

/// Runs `command` by /bin/sh until it ends and returns its exit code as a shell shows it; when
/// process `parent` ends, or SIGTERM comes, the command's session and all that carries the gang's
/// marks is killed first: 137.
[[nodiscard]] absl::StatusOr<int> RunGuarded(const std::string& parent, const std::string& command);

}  // namespace saeloom::rsh
