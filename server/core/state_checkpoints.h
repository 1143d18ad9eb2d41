#pragma once
// The part of State::Apply that is about checkpoints: the records of those whose files may be
// there. What a trainer removes by itself leaves the records as it does so; anything else only once
// a worker has said that no file is left. Pure functions; not thread-safe, as State.

#include <optional>

#include "sae/base/status.h"
#include "server/core/state.h"

namespace sae::server {

/// CheckpointSaved, CheckpointMarked and CheckpointsDeleted; nullopt for any other event.
std::optional<absl::Status> ApplyCheckpoint(const LogEvent& event,
                                            const config::CheckpointPolicy& policy,
                                            TrialRecord& trial);

/// An attempt goes on from `step`: what came after it is damaged or was passed over.
void RewindCheckpoints(std::int64_t step, TrialRecord& trial);

/// For State::DebugString.
std::string DebugString(const CheckpointRecord& checkpoint);

}  // namespace sae::server
