#include "sae/kernels/cuda_runtime.h"

namespace sae::kernels {

absl::StatusOr<std::unique_ptr<DeviceRuntime>> CreateCudaRuntime(int device) {
  return absl::UnimplementedError(absl::StrCat(
      "CUDA device ", device, ": this build has no CUDA; configure with -DSAE_WITH_CUDA=ON"));
}

int CudaDeviceCount() { return 0; }

}  // namespace sae::kernels
