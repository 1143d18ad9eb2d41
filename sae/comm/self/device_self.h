#pragma once
// A group of one on a device: every operation is a copy in the stream, or nothing. Blocking,
// enqueue-only and captured as nccl.h says.

#include <memory>

#include "absl/time/time.h"

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm {

/// `runtime` and `stream` are borrowed. `deadline` bounds the waits for the stream.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateDeviceSelf(
    DeviceRuntime& runtime, void* stream, absl::Duration deadline);

}  // namespace sae::comm
