#pragma once
// What happened in histories, counted by name: so that it can be seen, and tested, that a simulated
// world holds what it is said to hold. Pure.

#include <cstdint>
#include <map>
#include <string>

#include "server/sim/history.h"

namespace sae::server::sim {

using Statistics = std::map<std::string, std::int64_t>;

/// Adds a history's: "event attempt_prepared", "ended lost NODE_LOST", "search promote", "sweep
/// hyperband", "call pause", "quota filled", "fault cut link", ...
void Count(const History& history, Statistics& statistics);

}  // namespace sae::server::sim
