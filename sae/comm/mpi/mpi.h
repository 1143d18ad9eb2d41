#pragma once
// The MPI backend's own options; for host memory CreateMpi(deadline) of communicator.h is enough.
// All traffic is point to point and non-blocking, polled: a deadline can then be kept and the ranks
// that stay away can be named. Reductions gather and add in rank order. All MPI calls of the
// process go through one lock, so Abort may come from any thread under MPI_THREAD_SERIALIZED;
// nobody else may call MPI meanwhile. Abort sends a note to every peer, which a peer finds while it
// waits or at its next operation. MPI_Abort is never called: the launcher ends the others when the
// process ends badly. After a failed operation a peer that comes late may still read (never write)
// this rank's input buffer, and MPI_Finalize may not return: end the process.

#include <cstdint>

#include "absl/time/time.h"

#include "sae/base/device_runtime.h"
#include "sae/comm/communicator.h"

namespace sae::comm {

struct MpiOptions {
  absl::Duration deadline = absl::Minutes(5);
  /// Longer payloads are cut into messages of this size (MPI counts are 32 bit). A multiple of 8.
  std::int64_t max_message_bytes = std::int64_t{1} << 30;
  /// With a runtime (borrowed) buffers are its device memory, staged in stream order: staging.h.
  DeviceRuntime* runtime = nullptr;
  void* stream = nullptr;
};

[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateMpi(const MpiOptions& options);

}  // namespace sae::comm
