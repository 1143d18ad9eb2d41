#pragma once
// One rank's end of an MPI group: exchanges of bytes with a deadline, and abort. See mpi.h for the
// rules. One thread calls Exchange and Split; Abort may come from any. Owns its two communicators.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <mpi.h>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "sae/comm/mpi/mpi.h"

namespace sae::comm {

/// What goes to, and what is expected from, one peer; null or 0 bytes: nothing, no message at all,
/// unless `sync` asks for an empty one.
struct Transfer {
  const void* send = nullptr;
  std::int64_t send_bytes = 0;
  void* receive = nullptr;
  std::int64_t receive_bytes = 0;
  bool sync = false;
};

class Endpoint : public std::enable_shared_from_this<Endpoint> {
 public:
  /// Duplicates `parent_comm` twice (data and control), within the deadline. `parent` passes aborts
  /// down, and lives as long as its parts.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Create(MPI_Comm parent_comm,
                                                          const MpiOptions& options,
                                                          std::shared_ptr<Mutex> mpi_lock,
                                                          std::shared_ptr<Endpoint> parent);
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// transfers[r] for every rank r; that of this rank itself is a copy.
  [[nodiscard]] absl::Status Exchange(const char* operation,
                                      const std::vector<Transfer>& transfers);
  [[nodiscard]] absl::StatusOr<std::unique_ptr<Endpoint>> Split(int color, int key);
  void Abort(const std::string& reason);
  /// The group's failure, or an ancestor's, as far as it is known here.
  [[nodiscard]] absl::Status CheckNow();

 private:
  struct Pending {
    std::vector<MPI_Request> requests;
    std::vector<MPI_Status> statuses;
    std::vector<int> peers;     ///< of each request
    std::vector<int> receives;  ///< bytes expected; -1 for a send
  };

  Endpoint(const MpiOptions& options, std::shared_ptr<Mutex> mpi_lock,
           std::shared_ptr<Endpoint> parent)
      : options_(options), mpi_lock_(std::move(mpi_lock)), parent_(std::move(parent)) {}

  absl::Status Post(const char* operation, const std::vector<Transfer>& transfers,
                    Pending* pending);
  absl::Status Wait(const char* operation, Pending* pending);
  absl::Status CheckSizes(const char* operation, const Pending& pending);
  /// Ranks, as "1, 3": whose messages are missing, and who has not taken ours.
  struct Absent {
    std::string silent;
    std::string blocked;
  };
  /// Withdraws what can be withdrawn.
  Absent Withdraw(Pending* pending);
  /// This group's failure or an ancestor's, looking for notes that have come in. Needs the lock.
  absl::Status Check() ABSL_EXCLUSIVE_LOCKS_REQUIRED(*mpi_lock_);
  void Fail(absl::Status status);
  absl::Status failure();

  const MpiOptions options_;
  const std::shared_ptr<Mutex> mpi_lock_;  ///< around every MPI call of the process
  const std::shared_ptr<Endpoint> parent_;
  MPI_Comm data_ = MPI_COMM_NULL;
  MPI_Comm control_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int sequence_ = 0;
  Pending pending_;  // of the running exchange; kept for its memory

  Mutex state_;
  absl::Status failed_ ABSL_GUARDED_BY(state_);
};

}  // namespace sae::comm
