#include "server/sim/sim_store.h"

namespace sae::server::sim {

std::string ToString(CommitFault fault) {
  switch (fault) {
    case CommitFault::kNone:
      return "well";
    case CommitFault::kFails:
      return "fails";
    case CommitFault::kUnknown:
      return "unknown";
    case CommitFault::kDiesBefore:
      return "dies before";
    case CommitFault::kDiesAfter:
      return "dies after";
  }
  return "";
}

absl::Status SimStore::Commit(const Transaction& transaction) {
  if (dead_) return absl::UnavailableError("the process has ended");
  const CommitFault fault = next_fault_();
  if (fault == CommitFault::kFails) return absl::ResourceExhaustedError("injected: disk full");
  if (fault == CommitFault::kDiesBefore) {
    dead_ = true;
    return absl::UnavailableError("injected: killed before the commit");
  }
  const absl::Status status = MemoryStore::Commit(transaction);
  disk_.committed.resize(disk_.contents->log.size(), queue_.Now());
  if (fault == CommitFault::kDiesAfter) {
    dead_ = true;
    return absl::UnavailableError("injected: killed after the commit");
  }
  if (fault == CommitFault::kUnknown && status.ok())
    return absl::UnavailableError("injected: the outcome is unknown");
  return status;
}

}  // namespace sae::server::sim
