#pragma once
// Which pending trials start where. Gangs are all or nothing on one worker; first come, first
// served by sweep, then index. A gang that some worker could hold but not yet reserves that
// worker's slots, so that smaller ones behind it cannot starve it. A trial with a checkpoint goes
// only where its runs folder is. Trials of a sweep that can share a stream may share a gang and its
// slots: as many as the sweep says; of their own accord only as many as it takes to have all of
// them running on all slots of the workers, where their memory is known to fit the share of the
// gang's slots in the worker's. Pure functions of their arguments.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sae::server {

struct SchedulableWorker {
  std::string id;
  std::string runs_id;
  int slots = 0;
  int free = 0;
  std::int64_t memory = 0;  ///< bytes for all its slots; 0 = unknown
};

struct SchedulableTrial {
  std::string sweep;
  int index = 0;
  int slots = 1;
  std::string runs_id;         ///< of its checkpoint; "" = fresh, anywhere
  std::string runs_directory;  ///< of its checkpoint, for people
  std::string avoid;     ///< worker of its last, failed attempt: taken only when no other fits
  std::string prefer;    ///< worker of its checkpoint: its page cache is warm
  bool delayed = false;  ///< its back-off is not over
  std::string stream;    ///< trials of a sweep that can share a gang have the same; "" = none
  std::int64_t pack = 1; ///< most trials of its gang; 0 = auto
  std::int64_t memory = 0;  ///< bytes of all its ranks; 0 = unknown
};

/// Most trials of a gang of its own accord: more would make each wait long for little.
inline constexpr std::int64_t kAutoPacked = 8;

enum class WaitReason {
  kNone,
  kNoWorker,         ///< no worker is registered
  kTooLarge,         ///< no worker has as many slots
  kSlotsBusy,        ///< waits for free slots
  kCheckpoint,       ///< no worker shares the runs folder of its checkpoint
  kCheckpointSlots,  ///< those that share it are too small
  kConcurrency,      ///< max_concurrent of its sweep
  kBackOff,          ///< retry later
};
/// "too_large", ...: the label of a metric.
std::string ToString(WaitReason reason);

struct Placement {
  std::size_t trial = 0;   ///< index into the trials
  std::size_t worker = 0;  ///< index into the workers
  std::size_t gang = 0;    ///< the trial whose gang it is in: the first one's index
};
struct Wait {
  std::size_t trial = 0;
  WaitReason reason = WaitReason::kNone;
  int largest = 0;  ///< kTooLarge, kCheckpointSlots: slots of the largest worker
};
struct Schedule {
  std::vector<Placement> placements;
  std::vector<Wait> waits;  ///< every other trial
};

/// `trials` in the order of the queue. `rooms`: how many more trials of a sweep may start now; a
/// sweep that is not there has no limit.
Schedule Plan(const std::vector<SchedulableTrial>& trials, std::vector<SchedulableWorker> workers,
              std::map<std::string, std::int64_t> rooms);

}  // namespace sae::server
