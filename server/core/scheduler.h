#pragma once
// Which pending trials start where, and which running ones give way. Sweeps of higher priority go
// first; among equal ones the queue with the fewest slots in use for its weight, then the owner
// with the fewest in that queue, then the sweep submitted first; in a sweep the smallest order,
// then index. A queue never uses more than its quota. A gang that could run but has to wait keeps
// slots for itself, so that smaller ones behind it cannot starve it. Trials of a sweep that can
// share a stream may share a gang and its slots: as many as the sweep says; of their own accord
// only as many as it takes to have all of them running on all slots of the workers, where their
// memory is known to fit the share of the gang's slots in the worker's. The time of a cycle depends
// on sweeps, kinds of trials and workers, not on how many trials wait. Pure functions of their
// arguments.

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/core/pending_queue.h"
#include "server/core/placement.h"
#include "server/core/preemption.h"

namespace sae::server {

/// Most trials of a gang of its own accord: more would make each wait long for little.
inline constexpr std::int64_t kAutoPacked = 8;
inline constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// What a sweep with pending trials asks for.
struct SweepTerms {
  std::string name;
  std::int64_t priority = 0;
  std::string queue;
  std::string owner;
  Topology topology = Topology::kAny;
  std::int64_t room = kNoLimit;     ///< how many more of its trials may start now
  std::int64_t max_concurrent = 0;  ///< what set the room, for people
  bool paused = false;
};
struct QueueTerms {
  std::int64_t quota = 0;  ///< slots; 0 = no limit
  double weight = 1;
  std::int64_t used = 0;                       ///< slots
  std::map<std::string, std::int64_t> owners;  ///< slots in use by each
};

struct ScheduleInput {
  const PendingQueue& pending;
  std::vector<SweepTerms> sweeps;  ///< in order of submission
  std::map<std::string, QueueTerms> queues;
  std::vector<SchedulableWorker> workers;
  std::vector<RunningGang> running;  ///< who may be preempted
};

struct Placement {
  std::size_t sweep = 0;  ///< index into the sweeps
  int trial = 0;
  int leader = 0;                   ///< the trial whose gang it is in
  bool shared = false;              ///< the gang has several trials
  std::vector<Places::Take> takes;  ///< the head first
};
struct Eviction {
  std::size_t gang = 0;   ///< index into `running`
  std::size_t sweep = 0;  ///< for whom
  int trial = 0;
};
/// Why the trials of one batch wait.
struct BatchWait {
  std::size_t sweep = 0;
  Shape shape;
  std::int64_t trials = 0;
  Wait wait;
};
struct Schedule {
  std::vector<Placement> placements;
  std::vector<Eviction> evictions;
  std::vector<BatchWait> waits;  ///< of all others
};

Schedule Plan(const ScheduleInput& input);

}  // namespace sae::server
