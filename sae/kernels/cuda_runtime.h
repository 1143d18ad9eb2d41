#pragma once
// DeviceRuntime on an NVIDIA GPU: streams that do not wait for the default stream, events with
// time, graphs by stream capture (of the capturing thread only), pinned memory.

#include <memory>

#include "sae/base/device_runtime.h"

namespace sae::kernels {

/// GPU `device` of this machine, made current on the calling thread. NOT_FOUND: no such GPU, or no
/// driver. UNIMPLEMENTED: built without SAE_WITH_CUDA.
[[nodiscard]] absl::StatusOr<std::unique_ptr<DeviceRuntime>> CreateCudaRuntime(int device);

/// GPUs that this process can use; 0 when there is no driver or no CUDA in the build.
int CudaDeviceCount();

}  // namespace sae::kernels
