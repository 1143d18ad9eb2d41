#pragma once
// The program's exit codes, stable: scripts rely on them (docs/formats/sweep.md lists them). Pure
// functions.

#include "sae/base/status.h"

namespace sae::cli {

inline constexpr int kExitTrialsFailed = 10;  ///< with --wait: some trials failed
inline constexpr int kExitSweepFailed = 11;   ///< with --wait: the sweep failed or was cancelled
inline constexpr int kExitInterrupted = 130;

/// 0 ok, 2 usage or INVALID_ARGUMENT, 3 NOT_FOUND, 4 auth, 5 precondition, 6 unavailable, 1 all
/// else.
int ExitCode(const absl::Status& status);

}  // namespace sae::cli
