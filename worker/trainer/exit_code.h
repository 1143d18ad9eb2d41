#pragma once
// How an attempt's end is told to whoever started it.

#include "sae/base/status.h"

namespace saeloom::trainer {

inline constexpr int kDone = 0;
inline constexpr int kFailure = 1;
inline constexpr int kStuck = 70;           ///< the watchdog: no progress
inline constexpr int kYielded = 75;         ///< a checkpoint was saved; start me again
inline constexpr int kBadConfig = 78;       ///< can never run as it is configured
inline constexpr int kDoNotRestart = 93;    ///< would fail the same way again: it diverged

inline int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
      return kBadConfig;
    case absl::StatusCode::kFailedPrecondition:
      return kDoNotRestart;
    default:
      return kFailure;
  }
}

}  // namespace saeloom::trainer
