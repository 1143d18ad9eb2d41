#include "tests/simt/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "sae/base/check.h"
#include "sae/base/random.h"
#include "tests/simt/stream.h"

namespace sae::simt {
namespace {

constexpr std::int64_t kPinnedBytes = std::int64_t{4} << 30;

absl::Status UnknownStream() { return absl::InvalidArgumentError("not a stream of this runtime"); }

}  // namespace

SimtRuntime::SimtRuntime(const Options& options)
    : options_(options),
      memory_(options.memory_bytes, options.placement, options.executor.fill),
      pinned_(kPinnedBytes, options.placement, options.executor.fill) {}

SimtRuntime::~SimtRuntime() {
  MutexLock lock(mu_);
  SAE_CHECK_MSG(streams_.empty(), "%zu streams outlive their runtime", streams_.size());
}

absl::StatusOr<DeviceMemoryInfo> SimtRuntime::MemoryInfo() {
  return DeviceMemoryInfo{memory_.capacity() - memory_.used(), memory_.capacity()};
}

std::string SimtRuntime::error() const {
  MutexLock lock(mu_);
  return error_;
}

void SimtRuntime::SetError(const std::string& error) {
  MutexLock lock(mu_);
  if (error_.empty()) error_ = error;
}

absl::Status SimtRuntime::Failed() const {
  const std::string text = error();
  return text.empty() ? absl::OkStatus() : absl::InternalError(text);
}

absl::Status SimtRuntime::NotCapturing(absl::string_view what) const {
  MutexLock lock(mu_);
  for (const auto& capture : captures_) {
    if (capture->thread == std::this_thread::get_id()) {
      return absl::FailedPreconditionError(
          absl::StrCat(what, ": this thread captures a stream; end the capture first"));
    }
  }
  return absl::OkStatus();
}

bool SimtRuntime::Capturing(const Stream& stream) const {
  MutexLock lock(mu_);
  return stream.capture != nullptr;
}

absl::StatusOr<void*> SimtRuntime::Allocate(std::int64_t bytes, const std::string& name) {
  SAE_RETURN_IF_ERROR(NotCapturing(absl::StrCat("allocate '", name, "'")));
  SAE_RETURN_IF_ERROR(Failed());
  return memory_.Allocate(bytes, name);
}

void SimtRuntime::WaitForAllStreams() {
  std::vector<std::shared_ptr<Stream>> streams;  // another thread may destroy its own meanwhile
  {
    MutexLock lock(mu_);
    for (const auto& [handle, stream] : streams_) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->WaitIdle();
}

void SimtRuntime::Free(void* memory) {
  if (memory == nullptr) return;
  absl::Status status = NotCapturing("free");
  WaitForAllStreams();
  if (status.ok()) status = memory_.Free(memory);
  if (!status.ok()) SetError(Message(status));
}

absl::StatusOr<void*> SimtRuntime::AllocatePinned(std::int64_t bytes) {
  SAE_RETURN_IF_ERROR(NotCapturing("allocate pinned memory"));
  return pinned_.Allocate(bytes, "pinned host memory");
}

void SimtRuntime::FreePinned(void* memory) {
  if (memory == nullptr) return;
  WaitForAllStreams();
  const absl::Status status = pinned_.Free(memory);
  if (!status.ok()) SetError(Message(status));
}

absl::Status SimtRuntime::CheckHost(const void* host, std::int64_t bytes, bool capturing) const {
  if (pinned_.Owns(host)) return pinned_.CheckRange(host, bytes);
  if (capturing) {
    return absl::FailedPreconditionError("a copy in a capture needs host memory of AllocatePinned");
  }
  return absl::OkStatus();
}

absl::Status SimtRuntime::CopyAsync(void* to, const void* from, std::int64_t bytes, void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return UnknownStream();
  if (bytes == 0) return Failed();
  const bool capturing = Capturing(*s);
  const bool device_to = memory_.Owns(to), device_from = memory_.Owns(from);
  if (!device_to && !device_from) {
    return absl::InvalidArgumentError("copy: neither side is device memory");
  }
  const std::string what = absl::StrCat("copy of ", bytes, " bytes");
  absl::Status checked =
      device_to ? memory_.CheckRange(to, bytes) : CheckHost(to, bytes, capturing);
  if (!checked.ok()) return Annotate(checked, absl::StrCat(what, ", to"));
  checked = device_from ? memory_.CheckRange(from, bytes) : CheckHost(from, bytes, capturing);
  if (!checked.ok()) return Annotate(checked, absl::StrCat(what, ", from"));
  const auto* begin = static_cast<const char*>(from);
  if (begin < static_cast<char*>(to) + bytes && static_cast<char*>(to) < begin + bytes) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": the sides overlap"));
  }
  return Submit(*s, [to, from, bytes](Executor&) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return std::string();
  });
}

