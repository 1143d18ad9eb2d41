#pragma once
// Collectives between devices through NCCL. Buffers are memory of the DeviceRuntime, operations go
// into the communicator's stream. Blocking (the default): a call returns when the stream has done
// it. Enqueue-only (SetEnqueueOnly, for graph capture): a call returns when NCCL has taken it in,
// and Synchronize waits. Both keep the deadline: a communicator that is late, fails or is told of
// an abort is aborted (ncclCommAbort), its stream waited for, and it stays failed. NCCL gives
// memory back only when the graphs that hold its operations are destroyed: do that before the
// communicator goes, also after a failure; the destructor waits ten seconds for it. Several
// communicators (selection, reconstruction, prefetch): by Split, each with a stream of its own
// through SetStream. All ranks issue operations of all of them in the same order. One thread calls
// operations; Abort and Check may come from any. NCCL names no absent rank and carries no abort;
// the rendezvous does both, also for a rank that NCCL has lost: that is UNAVAILABLE only when all
// are there. It does not compare calls: different ones end by the deadline or by an
// error. Sums are in NCCL's order, not in rank order. Errors: as communicator.h says; INTERNAL for
// failures of the device.

#include <memory>
#include <string>

#include "absl/time/time.h"

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"
#include "sae/comm/rendezvous.h"

namespace sae::comm {

struct NcclOptions {
  int rank = 0;
  int size = 1;
  Rendezvous* rendezvous = nullptr;  ///< borrowed; outlives the communicator and its parts
  DeviceRuntime* runtime = nullptr;  ///< borrowed; outlives them too. Its device is this rank's
  void* stream = nullptr;            ///< of `runtime`; outlives them, as any given to SetStream
  absl::Duration deadline = absl::Minutes(5);  ///< of each operation
  absl::Duration start = absl::Minutes(5);     ///< the same for the start
  absl::Duration roll_call =
      absl::Seconds(5);        ///< after a deadline or a lost peer: how long to wait for the names
  std::string name = "world";  ///< different for each communicator over one rendezvous
};

/// Whether this build has it.
bool HaveNccl();

/// All ranks call it. UNIMPLEMENTED, naming the build option, when built without NCCL.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateNccl(const NcclOptions& options);

}  // namespace sae::comm
