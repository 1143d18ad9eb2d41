#pragma once
// Which running gangs make room for one of higher priority: only of strictly lower priority, only
// when it fits then, and no more than that takes. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "server/core/placement.h"

namespace sae::server {

/// A gang that holds slots and was not told to end.
struct RunningGang {
  std::string sweep;
  std::vector<int> trials;
  std::int64_t priority = 0;
  absl::Time start;
  std::vector<Places::Take> takes;  ///< its slots on each worker
};

/// Indices into `running`; empty when no choice makes room. `gone[i]`: chosen before. Of all
/// choices: the lowest of the highest priority that has to go; then the fewest gangs; of those, the
/// ones of lowest priority, and of equal ones the latest started.
std::vector<std::size_t> ChooseVictims(const Places& places,
                                       const std::vector<RunningGang>& running,
                                       const std::vector<bool>& gone, const Need& need,
                                       std::int64_t priority);

}  // namespace sae::server
