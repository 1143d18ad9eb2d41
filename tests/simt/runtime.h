#pragma once
// DeviceRuntime on the CPU: each stream is a queue with a worker thread that runs kernels by its
// Executor, copies and callbacks, in order; memory is GuardedMemory; a graph is the list of what
// was captured, replayed in a seeded order that keeps its dependencies. Stricter than CUDA where
// that finds mistakes: copies must stay inside one buffer; a capture refuses pageable host memory,
// and waiting for an event recorded outside it; the first error of a kernel is sticky and ends all
// later work. Differs: device memory can be read by the host (by mistake); buffers are 16-byte
// aligned. Thread-safe as DeviceRuntime says.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/base/mutex.h"
#include "sae/kernels/error.h"
#include "tests/simt/executor.h"
#include "tests/simt/guarded_memory.h"

namespace sae::simt {

/// One piece of a stream's work; gives the text of its error or an empty string.
using Work = std::function<std::string(Executor& executor)>;

class Stream;
struct Event;
struct Graph;
struct Capture;

class SimtRuntime : public DeviceRuntime {
 public:
  struct Options {
    ExecutorOptions executor;
    GuardedMemory::Placement placement = GuardedMemory::Placement::kEnd;
    std::int64_t memory_bytes = std::int64_t{4} << 30;
    BarrierLedger* ledger = nullptr;
  };
  explicit SimtRuntime(const Options& options);
  /// Streams must have been destroyed. Forgotten buffers are unmapped.
  ~SimtRuntime() override;

  std::string DeviceName() const override { return "SIMT executor on the CPU"; }
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

  /// Enqueues or records. `always`: also after an error (what others wait for).
  absl::Status Submit(Stream& stream, Work work, bool always = false);
  /// The first error of any work, or empty.
  std::string error() const;
  /// Buffers and pinned buffers that were not freed.
  int live_buffers() const { return memory_.live() + pinned_.live(); }
  const Options& options() const { return options_; }

 private:
  friend class Stream;
  absl::Status NotCapturing(absl::string_view what) const;
  absl::Status Failed() const;
  void SetError(const std::string& error);
  void WaitForAllStreams();
  std::shared_ptr<Event> EventOf(void* handle) const;
  absl::Status CheckHost(const void* host, std::int64_t bytes, bool capturing) const;
  bool Capturing(const Stream& stream) const;

  const Options options_;
  GuardedMemory memory_;
  GuardedMemory pinned_;
  mutable Mutex mu_;
  std::string error_ ABSL_GUARDED_BY(mu_);
  std::map<Stream*, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mu_);
  std::map<void*, std::shared_ptr<Event>> events_ ABSL_GUARDED_BY(mu_);
  std::map<void*, std::shared_ptr<Graph>> graphs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Capture>> captures_ ABSL_GUARDED_BY(mu_);  // going on
};

/// A test's own work in a stream, recorded in a capture like a kernel.
/// `stream` is a handle of CreateStream. `work` gives an error text or an empty string.
absl::Status EnqueueOnStream(void* stream, std::function<std::string()> work);

}  // namespace sae::simt
