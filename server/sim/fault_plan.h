#pragma once
// Draws from the seed what people ask of a simulated world and what breaks in it. Each history
// draws which kinds of faults it has, so that some have few kinds and many of them, some all.

#include "server/sim/world_parts.h"

namespace sae::server::sim {

void PlanUsers(World& world, absl::Duration until);
void PlanFaults(World& world, absl::Duration until);
/// Ends all faults: links carry, daemons and a coordinator run. Dead machines stay dead.
void Heal(World& world);

}  // namespace sae::server::sim
