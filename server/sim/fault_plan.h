#pragma once
// Draws from the seed what people ask of a simulated world and what breaks in it. Each history
// draws which kinds of faults it has, so that some have few kinds and many of them, some all.

#include "server/sim/world_parts.h"

namespace sae::server::sim {

void PlanUsers(World& world, absl::Duration until);
/// What they change of a sweep that is there: pause, resume, stop, update, more points.
void PlanChanges(World& world, const std::string& name, absl::Duration from, absl::Duration until);
/// Once all is healed, whatever was paused is resumed, so that it can end.
void PlanResumes(World& world, absl::Duration healed);
void PlanFaults(World& world, absl::Duration until);
/// Ends all faults: links carry, daemons and a coordinator run. Dead machines stay dead.
void Heal(World& world);

}  // namespace sae::server::sim
