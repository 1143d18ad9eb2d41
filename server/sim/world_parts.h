#pragma once
// The inside of a simulated world, for what plans its users and its faults.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "server/sim/client.h"
#include "server/sim/world.h"

namespace sae::server::sim {

struct World {
  explicit World(const WorldOptions& options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void StartCoordinator();
  void RunUntil(absl::Duration end, const std::function<bool()>& done);
  /// No sweep waits for anything.
  bool AllEnded() const;
  void Trace(const std::string& what) const {
    if (surroundings.trace) surroundings.trace(what);
  }

  CoreOptions core_options;
  EventQueue queue;
  Random random;
  Network network;
  History history;
  Surroundings surroundings;
  SharedDisk disk;
  std::shared_ptr<CoordinatorProcess> coordinator;  // the newest; shared with messages
  std::vector<std::unique_ptr<Machine>> machines;
  Machine* may_die = nullptr;  ///< for good; the others can do its work
  Clients clients;
  /// What happens to the next commits, of whichever coordinator.
  std::deque<CommitFault> commit_faults;
  Breaches breaches;  ///< seen while it ran
  std::int64_t events = 0;
  int coordinators = 0;

 private:
  void AddMachine(const std::string& id, int slots, const std::shared_ptr<RunsDisk>& runs,
                  bool peers);
  CommitFault NextCommitFault();
  void CheckNow();
};

}  // namespace sae::server::sim
