#pragma once
// Owners of a DeviceRuntime's resources, movable, not copyable. The runtime outlives them. Not
// thread-safe.

#include <cstdint>
#include <string>
#include <utility>

#include "sae/base/device_runtime.h"

namespace sae {

/// `size()` elements of T in device memory.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  [[nodiscard]] static absl::StatusOr<DeviceBuffer> Create(DeviceRuntime& runtime,
                                                           std::int64_t size,
                                                           const std::string& name) {
    auto memory = runtime.Allocate(size * static_cast<std::int64_t>(sizeof(T)), name);
    if (!memory.ok()) return memory.status();
    return DeviceBuffer(&runtime, static_cast<T*>(*memory), size);
  }
  ~DeviceBuffer() { Reset(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    if (this != &other) {
      Reset();
      runtime_ = std::exchange(other.runtime_, nullptr);
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }

  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::int64_t bytes() const { return size_ * static_cast<std::int64_t>(sizeof(T)); }
  DeviceRuntime* runtime() const { return runtime_; }

  /// `host` holds size() elements.
  [[nodiscard]] absl::Status Upload(const T* host, void* stream) {
    return size_ == 0 ? absl::OkStatus() : runtime_->CopyAsync(data_, host, bytes(), stream);
  }
  [[nodiscard]] absl::Status Download(T* host, void* stream) const {
    return size_ == 0 ? absl::OkStatus() : runtime_->CopyAsync(host, data_, bytes(), stream);
  }
  void Reset() {
    if (runtime_ != nullptr) runtime_->Free(data_);
    runtime_ = nullptr;
    data_ = nullptr;
    size_ = 0;
  }

 private:
  DeviceBuffer(DeviceRuntime* runtime, T* data, std::int64_t size)
      : runtime_(runtime), data_(data), size_(size) {}
  DeviceRuntime* runtime_ = nullptr;
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

namespace internal {

/// A handle with the member of DeviceRuntime that destroys it.
template <void (DeviceRuntime::*kDestroy)(void*)>
class DeviceHandle {
 public:
  DeviceHandle() = default;
  DeviceHandle(DeviceRuntime& runtime, void* handle) : runtime_(&runtime), handle_(handle) {}
  ~DeviceHandle() { Reset(); }
  DeviceHandle(DeviceHandle&& other) noexcept { *this = std::move(other); }
  DeviceHandle& operator=(DeviceHandle&& other) noexcept {
    if (this != &other) {
      Reset();
      runtime_ = std::exchange(other.runtime_, nullptr);
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  void* get() const { return handle_; }
  void Reset() {
    if (runtime_ != nullptr) (runtime_->*kDestroy)(handle_);
    runtime_ = nullptr;
    handle_ = nullptr;
  }

 private:
  DeviceRuntime* runtime_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace internal

using DeviceStream = internal::DeviceHandle<&DeviceRuntime::DestroyStream>;
using DeviceEvent = internal::DeviceHandle<&DeviceRuntime::DestroyEvent>;
using DeviceGraph = internal::DeviceHandle<&DeviceRuntime::DestroyGraph>;
using PinnedMemory = internal::DeviceHandle<&DeviceRuntime::FreePinned>;

}  // namespace sae
