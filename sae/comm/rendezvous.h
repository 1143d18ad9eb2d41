#pragma once
// How ranks find each other before a transport between devices exists, and hear of failures that it
// does not carry: blobs by key (NCCL's unique id), an abort note, and a roll call after a deadline.
// All ranks publish or fetch the same keys in the same order, from one thread each; Abort and Check
// may come from any thread. Errors: DEADLINE_EXCEEDED when nobody published or a rank does not
// answer, ABORTED after Abort, INVALID_ARGUMENT for a key or token that cannot be a file's name,
// and what Env says.

#include <memory>
#include <string>

#include "absl/time/time.h"

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm {

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Each key once, by one rank; all others fetch it.
  [[nodiscard]] virtual absl::Status Publish(const std::string& key, const std::string& blob) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::string> Fetch(const std::string& key, int publisher,
                                                          absl::Duration deadline) = 0;

  /// By a rank that lost patience or lost its peers, and by those that find it Called. Waits at
  /// most `grace` for the others; DEADLINE_EXCEEDED names those that did not come, ABORTED wins.
  /// Each key once.
  [[nodiscard]] virtual absl::Status RollCall(const std::string& key, absl::Duration grace) = 0;
  /// Whether a rank has begun the roll call. Does not wait; costs what Check does. From any thread.
  [[nodiscard]] virtual bool Called(const std::string& key) = 0;
  /// Tells all ranks. Sticky; reaches the parts too.
  virtual void Abort(const std::string& reason) = 0;
  /// OK, or ABORTED with the reason. Does not wait; about one look into the file system.
  [[nodiscard]] virtual absl::Status Check() = 0;

  /// For a part of the group, as Communicator::Split makes it; all ranks call it. `rank` and `size`
  /// are this rank's place in the part.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<Rendezvous>> Split(int color, int key,
                                                                          int rank, int size) = 0;
};

/// Over a group of its own, split off `communicator` (MPI's, say): all ranks call it. Deadlines are
/// those of the communicator, and so is the grace of a roll call; only the first one is Called.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Rendezvous>> CreateRendezvous(
    Communicator& communicator);

struct FileRendezvousOptions {
  Env* env = nullptr;      ///< borrowed
  Clock* clock = nullptr;  ///< borrowed
  std::string folder;      ///< that all ranks see
  std::string attempt;  ///< new at each start of the ranks, the same on all: nothing else is read
  int rank = 0;
  int size = 1;
};

/// Over files folder/attempt/KEY, each written whole and renamed into place. Nobody removes them.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Rendezvous>> CreateFileRendezvous(
    const FileRendezvousOptions& options);

}  // namespace sae::comm
