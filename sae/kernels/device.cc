#include "sae/kernels/device.h"

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
      return "CUDA launch failed";
  }
  return "unknown";
}

}  // namespace sae::kernels
