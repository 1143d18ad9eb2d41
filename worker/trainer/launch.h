#pragma once
// Who started this process, and the group of ranks it belongs to. Not thread-safe; main's thread only.
// Errors: UNIMPLEMENTED when started by mpirun but built without MPI; INTERNAL when MPI does not start.

#include <memory>

#include "absl/time/time.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace saeloom::trainer {

/// Whether mpirun or srun started this process, as its environment says.
bool StartedByLauncher();
/// From the environment, before MPI is up: for "only one rank prints". 0 when alone.
int RankFromEnvironment();

class Launch {
 public:
  virtual ~Launch() = default;
  virtual sae::comm::Communicator& communicator() = 0;
  /// Leaves the group in order; only after all ranks met at a barrier. Without it the process must _exit.
  virtual void Finalize() = 0;
};

/// MPI under a launcher, else a group of one. `deadline` bounds each collective.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Launch>> Join(absl::Duration deadline);

/// The part that needs MPI (mpi_launch.cc, or no_mpi_launch.cc).
[[nodiscard]] absl::StatusOr<std::unique_ptr<Launch>> JoinMpi(absl::Duration deadline);

}  // namespace saeloom::trainer
