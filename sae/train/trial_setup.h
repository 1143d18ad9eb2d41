#pragma once
// What RunTrial and RunGang do to begin a trial: the store, its checks, and the run itself on a stream. Stateless.
// Errors: those of run_trial.h.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "sae/base/parallel.h"
#include "sae/data/store_reader.h"
#include "sae/train/engine/engine_gang.h"
#include "sae/train/run_trial.h"

namespace sae::train {

using StorePointer = std::shared_ptr<const data::ActivationStore>;

[[nodiscard]] absl::StatusOr<StorePointer> OpenStore(const config::RunConfig& config);
data::RowKind RowKindOf(const config::TrialConfig& trial);

/// What a trial reads from. `gang` and `read_heldout` are set where others read as well.
struct TrialStream {
  data::ActivationSource* source = nullptr;
  EngineGang* gang = nullptr;
  std::function<absl::Status(std::int64_t first, std::span<float> rows)> read_heldout;
  std::string label;
};

/// Collective. Checks the trial against the store and the disk, builds its engine and trains it.
[[nodiscard]] absl::StatusOr<Outcome> TrainOnStream(const config::RunConfig& config, const StorePointer& store,
                                                    const RunTrialParts& parts, ThreadPool& pool,
                                                    const TrialStream& stream);

}  // namespace sae::train
