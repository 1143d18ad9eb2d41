#pragma once
// For tests that save an engine's state at one number of ranks and go on at another.

#include <string>
#include <vector>

#include "sae/checkpoint/checkpoint.h"
#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train::testing {

inline constexpr std::int64_t kSavedStep = 9;
inline constexpr std::int64_t kLastStep = 18;

inline config::TrialConfig CheckpointConfig(const RunVariant& variant, const char* reduction,
                                            std::int64_t ranks) {
  config::TrialConfig c = ConfigOf(variant, ranks);
  c.train.reduction = reduction;
  return c;
}

/// What a run leaves behind: its rank's part of the state at the end, and the selection of step
/// kSavedStep (of all ranks).
struct CheckpointRun {
  SavedState end;
  Selection selection;
};

/// The steps up to kLastStep on this communicator. `save`: from the start, with a checkpoint in
/// `folder` before step kSavedStep; else from the checkpoint there.
inline absl::StatusOr<CheckpointRun> RunOverCheckpoint(const RunVariant& variant,
                                                       const char* reduction,
                                                       comm::Communicator& communicator,
                                                       const std::string& folder, bool save) {
  const config::TrialConfig config = CheckpointConfig(variant, reduction, communicator.size());
  const auto batches = BatchesOf(config, variant.d_out, kLastStep);
  ThreadPool pool(1);
  SAE_ASSIGN_OR_RETURN(
      auto engine, CreateEngine<float>(config, kRunWidth, variant.d_out, communicator, pool));
  if (save) {
    SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
  } else {
    SAE_ASSIGN_OR_RETURN(const checkpoint::Latest latest,
                         checkpoint::FindLatest(RealEnv(), communicator, folder));
    SAE_RETURN_IF_ERROR(checkpoint::LoadCheckpoint(RealEnv(), communicator,
                                                   folder + "/" + latest.name, latest.manifest,
                                                   engine->state()));
    SAE_RETURN_IF_ERROR(engine->StateLoaded());
  }
  CheckpointRun out;
  for (std::int64_t t = engine->step(); t < kLastStep; ++t) {
    if (save && t == kSavedStep) {
      checkpoint::Info info;
      info.step = t;
      info.d = kRunWidth;
      info.config = config;
      SAE_RETURN_IF_ERROR(
          checkpoint::SaveCheckpoint(RealEnv(), communicator, folder, engine->state(), info)
              .status());
    }
    SAE_RETURN_IF_ERROR(engine->Step(batches[static_cast<std::size_t>(t)]));
    if (t != kSavedStep) continue;
    SAE_ASSIGN_OR_RETURN(out.selection, engine->LastSelection());
  }
  Save(engine->state(), &out.end);
  return out;
}

}  // namespace sae::train::testing
