#pragma once
// A DeviceRuntime whose device is host memory: a stream is a queue with a thread of its own, an
// event a number that the queue reaches, a graph the recorded work of one stream. What is told from
// what it does: copies of memory that was not allocated here, calls that a capture forbids.
// Memory::kPlain: device memory is ordinary memory, as the executor's is. kHidden: the addresses
// that Allocate gives are not readable or writable at all, and only copies reach what is behind
// them: code that hands device memory to the host's functions dies at once. Thread-safe. All
// streams are destroyed before it is.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/base/mutex.h"

namespace sae::testing {

class HostRuntime final : public DeviceRuntime {
 public:
  enum class Memory { kPlain, kHidden };
  explicit HostRuntime(Memory memory = Memory::kPlain);
  ~HostRuntime() override;

  std::string DeviceName() const override { return "host memory"; }
  absl::StatusOr<DeviceMemoryInfo> MemoryInfo() override;
  absl::Status BindThread() override { return absl::OkStatus(); }
  absl::StatusOr<void*> Allocate(std::int64_t bytes, const std::string& name) override;
  void Free(void* memory) override;
  absl::StatusOr<void*> AllocatePinned(std::int64_t bytes) override;
  void FreePinned(void* memory) override;
  absl::Status CopyAsync(void* to, const void* from, std::int64_t bytes, void* stream) override;
  absl::Status MemsetAsync(void* to, int value, std::int64_t bytes, void* stream) override;
  absl::Status HostCallback(void (*function)(void*), void* data, void* stream) override;
  absl::StatusOr<void*> CreateStream() override;
  void DestroyStream(void* stream) override;
  absl::Status Synchronize(void* stream) override;
  absl::StatusOr<void*> CreateEvent() override;
  void DestroyEvent(void* event) override;
  absl::Status RecordEvent(void* event, void* stream) override;
  absl::Status WaitEvent(void* stream, void* event) override;
  absl::StatusOr<bool> QueryEvent(void* event) override;
  absl::Status SynchronizeEvent(void* event) override;
  absl::StatusOr<double> ElapsedMs(void* start, void* stop) override;
  absl::Status BeginCapture(void* stream) override;
  absl::StatusOr<void*> EndCapture(void* stream) override;
  absl::Status LaunchGraph(void* graph, void* stream) override;
  void DestroyGraph(void* graph) override;

  /// Allocations, pinned ones, streams, events and graphs that are still there.
  int live();

 private:
  struct Stream;
  struct Event;
  struct Graph;
  struct Region;

  char* Reach(const void* address, std::int64_t bytes, std::string* problem);

  const Memory memory_;
  Mutex mu_;
  std::map<const char*, std::unique_ptr<Region>> regions_ ABSL_GUARDED_BY(mu_);
  std::map<const void*, std::unique_ptr<char[]>> pinned_ ABSL_GUARDED_BY(mu_);
  std::set<Stream*> streams_ ABSL_GUARDED_BY(mu_);
  int handles_ ABSL_GUARDED_BY(mu_) = 0;  // events and graphs
};

}  // namespace sae::testing
