#pragma once
// A whole service under simulation, from a seed: which sweeps are submitted, what people ask, what
// breaks and when. The coordinator is the real core; everything around it is simulated. After a
// while the faults end; then everything has to end well. The same seed gives the same history,
// event for event. Not thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/sim/checker.h"
#include "server/sim/client.h"

namespace sae::server::sim {

struct WorldOptions {
  std::uint64_t seed = 1;
  absl::Duration faults = absl::Seconds(90);    ///< how long things break
  absl::Duration settle = absl::Seconds(1200);  ///< how long all may take to end after that
  std::function<void(const std::string&)> trace;
  Planting planted;  ///< a mistake that is to be found
};

struct Outcome {
  Breaches breaches;
  History history;
  std::int64_t events = 0;  ///< of the simulation
  absl::Duration took;      ///< simulated
  int attempts = 0;
  int coordinators = 0;  ///< processes of it
};

/// Runs one history and judges it.
Outcome Simulate(const WorldOptions& options);

}  // namespace sae::server::sim
