#pragma once
// Any SAE folder as a model::Sae, told apart by its files: a checkpoint of ours (manifest.json with
// format "saeloom-checkpoint"), or a trial's `checkpoints` folder (its newest good one), or SAELens
// v6 (cfg.json and sae_weights.safetensors). Pure readers. In raw units: the scale S is folded in.
// A run with train.ema gives its mean parameters (those of the last step while the mean has no
// weight), `on_the_fly` decoders give their directions, batchtopk and matryoshka their inference
// threshold. Errors: NOT_FOUND (nothing there), INVALID_ARGUMENT (a folder that is none of these:
// says what was looked for), FAILED_PRECONDITION (a batch threshold that is not defined yet),
// DATA_LOSS, UNIMPLEMENTED (another library's architecture that ours cannot hold).

#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/checkpoint/manifest.h"
#include "sae/model/sae.h"

namespace sae::checkpoint {

[[nodiscard]] absl::StatusOr<model::Sae> LoadSae(Env& env, const std::string& folder);

/// The same from a checkpoint alone, with its manifest (for its store and configuration).
struct LoadedCheckpoint {
  std::string folder;
  Manifest manifest;
  model::Sae sae;
};
[[nodiscard]] absl::StatusOr<LoadedCheckpoint> LoadCheckpointSae(Env& env,
                                                                 const std::string& folder);

/// Writes `sae` as a checkpoint at step 0 under `directory` (for `import`): weights alone, input
/// scale 1; a trainer does not resume from it. batchtopk and matryoshka become jumprelu with their
/// thresholds, the same function. Returns the folder's name. UNIMPLEMENTED for a normalisation that
/// training does not know.
[[nodiscard]] absl::StatusOr<std::string> SaveSae(Env& env, const std::string& directory,
                                                  model::Sae sae);

}  // namespace sae::checkpoint
