#pragma once
// What the command line adds to the exit codes of sae/base, stable as well.

#include "sae/base/exit_code.h"

namespace sae::cli {

inline constexpr int kExitWouldChange = 1;    ///< plan --exit-code: the sweep is not there yet
inline constexpr int kExitTrialsFailed = 10;  ///< with --wait: some trials failed
inline constexpr int kExitSweepFailed = 11;   ///< with --wait: the sweep failed or was cancelled
inline constexpr int kExitInterrupted = 130;
inline constexpr int kExitPlanFailed = 255;  ///< plan --exit-code: any error

}  // namespace sae::cli
