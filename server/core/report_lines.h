#pragma once
// Lines of events.jsonl into events of the log. Pure.

#include <string>
#include <vector>

#include "server/core/state.h"

namespace sae::server {

/// Events for `lines`, the first of which has seq `first_seq`; `trial`'s attempt `attempt` wrote
/// them. Of an attempt that is not the live one only points and checkpoints count, up to where it
/// is superseded. A line that is not an event becomes a Notice, so that one bad line cannot block a
/// trial for ever. Errors: INVALID_ARGUMENT when a line says another seq than its place.
[[nodiscard]] absl::StatusOr<std::vector<Body>> EventsOfLines(
    const TrialRecord& trial, int attempt, std::int64_t first_seq,
    const std::vector<std::string>& lines);

}  // namespace sae::server
