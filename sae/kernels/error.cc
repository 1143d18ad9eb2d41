#include "sae/kernels/error.h"

namespace sae::kernels {

const char* ErrorName(Error error) {
  switch (error) {
    case Error::kOk:
      return "ok";
    case Error::kInvalidArgument:
      return "invalid argument";
    case Error::kUnsupportedDevice:
      return "built without CUDA: configure with -DSAE_WITH_CUDA=ON";
    case Error::kLaunchFailed:
      return "the device runtime refused the launch";
    case Error::kLibraryFailed:
      return "cuBLASLt or cub refused the call";
  }
  return "unknown";
}

}  // namespace sae::kernels
