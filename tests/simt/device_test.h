#pragma once
// One test body for a kernel, run by the executor on the CPU and, built with SAE_WITH_CUDA, on the
// GPU (sae_device_test in cmake/SaeTargets.cmake makes both programs). Under the executor the body
// runs once for each of 2 fill patterns x 4 lane orders, with guard pages after the buffers in half
// of the runs and before them in the other half; what it downloads must have the same bits in all
// of them. A body is a pure function of what it uploads. A failure of the device ends the body.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/kernels/device_library.h"
#include "sae/kernels/error.h"

namespace sae::testing {

/// One run of a body. Everything allocated is freed after it.
class DeviceTest {
 public:
  struct Impl;
  explicit DeviceTest(Impl& impl) : impl_(impl) {}

  DeviceRuntime& runtime();
  void* stream();
  kernels::cuda::DeviceLibrary* library();
  bool on_gpu() const;

  template <class T>
  T* Upload(const std::vector<T>& host, const std::string& name) {
    T* device = Allocate<T>(host.size(), name);
    CopyIn(device, host.data(), host.size() * sizeof(T));
    return device;
  }
  /// Not initialised: the executor fills it with the run's pattern.
  template <class T>
  T* Allocate(std::size_t count, const std::string& name) {
    return static_cast<T*>(AllocateBytes(count * sizeof(T), name));
  }
  /// Waits for the stream. The bits must be the same in every run.
  template <class T>
  std::vector<T> Download(const T* device, std::size_t count) {
    std::vector<T> host(count);
    CopyOut(host.data(), device, count * sizeof(T));
    return host;
  }
  /// Ends the body with a failure unless `error` is kOk.
  void Check(kernels::Error error);
  void Check(const absl::Status& status);

 private:
  void* AllocateBytes(std::size_t bytes, const std::string& name);
  void CopyIn(void* device, const void* host, std::size_t bytes);
  void CopyOut(void* host, const void* device, std::size_t bytes);
  Impl& impl_;
};

using DeviceTestBody = std::function<void(DeviceTest&)>;

/// Runs the body as described above. On a machine without a GPU the GPU's program skips, with the
/// reason.
void RunDeviceTest(const DeviceTestBody& body);

}  // namespace sae::testing
