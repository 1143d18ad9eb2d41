#pragma once
// The exit codes that our programs share, stable: scripts rely on them. Pure.

#include "sae/base/status.h"

namespace sae {

/// 0 OK; 2 INVALID_ARGUMENT (and wrong usage); 3 NOT_FOUND; 4 UNAUTHENTICATED, PERMISSION_DENIED;
/// 5 FAILED_PRECONDITION, ALREADY_EXISTS, ABORTED; 6 UNAVAILABLE, DEADLINE_EXCEEDED; 1 all else.
int ExitCode(const absl::Status& status);

}  // namespace sae
