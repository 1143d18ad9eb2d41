#pragma once
// Workers as the coordinator sees them now: soft state, rebuilt as they register. Leases are
// deadlines of Clock::SinceBoot. Plain data with a few questions; not thread-safe.

#include <map>
#include <set>
#include <string>

#include "server/core/messages.h"

namespace sae::server {

struct WorkerEntry {
  std::string id;
  std::string incarnation;
  std::string boot_id;
  absl::Duration registration_sent;  ///< as RegisterRequest::sent
  std::string address;
  std::string runs_directory;
  std::string runs_id;
  int slots = 0;
  int gpus = 0;
  std::int64_t memory_bytes = 0;  ///< 0 = unknown
  std::string rack;               ///< "" = unknown
  std::string peer_address;       ///< "" = in no gang over several workers
  std::string mpi_host;
  std::string version;
  /// Registered with this coordinator and within its lease.
  bool ready = false;
  /// Its lease ends then; after it its attempts count as ended. Set also for a worker that the log
  /// names and that has not come back yet.
  absl::Duration lease_until;
  bool lease_open = false;
  absl::Time last_heartbeat;
  std::int64_t heartbeat = 0;
  /// Attempts it was told to end: slots are still theirs until it says they are gone.
  struct Draining {
    int slots = 0;
    std::string gang;        ///< as GangOf
    bool release = false;    ///< its part of a gang over several workers: Release is sent
    bool stop = false;       ///< it may have been started here: Stop is sent, too
    int beats = 0;         ///< heartbeats that came since
  };
  std::map<AttemptKey, Draining> draining;
  int reported_free = 0;
  /// Failures with checkpoints up to this status_id of its incarnation were told to observers.
  std::int64_t checkpoint_failures_told = 0;

  int DrainingSlots() const {
    int slots_held = 0;
    std::set<std::string> gangs;
    for (const auto& [key, held] : draining)
      slots_held += gangs.insert(held.gang).second ? held.slots : 0;
    return slots_held;
  }
};

using WorkerTable = std::map<std::string, WorkerEntry>;

}  // namespace sae::server
