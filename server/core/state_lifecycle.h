#pragma once
// The part of State::Apply that is about what people and the search ask of sweeps and trials: to
// stop, pause, resume and change them, and to add points. Internal to the state. Errors: INTERNAL
// for an event that the state does not allow; the records are then as before.

#include <optional>

#include "server/core/state.h"

namespace sae::server {

absl::Status EventBug(const LogEvent& event, const std::string& why);
/// Keeps counts, pending and live in step.
void SetState(SweepRecord& sweep, TrialRecord& trial, TrialState to);
/// A PENDING trial after the last one.
void AddTrial(SweepRecord& sweep, std::vector<std::pair<std::string, std::string>> assignments,
              absl::Time now);

/// nullopt: an event of another kind. The event is about the sweep as a whole.
std::optional<absl::Status> ApplySweepVerb(const LogEvent& event, SweepRecord& sweep);
/// nullopt: an event of another kind.
std::optional<absl::Status> ApplyTrialVerb(const LogEvent& event, SweepRecord& sweep,
                                           TrialRecord& trial);

}  // namespace sae::server
