#pragma once
// A device's memory, streams, events and graphs, injected like Env. Backends: CUDA
// (sae/kernels/cuda_runtime.h) and the executor of the tests (tests/simt). Streams, events and
// graphs are opaque handles; they and all memory are freed before the runtime is. Work of one
// stream runs in the order of its calls; streams are ordered by events only. Every ...Async call,
// RecordEvent, WaitEvent, HostCallback and LaunchGraph enqueues and returns; memory they name,
// host memory too, stays valid and unchanged until the stream has passed them. Thread-safe, but one
// stream is used by one thread at a time. Errors: RESOURCE_EXHAUSTED (memory: needed and free
// bytes), INVALID_ARGUMENT, FAILED_PRECONDITION (not while a capture is going on), INTERNAL (the
// device failed: sticky, every later call says so).

#include <cstdint>
#include <memory>
#include <string>

#include "sae/base/status.h"

namespace sae {

struct DeviceMemoryInfo {
  std::int64_t free_bytes = 0;
  std::int64_t total_bytes = 0;
};

class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  /// Human-readable, with the hardware's name.
  virtual std::string DeviceName() const = 0;
  [[nodiscard]] virtual absl::StatusOr<DeviceMemoryInfo> MemoryInfo() = 0;
  /// Makes the device current on the calling thread: once on each thread that launches kernels.
  [[nodiscard]] virtual absl::Status BindThread() = 0;

  /// 256-byte aligned (the executor: 16), not initialised, not readable by the host. `name` (kept)
  /// appears in errors. 0 bytes give a pointer that must not be read. Not in a capture.
  [[nodiscard]] virtual absl::StatusOr<void*> Allocate(std::int64_t bytes,
                                                       const std::string& name) = 0;
  /// Waits for the device. Null is allowed.
  virtual void Free(void* memory) = 0;
  /// Host memory that copies need not stage. Not initialised.
  [[nodiscard]] virtual absl::StatusOr<void*> AllocatePinned(std::int64_t bytes) = 0;
  virtual void FreePinned(void* memory) = 0;

  /// Host to device, device to host, device to device: by what the pointers are. No overlap.
  [[nodiscard]] virtual absl::Status CopyAsync(void* to, const void* from, std::int64_t bytes,
                                               void* stream) = 0;
  /// Device memory; `value` is repeated as a byte.
  [[nodiscard]] virtual absl::Status MemsetAsync(void* to, int value, std::int64_t bytes,
                                                 void* stream) = 0;
  /// Calls function(data) on a thread of the runtime, in stream order. It must not call the
  /// runtime.
  [[nodiscard]] virtual absl::Status HostCallback(void (*function)(void*), void* data,
                                                  void* stream) = 0;

  [[nodiscard]] virtual absl::StatusOr<void*> CreateStream() = 0;
  virtual void DestroyStream(void* stream) = 0;  ///< waits for its work
  /// Waits for the stream; reports errors of what it ran.
  [[nodiscard]] virtual absl::Status Synchronize(void* stream) = 0;

  [[nodiscard]] virtual absl::StatusOr<void*> CreateEvent() = 0;
  virtual void DestroyEvent(void* event) = 0;
  [[nodiscard]] virtual absl::Status RecordEvent(void* event, void* stream) = 0;
  /// `stream` goes on when what was recorded last in `event` is done; at once if nothing was.
  [[nodiscard]] virtual absl::Status WaitEvent(void* stream, void* event) = 0;
  /// Whether what was recorded last is done. Never blocks.
  [[nodiscard]] virtual absl::StatusOr<bool> QueryEvent(void* event) = 0;
  [[nodiscard]] virtual absl::Status SynchronizeEvent(void* event) = 0;
  /// Milliseconds between two events that are done and were not recorded in a capture.
  [[nodiscard]] virtual absl::StatusOr<double> ElapsedMs(void* start, void* stop) = 0;

  /// What is enqueued on `stream` until EndCapture is recorded, not run; so is what other streams
  /// enqueue after waiting for an event recorded in it, and `stream` must wait for them again
  /// before EndCapture. No allocation, synchronisation or query meanwhile.
  [[nodiscard]] virtual absl::Status BeginCapture(void* stream) = 0;
  [[nodiscard]] virtual absl::StatusOr<void*> EndCapture(void* stream) = 0;
  /// Enqueues the whole graph. The same pointers and sizes as at the capture.
  [[nodiscard]] virtual absl::Status LaunchGraph(void* graph, void* stream) = 0;
  virtual void DestroyGraph(void* graph) = 0;
};

}  // namespace sae
