#include "tests/support/host_runtime.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <sys/mman.h>
#include <thread>
#include <utility>

#include "sae/base/clock.h"

namespace sae::testing {

using Work = std::function<void()>;

struct HostRuntime::Region {
  std::int64_t bytes = 0;
  std::string name;
  char* hidden = nullptr;  // mapped without access, when it is not null
  std::unique_ptr<char[]> data;
};

struct HostRuntime::Graph {
  std::vector<Work> work;
};

struct HostRuntime::Event {
  Mutex mu;
  CondVar changed;
  std::int64_t recorded ABSL_GUARDED_BY(mu) = 0;
  std::int64_t reached ABSL_GUARDED_BY(mu) = 0;
  absl::Duration at ABSL_GUARDED_BY(mu);
};

/// Runs work in order on its own thread, or records it.
struct HostRuntime::Stream {
  Stream() : thread([this] { Loop(); }) {}
  ~Stream() {
    {
      MutexLock lock(mu);
      ending = true;
      changed.NotifyAll();
    }
    thread.join();
  }
  void Push(Work work) {
    MutexLock lock(mu);
    if (capture != nullptr) {
      capture->work.push_back(std::move(work));
      return;
    }
    queue.push_back(std::move(work));
    changed.NotifyAll();
  }
  void Loop() {
    for (;;) {
      Work work;
      {
        MutexLock lock(mu);
        while (queue.empty() && !ending) changed.Wait(mu);
        if (queue.empty()) return;
        work = std::move(queue.front());
        queue.pop_front();
        busy = true;
      }
      work();
      MutexLock lock(mu);
      busy = false;
      changed.NotifyAll();
    }
  }
  void WaitUntilIdle() {
    MutexLock lock(mu);
    while (busy || !queue.empty()) changed.Wait(mu);
  }
  bool Capturing() {
    MutexLock lock(mu);
    return capture != nullptr;
  }

