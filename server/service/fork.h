#pragma once
// A sweep whose trials begin from a checkpoint of a trial that exists. LookUpFork on the core's
// thread; PrepareFork is pure and slow: any thread. Errors: NOT_FOUND for a source that is not
// there, FAILED_PRECONDITION for one without a checkpoint, INVALID_ARGUMENT, with the field's path,
// for what a checkpoint cannot go on with.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

struct ForkSource {
  std::string sweep;
  std::string trial;  ///< bare
  CheckpointRecord checkpoint;
  std::string runs_id;
  config::SweepSpec spec;
  config::TrialConfig config;  ///< of the trial
};

[[nodiscard]] absl::StatusOr<ForkSource> LookUpFork(const Core& core, const std::string& source);
[[nodiscard]] absl::StatusOr<PreparedSweep> PrepareFork(
    const saeloom::v1::ForkSweepRequest& request, const ForkSource& source, std::size_t max_trials);

}  // namespace sae::server