absl::Status SimtRuntime::MemsetAsync(void* to, int value, std::int64_t bytes, void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return UnknownStream();
  if (bytes == 0) return Failed();
  const absl::Status checked = memory_.CheckRange(to, bytes);
  if (!checked.ok()) return Annotate(checked, absl::StrCat("memset of ", bytes, " bytes"));
  return Submit(*s, [to, value, bytes](Executor&) {
    std::memset(to, value, static_cast<std::size_t>(bytes));
    return std::string();
  });
}

absl::Status SimtRuntime::HostCallback(void (*function)(void*), void* data, void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return UnknownStream();
  return Submit(*s, [function, data](Executor&) {
    function(data);
    return std::string();
  });
}

absl::StatusOr<void*> SimtRuntime::CreateStream() {
  auto stream = std::make_shared<Stream>(*this);
  Stream* handle = stream.get();
  MutexLock lock(mu_);
  streams_[handle] = std::move(stream);
  return handle;
}

void SimtRuntime::DestroyStream(void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return;
  std::shared_ptr<Stream> owner;  // joined without the mutex: the worker asks for error()
  {
    MutexLock lock(mu_);
    const auto it = streams_.find(s);
    if (it == streams_.end()) return;
    owner = std::move(it->second);
    streams_.erase(it);
  }
  owner->WaitIdle();  // here, also where another thread holds it a little longer
}

absl::Status SimtRuntime::Synchronize(void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return UnknownStream();
  if (Capturing(*s)) {
    return absl::FailedPreconditionError("synchronize: the stream is being captured");
  }
  s->WaitIdle();
  SAE_RETURN_IF_ERROR(Failed());
  SAE_RETURN_IF_ERROR(pinned_.CheckBytesBeside());
  const absl::Status damage = memory_.CheckBytesBeside();
  if (!damage.ok()) SetError(Message(damage));
  return damage;
}

absl::Status SimtRuntime::Submit(Stream& stream, Work work, bool always) {
  SAE_RETURN_IF_ERROR(Failed());
  MutexLock lock(mu_);
  if (stream.capture == nullptr) {
    stream.Push(std::move(work), always);
    return absl::OkStatus();
  }
  std::vector<Node>& nodes = stream.capture->graph.nodes;
  nodes.push_back({std::move(work), stream.tail});
  stream.tail = {nodes.size() - 1};
  return absl::OkStatus();
}

// What kernels and tests call.

kernels::Error Enqueue(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes,
                       void* stream, std::function<void()> body) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) {
    std::fprintf(stderr, "launch of %s: not a stream of a SimtRuntime\n", name);
    return kernels::Error::kLaunchFailed;
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return kernels::Error::kOk;
  KernelCall call{name, grid, block, shared_bytes, std::move(body)};
  const std::string refused = LaunchError(call);
  if (!refused.empty()) {
    std::fprintf(stderr, "launch of %s: %s\n", name, refused.c_str());
    return kernels::Error::kLaunchFailed;
  }
  const absl::Status status = s->runtime().Submit(
      *s, [call = std::move(call)](Executor& executor) { return executor.Run(call); });
  return status.ok() ? kernels::Error::kOk : kernels::Error::kLaunchFailed;
}

absl::Status EnqueueOnStream(void* stream, std::function<std::string()> work) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return UnknownStream();
  return s->runtime().Submit(*s, [work = std::move(work)](Executor&) { return work(); });
}

}  // namespace sae::simt
