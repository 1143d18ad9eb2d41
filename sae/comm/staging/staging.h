#pragma once
// A host communicator for device memory: operations copy into pinned memory, run on the host and
// copy back, all in stream order, so that several ranks can share one device, and so that what is
// written for NCCL runs without it. The host's operations run on the stream's callbacks. Blocking,
// enqueue-only and captured as nccl.h says; the first use of a size allocates pinned memory, and a
// capture must not be the first. The pinned memory grows to the largest payload, in and out. One
// stream at a time: SetStream waits for the one before. Destroy graphs that hold operations first;
// the destructor waits for the stream.

#include <memory>

#include "absl/time/time.h"

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm {

struct StagingOptions {
  DeviceRuntime* runtime = nullptr;  ///< borrowed
  void* stream = nullptr;
  /// How long to wait for the stream, whatever it still has to do; more than the host's own
  /// deadline.
  absl::Duration deadline = absl::Minutes(10);
};

[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> StageThroughHost(
    std::unique_ptr<Communicator> host, const StagingOptions& options);
/// `host` is borrowed, and used by nobody else.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> StageThroughHost(
    Communicator& host, const StagingOptions& options);

}  // namespace sae::comm
