#pragma once
// Where a forked trial begins: the source's checkpoint becomes the first in the trial's own folder,
// by hard links, or copies where links cannot be. Blocks while it copies. Errors: INVALID_ARGUMENT
// for a folder outside the runs folder, DATA_LOSS when the source is not there, those of the file
// system.

#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "worker/agent/checkpoint_files.h"

namespace saeloom::agent {

/// `runs`: the runs folder, RUNS. `from`: RUNS/SWEEP/TRIAL/checkpoints/NAME; where it was replaced,
/// the one kept under RUNS/SWEEP/TRIAL/kept/NAME. Nothing happens when `checkpoints` holds a
/// checkpoint: the trial goes on from its own. All of it is there afterwards, or none.
[[nodiscard]] absl::Status BeginFrom(sae::Env& env, const std::string& runs,
                                     const std::string& from, const std::string& checkpoints,
                                     const LinkFile& link = HardLink);

}  // namespace saeloom::agent