  Mutex mu;
  CondVar changed;
  std::deque<Work> queue ABSL_GUARDED_BY(mu);
  bool busy ABSL_GUARDED_BY(mu) = false;
  bool ending ABSL_GUARDED_BY(mu) = false;
  std::unique_ptr<Graph> capture ABSL_GUARDED_BY(mu);
  std::thread thread;  // last: it uses the others
};

HostRuntime::HostRuntime(Memory memory) : memory_(memory) {}

HostRuntime::~HostRuntime() = default;

absl::StatusOr<DeviceMemoryInfo> HostRuntime::MemoryInfo() {
  constexpr std::int64_t kTotal = std::int64_t{1} << 30;
  MutexLock lock(mu_);
  DeviceMemoryInfo info{kTotal, kTotal};
  for (const auto& [address, region] : regions_) info.free_bytes -= region->bytes;
  return info;
}

absl::StatusOr<void*> HostRuntime::Allocate(std::int64_t bytes, const std::string& name) {
  if (bytes < 0) return absl::InvalidArgumentError(absl::StrCat(name, ": ", bytes, " bytes"));
  auto region = std::make_unique<Region>();
  region->bytes = bytes;
  region->name = name;
  region->data = std::make_unique<char[]>(static_cast<std::size_t>(bytes) + 1);
  std::memset(region->data.get(), 0xA5, static_cast<std::size_t>(bytes));
  char* address = region->data.get();
  if (memory_ == Memory::kHidden) {
    void* hidden = ::mmap(nullptr, static_cast<std::size_t>(bytes) + 1, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (hidden == MAP_FAILED) return ErrnoToStatus(errno, name);
    address = region->hidden = static_cast<char*>(hidden);
  }
  MutexLock lock(mu_);
  regions_[address] = std::move(region);
  return static_cast<void*>(address);
}

void HostRuntime::Free(void* memory) {
  if (memory == nullptr) return;
  std::vector<Stream*> streams;
  {
    MutexLock lock(mu_);
    streams.assign(streams_.begin(), streams_.end());
  }
  for (Stream* stream : streams) stream->WaitUntilIdle();
  MutexLock lock(mu_);
  const auto found = regions_.find(static_cast<const char*>(memory));
  if (found->second->hidden != nullptr)
    ::munmap(found->second->hidden, static_cast<std::size_t>(found->second->bytes) + 1);
  regions_.erase(found);
}

absl::StatusOr<void*> HostRuntime::AllocatePinned(std::int64_t bytes) {
  auto data = std::make_unique<char[]>(static_cast<std::size_t>(bytes) + 1);
  void* address = data.get();
  MutexLock lock(mu_);
  pinned_[address] = std::move(data);
  return address;
}

void HostRuntime::FreePinned(void* memory) {
  MutexLock lock(mu_);
  pinned_.erase(memory);
}

char* HostRuntime::Reach(const void* address, std::int64_t bytes, std::string* problem) {
  MutexLock lock(mu_);
  auto* const at = const_cast<char*>(static_cast<const char*>(address));
  auto found = regions_.upper_bound(at);
  if (found == regions_.begin()) return at;  // the host's
  --found;
  const std::int64_t offset = at - found->first;
  if (offset > found->second->bytes) return at;
  if (offset + bytes > found->second->bytes)
    *problem = absl::StrCat("past the end of ", found->second->name);
  return found->second->data.get() + offset;
}

absl::Status HostRuntime::CopyAsync(void* to, const void* from, std::int64_t bytes, void* stream) {
  std::string problem;
  char* const target = Reach(to, bytes, &problem);
  const char* const source = Reach(from, bytes, &problem);
  if (bytes < 0 || !problem.empty())
    return absl::InvalidArgumentError(absl::StrCat("copy of ", bytes, " bytes ", problem));
  static_cast<Stream*>(stream)->Push([target, source, bytes] {
    if (bytes > 0) std::memcpy(target, source, static_cast<std::size_t>(bytes));
  });
  return absl::OkStatus();
}

absl::Status HostRuntime::MemsetAsync(void* to, int value, std::int64_t bytes, void* stream) {
  std::string problem;
  char* const target = Reach(to, bytes, &problem);
  if (bytes < 0 || !problem.empty())
    return absl::InvalidArgumentError(absl::StrCat("memset of ", bytes, " bytes ", problem));
  static_cast<Stream*>(stream)->Push([target, value, bytes] {
    if (bytes > 0) std::memset(target, value, static_cast<std::size_t>(bytes));
  });
  return absl::OkStatus();
}

absl::Status HostRuntime::HostCallback(void (*function)(void*), void* data, void* stream) {
  static_cast<Stream*>(stream)->Push([function, data] { function(data); });
  return absl::OkStatus();
}

absl::StatusOr<void*> HostRuntime::CreateStream() {
  auto* const stream = new Stream;
  MutexLock lock(mu_);
  streams_.insert(stream);
  return static_cast<void*>(stream);
}

void HostRuntime::DestroyStream(void* stream) {
  {
    MutexLock lock(mu_);
    streams_.erase(static_cast<Stream*>(stream));
  }
  delete static_cast<Stream*>(stream);
}

absl::Status HostRuntime::Synchronize(void* stream) {
  auto* const s = static_cast<Stream*>(stream);
  MutexLock lock(s->mu);
  if (s->capture != nullptr) return absl::FailedPreconditionError("synchronised in a capture");
  while (s->busy || !s->queue.empty()) s->changed.Wait(s->mu);
  return absl::OkStatus();
}

absl::StatusOr<void*> HostRuntime::CreateEvent() {
  MutexLock lock(mu_);
  ++handles_;
  return static_cast<void*>(new Event);
}

void HostRuntime::DestroyEvent(void* event) {
  (void)SynchronizeEvent(event);
  delete static_cast<Event*>(event);
  MutexLock lock(mu_);
  --handles_;
}

absl::Status HostRuntime::RecordEvent(void* event, void* stream) {
  auto* const e = static_cast<Event*>(event);
  if (static_cast<Stream*>(stream)->Capturing())
    return absl::UnimplementedError("an event in a capture");
  std::int64_t number = 0;
  {
    MutexLock lock(e->mu);
    number = ++e->recorded;
  }
  static_cast<Stream*>(stream)->Push([e, number] {
    MutexLock lock(e->mu);
    e->reached = std::max(e->reached, number);
    e->at = RealClock().SinceBoot();
    e->changed.NotifyAll();
  });
  return absl::OkStatus();
}

absl::Status HostRuntime::WaitEvent(void* stream, void* event) {
  auto* const e = static_cast<Event*>(event);
  std::int64_t number = 0;
  {
    MutexLock lock(e->mu);
    number = e->recorded;
  }
  static_cast<Stream*>(stream)->Push([e, number] {
    MutexLock lock(e->mu);
    while (e->reached < number) e->changed.Wait(e->mu);
  });
  return absl::OkStatus();
}

absl::StatusOr<bool> HostRuntime::QueryEvent(void* event) {
  auto* const e = static_cast<Event*>(event);
  MutexLock lock(e->mu);
  return e->reached >= e->recorded;
}

absl::Status HostRuntime::SynchronizeEvent(void* event) {
  auto* const e = static_cast<Event*>(event);
  MutexLock lock(e->mu);
  while (e->reached < e->recorded) e->changed.Wait(e->mu);
  return absl::OkStatus();
}

absl::StatusOr<double> HostRuntime::ElapsedMs(void* start, void* stop) {
  absl::Duration times[2];
  for (int i = 0; i < 2; ++i) {
    auto* const e = static_cast<Event*>(i == 0 ? start : stop);
    MutexLock lock(e->mu);
    times[i] = e->at;
  }
  return absl::ToDoubleMilliseconds(times[1] - times[0]);
}

absl::Status HostRuntime::BeginCapture(void* stream) {
  auto* const s = static_cast<Stream*>(stream);
  MutexLock lock(s->mu);
  if (s->capture != nullptr) return absl::FailedPreconditionError("a capture in a capture");
  s->capture = std::make_unique<Graph>();
  return absl::OkStatus();
}

absl::StatusOr<void*> HostRuntime::EndCapture(void* stream) {
  auto* const s = static_cast<Stream*>(stream);
  std::unique_ptr<Graph> graph;
  {
    MutexLock lock(s->mu);
    graph = std::move(s->capture);
  }
  if (graph == nullptr) return absl::FailedPreconditionError("no capture to end");
  MutexLock lock(mu_);
  ++handles_;
  return static_cast<void*>(graph.release());
}

absl::Status HostRuntime::LaunchGraph(void* graph, void* stream) {
  for (const Work& work : static_cast<Graph*>(graph)->work)
    static_cast<Stream*>(stream)->Push(work);
  return absl::OkStatus();
}

void HostRuntime::DestroyGraph(void* graph) {
  delete static_cast<Graph*>(graph);
  MutexLock lock(mu_);
  --handles_;
}

int HostRuntime::live() {
  MutexLock lock(mu_);
  return handles_ + static_cast<int>(regions_.size() + pinned_.size() + streams_.size());
}

}  // namespace sae::testing
