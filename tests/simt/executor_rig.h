#pragma once
// For the executor's own tests: a runtime with one stream and what a kernel's run said.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/simt/runtime.h"

namespace sae::simt {

class Rig {
 public:
  explicit Rig(std::uint64_t seed = 0, BarrierLedger* ledger = nullptr,
               GuardedMemory::Placement placement = GuardedMemory::Placement::kEnd,
               ExecutorOptions executor = {})
      : runtime_(Options(seed, ledger, placement, executor)) {
    auto stream = runtime_.CreateStream();
    EXPECT_TRUE(stream.ok());
    stream_ = *stream;
  }
  ~Rig() {
    for (void* buffer : buffers_) runtime_.Free(buffer);
    runtime_.DestroyStream(stream_);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  SimtRuntime& runtime() { return runtime_; }
  void* stream() { return stream_; }
  template <class T>
  T* Buffer(std::size_t count, const std::string& name) {
    auto memory = runtime_.Allocate(static_cast<std::int64_t>(count * sizeof(T)), name);
    EXPECT_TRUE(memory.ok()) << memory.status();
    buffers_.push_back(*memory);
    return static_cast<T*>(*memory);
  }
  template <class T>
  T* Upload(const std::vector<T>& host, const std::string& name) {
    T* buffer = Buffer<T>(host.size(), name);
    EXPECT_TRUE(runtime_
                    .CopyAsync(buffer, host.data(),
                               static_cast<std::int64_t>(host.size() * sizeof(T)), stream_)
                    .ok());
    EXPECT_EQ(Wait(), "");
    return buffer;
  }
  template <class T>
  std::vector<T> Download(const T* buffer, std::size_t count) {
    std::vector<T> host(count);
    EXPECT_TRUE(
        runtime_
            .CopyAsync(host.data(), buffer, static_cast<std::int64_t>(count * sizeof(T)), stream_)
            .ok());
    EXPECT_EQ(Wait(), "");
    return host;
  }
  /// The message of Synchronize; empty: no error.
  std::string Wait() { return Message(runtime_.Synchronize(stream_)); }

 private:
  static SimtRuntime::Options Options(std::uint64_t seed, BarrierLedger* ledger,
                                      GuardedMemory::Placement placement,
                                      ExecutorOptions executor) {
    SimtRuntime::Options options;
    options.executor = executor;
    options.executor.seed = seed;
    options.placement = placement;
    options.ledger = ledger;
    return options;
  }
  SimtRuntime runtime_;
  void* stream_ = nullptr;
  std::vector<void*> buffers_;
};

}  // namespace sae::simt
