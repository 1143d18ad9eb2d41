#pragma once
// Memory of a device, owned by its scope, and what the parts of the device engine share. Not
// thread-safe.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/kernels/error.h"

namespace sae::train {

/// `count` elements of V in device memory; empty until Create.
template <class V>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() { Reset(); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(runtime_, other.runtime_);
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }

  /// Contents are not initialised. 0 elements: data() stays null.
  [[nodiscard]] absl::Status Create(DeviceRuntime& runtime, std::int64_t count, const char* name) {
    Reset();
    if (count == 0) return absl::OkStatus();
    SAE_ASSIGN_OR_RETURN(void* data, runtime.Allocate(count * std::int64_t{sizeof(V)}, name));
    runtime_ = &runtime;
    data_ = static_cast<V*>(data);
    count_ = count;
    return absl::OkStatus();
  }
  V* data() const { return data_; }
  std::int64_t count() const { return count_; }
  std::int64_t bytes() const { return count_ * std::int64_t{sizeof(V)}; }

 private:
  void Reset() {
    if (data_ != nullptr) runtime_->Free(data_);
    data_ = nullptr;
    count_ = 0;
  }

  DeviceRuntime* runtime_ = nullptr;
  V* data_ = nullptr;
  std::int64_t count_ = 0;
};

/// Device memory as a vector. Waits for the stream.
template <class V>
[[nodiscard]] absl::StatusOr<std::vector<V>> Fetch(DeviceRuntime& runtime, const V* data,
                                                   std::int64_t count, void* stream) {
  std::vector<V> out(static_cast<std::size_t>(count));
  if (count > 0) {
    SAE_RETURN_IF_ERROR(
        runtime.CopyAsync(out.data(), data, count * std::int64_t{sizeof(V)}, stream));
  }
  SAE_RETURN_IF_ERROR(runtime.Synchronize(stream));
  return out;
}

/// OK, or INTERNAL naming the kernel.
[[nodiscard]] inline absl::Status Launched(kernels::Error error, const char* kernel) {
  if (error == kernels::Error::kOk) return absl::OkStatus();
  if (error == kernels::Error::kUnsupportedDevice)
    return absl::UnimplementedError(std::string(kernel) + ": " + kernels::ErrorName(error));
  return absl::InternalError(std::string(kernel) + ": " + kernels::ErrorName(error));
}

}  // namespace sae::train
