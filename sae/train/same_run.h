#pragma once
// Whether a checkpoint belongs to the run that wants to go on from it. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/checkpoint/manifest.h"
#include "sae/train/trainer.h"

namespace sae::train {

/// INVALID_ARGUMENT, with the remedy, for another width, store, architecture, dictionary size or format of
/// moments.
[[nodiscard]] absl::Status CheckSameRun(const checkpoint::Manifest& manifest, const TrainerOptions& options,
                                        std::int64_t d);

/// One line for each setting that differs but lets the run go on (`ranks` aside), and for another
/// instruction set or number of ranks, where the bits will differ.
std::vector<std::string> Differences(const checkpoint::Manifest& manifest, const TrainerOptions& options);

}  // namespace sae::train
