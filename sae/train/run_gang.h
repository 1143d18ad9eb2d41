#pragma once
// One attempt each of several trials of a sweep in this process, on one stream: what RunTrial is for one. All ranks
// call it together. Each trial has its own events, checkpoints, evaluations and end. Errors: a trial's are its own;
// a store that cannot be opened is everyone's.

#include <functional>
#include <span>
#include <vector>

#include "sae/train/run_trial.h"

namespace sae::train {

struct GangTrial {
  config::RunConfig config;
  EventWriter* events = nullptr;  ///< rank 0's
  std::function<StopReason()> stop_requested;
};

/// INVALID_ARGUMENT naming the trial, the field and both values where they cannot share a stream: store,
/// run.store_hash, ranks, train.data_seed, train.batch, sae.transcoder, run.threads, run.device and the resolved
/// train.replicas must be equal; run.directory
/// and the folder of checkpoints must not be.
[[nodiscard]] absl::Status CheckGang(std::span<const config::RunConfig> configs);

/// `parts`: events and stop_requested are the trials'. `ended` is called once a trial, when it ends, one at a time.
/// Returns their ends, in the order of `trials`.
std::vector<absl::StatusOr<Outcome>> RunGang(
    std::span<const GangTrial> trials, const RunTrialParts& parts,
    const std::function<void(std::size_t trial, const absl::StatusOr<Outcome>& outcome)>& ended);

}  // namespace sae::train
