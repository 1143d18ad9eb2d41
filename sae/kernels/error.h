#pragma once
// Where a kernel runs and how it fails. C++17, no other header: .cu files and quartet headers
// include it.

namespace sae::kernels {

enum class Device { kCpu, kCuda };

enum class Error {
  kOk = 0,
  kInvalidArgument,    ///< a size is negative or a needed pointer is null
  kUnsupportedDevice,  ///< built without SAE_WITH_CUDA
  kLaunchFailed,       ///< the device runtime refused the launch
  kLibraryFailed,      ///< cuBLASLt or cub refused the call
};

/// A short English name, for messages.
const char* ErrorName(Error error);

}  // namespace sae::kernels
