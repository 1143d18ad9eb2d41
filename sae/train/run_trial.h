#pragma once
// One attempt of one trial on this rank, from a valid run config to its outcome: opens the store, builds the
// engine, trains. All ranks call it together. One thread calls; the store's prefetch and the engine's pool
// have threads of their own. Nothing is created before the store, the configuration and the free disk are
// known to be good. Errors: INVALID_ARGUMENT for what can never run (d, hash of the store, a checkpoint of
// another run), FAILED_PRECONDITION for a run that diverged, others as their parts give them.

#include <functional>
#include <string>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"
#include "sae/config/run_config.h"
#include "sae/train/device/device_parts.h"
#include "sae/train/event_writer.h"
#include "sae/train/stop.h"
#include "sae/train/trainer.h"

namespace sae::train {

struct RunTrialParts {
  Env* env = nullptr;
  Clock* clock = nullptr;
  comm::Communicator* communicator = nullptr;
  EventWriter* events = nullptr;  ///< rank 0's
  const DeviceParts* device = nullptr;  ///< what `run.device` names; null: the CPU
  std::function<StopReason()> stop_requested;
  std::function<void()> progress;
};

/// `config.run.directory` and `checkpoints` may be relative: to the current folder, and to the directory.
[[nodiscard]] absl::StatusOr<Outcome> RunTrial(const config::RunConfig& config, const RunTrialParts& parts);

/// Where the trial's checkpoints lie.
std::string CheckpointsPath(const config::RunConfig& config);

/// Bytes that must be free for checkpoints before a run starts: two that are kept and one being written.
std::int64_t CheckpointDiskBytes(const config::TrialConfig& trial, std::int64_t d, std::int64_t target_d = 0);

/// The widest vector instructions of this machine that the kernels use: "avx512", "avx2", "sse2", "generic".
std::string InstructionSet();

}  // namespace sae::train
