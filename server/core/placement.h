#pragma once
// The workers during one scheduling cycle: where a gang fits, what a waiting one keeps for itself,
// and why one does not fit. A gang is all or nothing on one worker; where no worker that may be
// used is large enough, on several of one runs folder (and of one rack, when asked). Not
// thread-safe.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/core/pending_queue.h"

namespace sae::server {

struct SchedulableWorker {
  std::string id;
  std::string runs_id;
  int slots = 0;
  int free = 0;
  std::int64_t memory = 0;       ///< bytes for all its gangs; 0 = unknown
  std::int64_t memory_used = 0;  ///< planned, by what holds its slots
  int coming = 0;                ///< slots of attempts that were told to end
  std::string rack;              ///< "" = unknown
  bool peers = false;            ///< may be in a gang over several workers
  std::string cordon;            ///< why nothing may start there; "" = it may
};

/// Whether a gang may be cut, and along what.
enum class Topology { kAny, kSameNode, kSameRack };
/// kAny for any other word.
Topology ParseTopology(const std::string& word);

/// What a gang asks for.
struct Need {
  int slots = 1;
  std::int64_t memory = 0;  ///< with what its ranks cost beyond the trial; 0 = unknown
  std::string runs_id;      ///< "" = any
  std::string runs_directory;
  Topology topology = Topology::kAny;
};

enum class WaitReason {
  kNone,
  kNoWorker,         ///< no worker is registered
  kTooLarge,         ///< no worker has as many slots, nor have several that may share it
  kSlotsBusy,        ///< waits for free slots
  kCheckpoint,       ///< no worker shares the runs folder of its checkpoint
  kCheckpointSlots,  ///< those that share it are too small
  kConcurrency,      ///< max_concurrent of its sweep
  kBackOff,          ///< retry later
  kMemory,           ///< slots are free, memory is not
  kQuota,            ///< its queue is at its quota
  kCordoned,         ///< all workers that are large enough are cordoned
  kPaused,           ///< its sweep is paused
  kVacating,         ///< slots are being given up for it
};
/// "too_large", ...: the label of a metric.
std::string ToString(WaitReason reason);
/// Waiting for others to end does not help.
bool NothingCanRun(WaitReason reason);

struct Wait {
  WaitReason reason = WaitReason::kNone;
  std::string text;  ///< for people: names what is missing
};

/// "1 slot", "4 slots".
std::string SlotsText(std::int64_t n);

class Places {
 public:
  struct Take {
    std::size_t worker = 0;
    int slots = 0;
    bool operator==(const Take&) const = default;
  };

  explicit Places(std::vector<SchedulableWorker> workers) : workers_(std::move(workers)) {}

  const std::vector<SchedulableWorker>& workers() const { return workers_; }

  /// Where it fits now, the head first; empty = nowhere. Of one worker: not one that it failed on,
  /// then its checkpoint's own, then the one that it fills best, so that large gaps stay for large
  /// gangs. Of several: as few as possible.
  std::vector<Take> Find(const Need& need, const PendingQueue::Hints* hints) const;
  /// `memory`: planned bytes of all of it.
  void Occupy(const std::vector<Take>& takes, int slots, std::int64_t memory);

  /// Keeps slots that are free or being given up for a gang that waits; they are enough for it.
  /// False when there are not as many.
  bool ClaimComing(const Need& need);
  /// Keeps what is free where it could once fit, so that smaller ones behind it cannot starve it.
  /// False when there is nothing left to keep.
  bool Reserve(const Need& need, bool whole_worker);
  /// `slots` of it will be given up.
  void Vacate(std::size_t worker, int slots) { workers_[worker].coming += slots; }

  Wait WhyNot(const Need& need) const;

  /// Sets of workers any of which might hold it, together: each worker that is large enough alone,
  /// else those that may be in one gang.
  std::vector<std::vector<std::size_t>> Candidates(const Need& need) const;
  bool MayHold(const SchedulableWorker& worker, const Need& need) const {
    return need.runs_id.empty() || worker.runs_id == need.runs_id;
  }

 private:
  bool OneIsEnough(const Need& need) const;
  int FreeFor(const SchedulableWorker& worker, const Need& need) const;
  std::vector<Take> FindOne(const Need& need, const PendingQueue::Hints* hints) const;
  std::vector<Take> FindSeveral(const Need& need, const PendingQueue::Hints* hints) const;
  std::vector<std::vector<std::size_t>> Groups(const Need& need, bool cordoned) const;
  Wait WhyBusy(const Need& need) const;
  Wait WhyTooLarge(const Need& need, int largest) const;

  std::vector<SchedulableWorker> workers_;
};

}  // namespace sae::server
