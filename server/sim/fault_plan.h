#pragma once
// Draws from the seed what people ask of a simulated world and what breaks in it. Each history
// draws which kinds of faults it has, so that some have few kinds and many of them, some all.

#include "server/sim/world_parts.h"

namespace sae::server::sim {

void PlanUsers(World& world, absl::Duration until);
/// Queues with quotas, and workers that are cordoned, drained and uncordoned.
void PlanFleet(World& world, absl::Duration until);
/// What they change of a sweep that is there: pause, resume, stop, update, more points.
void PlanChanges(World& world, const std::string& name, absl::Duration from, absl::Duration until);
/// Once all is healed, whatever was paused is resumed, so that it can end.
void PlanResumes(World& world, absl::Duration healed);

/// Most ranks of a trial; no queue has a smaller quota once all is healed.
inline constexpr std::int64_t kMostRanks = 5;
config::SweepSpec DrawSpec(World& world, const std::string& name);
std::string RequestId(World& world);
void Submit(World& world, const config::SweepSpec& spec, const std::string& request_id);
void SubmitPrepared(World& world, const PreparedSweep& prepared, const std::string& request_id);

void PlanFaults(World& world, absl::Duration until);
/// Ends all faults: links carry, daemons and a coordinator run. Dead machines stay dead.
void Heal(World& world);

}  // namespace sae::server::sim
