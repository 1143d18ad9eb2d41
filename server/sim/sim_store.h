#pragma once
// One coordinator's way to the disk that all coordinators share: a MemoryStore (which fences old
// epochs) whose commits fail, end in the middle, or leave their outcome unknown, as the world says.
// Not thread-safe.

#include <memory>
#include <string>
#include <vector>

#include "server/sim/event_queue.h"
#include "server/store/memory_store.h"

namespace sae::server::sim {

/// The disk, and when what on it became durable.
struct SharedDisk {
  std::shared_ptr<MemoryStore::Disk> contents =
      std::make_shared<MemoryStore::Disk>();  // shared with each coordinator's store
  std::vector<absl::Duration> committed;      ///< of each event of contents->log
};

enum class CommitFault {
  kNone,
  kFails,       ///< nothing was written, and an error says so
  kUnknown,     ///< all was written, and an error is returned
  kDiesBefore,  ///< the process ends before anything is durable
  kDiesAfter,   ///< the process ends when all is durable, before anybody hears of it
};

/// "fails", "unknown", ...
std::string ToString(CommitFault fault);

class SimStore final : public MemoryStore {
 public:
  SimStore(SharedDisk& disk, const EventQueue& queue, std::function<CommitFault()> next_fault)
      : MemoryStore(disk.contents),
        disk_(disk),
        queue_(queue),
        next_fault_(std::move(next_fault)) {}

  /// A fault ended the process: whatever it does from here on, nobody sees.
  bool dead() const { return dead_; }

  absl::Status Commit(const Transaction& transaction) override;

 private:
  SharedDisk& disk_;
  const EventQueue& queue_;
  const std::function<CommitFault()> next_fault_;
  bool dead_ = false;
};

}  // namespace sae::server::sim
