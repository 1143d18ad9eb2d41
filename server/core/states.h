#pragma once
// Words of the coordinator: states of trials and sweeps, failure classes, and which transitions
// exist (the table of design.md, "Sweep, trial, attempt"). Numbers equal those of proto saeloom.v1.
// Pure.

#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::server {

enum class TrialState {
  kUnspecified = 0,
  kPending,
  kAllocated,
  kStarting,
  kRunning,
  kCheckpointing,
  kPaused,
  kPreempted,
  kSucceeded,
  kStoppedEarly,
  kFailed,
  kCancelled,
};
enum class SweepState { kUnspecified = 0, kRunning, kSucceeded, kFailed, kCancelled, kPaused };
/// Why a running trial is to end.
enum class StopWanted { kNone = 0, kPause, kPreempt, kStopEarly, kCancel };
enum class FailureClass {
  kUnspecified = 0,
  kNodeLost,
  kGpuFault,
  kRendezvousTimeout,
  kOomGpu,
  kOomHost,
  kUserError,
  kHang,
  kNoProgress,
  kInvalidConfig,
  kCheckpointUnreadable,
  kInternal,
};

/// "PENDING", "STOPPED_EARLY", "NODE_LOST", ...; "" for kUnspecified.
std::string ToString(TrialState state);
std::string ToString(SweepState state);
std::string ToString(FailureClass failure);
/// "pause", "preempt", "stop", "cancel"; "" for kNone.
std::string ToString(StopWanted wanted);
/// INVALID_ARGUMENT for a word that is none of them.
[[nodiscard]] absl::StatusOr<TrialState> ParseTrialState(const std::string& word);
[[nodiscard]] absl::StatusOr<SweepState> ParseSweepState(const std::string& word);
[[nodiscard]] absl::StatusOr<FailureClass> ParseFailureClass(const std::string& word);
[[nodiscard]] absl::StatusOr<StopWanted> ParseStopWanted(const std::string& word);

/// All states but kUnspecified, in the order of the enum: for counts and metrics.
const std::vector<TrialState>& AllTrialStates();
const std::vector<SweepState>& AllSweepStates();

/// SUCCEEDED, STOPPED_EARLY, FAILED, CANCELLED: final, except that a recorded retry reopens FAILED
/// and CANCELLED.
constexpr bool HasEnded(TrialState s) { return s >= TrialState::kSucceeded; }
constexpr bool HasEnded(SweepState s) {
  return s >= SweepState::kSucceeded && s <= SweepState::kCancelled;
}
/// ALLOCATED, STARTING, RUNNING, CHECKPOINTING: an attempt holds slots.
constexpr bool IsLive(TrialState s) {
  return s >= TrialState::kAllocated && s <= TrialState::kCheckpointing;
}

/// Whether a trial may go from `from` to `to`. A retry asked for by a person is not in this table.
bool TransitionAllowed(TrialState from, TrialState to);

}  // namespace sae::server
