#pragma once
// A trial that is told to save and end has its sweep's gracePeriod for it. Where its checkpoints
// take too long for that, the owner of the sweep should know before the first preemption. Pure; not
// thread-safe.

#include <string>
#include <vector>

#include "server/core/state.h"

namespace sae::server {

/// What is wrong with this gracePeriod where a checkpoint took `save_seconds`; "" = it is long
/// enough (for one and a half of them: the step under way ends first), or the workers' own (0).
std::string ShortGrace(const config::SweepSpec& spec, double save_seconds);

/// Puts a notice behind the first checkpoint of a sweep that shows that its gracePeriod is short;
/// `state` is as it was before the events.
void AddGraceNotices(const State& state, std::vector<LogEvent>& events);

}  // namespace sae::server
