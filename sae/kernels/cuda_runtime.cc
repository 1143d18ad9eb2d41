#include "sae/kernels/cuda_runtime.h"

#include <algorithm>

#include <cuda_runtime.h>

namespace sae::kernels {
namespace {

cudaStream_t StreamOf(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t EventOf(void* event) { return static_cast<cudaEvent_t>(event); }

absl::Status ToStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // else the next launch would report it again
  const std::string text =
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  switch (error) {
    case cudaErrorInvalidValue:
    case cudaErrorInvalidResourceHandle:
      return absl::InvalidArgumentError(text);
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
      return absl::FailedPreconditionError(text);
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::InternalError(text);
  }
}

class CudaRuntime : public DeviceRuntime {
 public:
  CudaRuntime(int device, std::string name) : device_(device), name_(std::move(name)) {}

  std::string DeviceName() const override { return name_; }

  absl::StatusOr<DeviceMemoryInfo> MemoryInfo() override {
    SAE_RETURN_IF_ERROR(BindThread());
    std::size_t free_bytes = 0, total_bytes = 0;
    SAE_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo"));
    return DeviceMemoryInfo{static_cast<std::int64_t>(free_bytes),
                            static_cast<std::int64_t>(total_bytes)};
  }

  absl::Status BindThread() override {
    return ToStatus(cudaSetDevice(device_), absl::StrCat("cudaSetDevice(", device_, ")"));
  }

  absl::StatusOr<void*> Allocate(std::int64_t bytes, const std::string& name) override {
    if (bytes < 0) {
      return absl::InvalidArgumentError(absl::StrCat("allocate '", name, "': ", bytes, " bytes"));
    }
    SAE_RETURN_IF_ERROR(BindThread());
    void* memory = nullptr;
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    const cudaError_t error = cudaMalloc(&memory, wanted);
    if (error == cudaSuccess) return memory;
    absl::Status status = ToStatus(error, absl::StrCat("allocate '", name, "', ", bytes, " bytes"));
    if (!absl::IsResourceExhausted(status)) return status;
    const auto info = MemoryInfo();
    if (!info.ok()) return status;
    return absl::ResourceExhaustedError(absl::StrCat("allocate '", name, "': ", bytes,
                                                     " bytes needed, ", info->free_bytes, " of ",
                                                     info->total_bytes, " free on ", name_));
  }
  void Free(void* memory) override {
    if (memory == nullptr) return;
    cudaSetDevice(device_);
    cudaFree(memory);
  }

  absl::StatusOr<void*> AllocatePinned(std::int64_t bytes) override {
    if (bytes < 0) {
      return absl::InvalidArgumentError(absl::StrCat("allocate pinned memory: ", bytes, " bytes"));
    }
    SAE_RETURN_IF_ERROR(BindThread());
    void* memory = nullptr;
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    SAE_RETURN_IF_ERROR(ToStatus(cudaHostAlloc(&memory, wanted, cudaHostAllocDefault),
                                 absl::StrCat("allocate ", bytes, " bytes of pinned memory")));
    return memory;
  }
  void FreePinned(void* memory) override {
    if (memory != nullptr) cudaFreeHost(memory);
  }

  absl::Status CopyAsync(void* to, const void* from, std::int64_t bytes, void* stream) override {
    if (bytes == 0) return absl::OkStatus();
    return ToStatus(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault,
                                    StreamOf(stream)),
                    absl::StrCat("copy of ", bytes, " bytes"));
  }
  absl::Status MemsetAsync(void* to, int value, std::int64_t bytes, void* stream) override {
    if (bytes == 0) return absl::OkStatus();
    return ToStatus(cudaMemsetAsync(to, value, static_cast<std::size_t>(bytes), StreamOf(stream)),
                    absl::StrCat("memset of ", bytes, " bytes"));
  }
  absl::Status HostCallback(void (*function)(void*), void* data, void* stream) override {
    return ToStatus(cudaLaunchHostFunc(StreamOf(stream), function, data), "host callback");
  }

  absl::StatusOr<void*> CreateStream() override {
    SAE_RETURN_IF_ERROR(BindThread());
    cudaStream_t stream = nullptr;
    SAE_RETURN_IF_ERROR(
        ToStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream"));
    return static_cast<void*>(stream);
  }
  void DestroyStream(void* stream) override {
    if (stream == nullptr) return;
    cudaStreamSynchronize(StreamOf(stream));
    cudaStreamDestroy(StreamOf(stream));
  }
  absl::Status Synchronize(void* stream) override {
    return ToStatus(cudaStreamSynchronize(StreamOf(stream)), "synchronize a stream");
  }

  absl::StatusOr<void*> CreateEvent() override {
    SAE_RETURN_IF_ERROR(BindThread());
    cudaEvent_t event = nullptr;
    SAE_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&event), "create an event"));
    return static_cast<void*>(event);
  }
  void DestroyEvent(void* event) override {
    if (event != nullptr) cudaEventDestroy(EventOf(event));
  }
  absl::Status RecordEvent(void* event, void* stream) override {
    return ToStatus(cudaEventRecord(EventOf(event), StreamOf(stream)), "record an event");
  }
  absl::Status WaitEvent(void* stream, void* event) override {
    return ToStatus(cudaStreamWaitEvent(StreamOf(stream), EventOf(event), 0), "wait for an event");
  }
  absl::StatusOr<bool> QueryEvent(void* event) override {
    const cudaError_t error = cudaEventQuery(EventOf(event));
    if (error == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    SAE_RETURN_IF_ERROR(ToStatus(error, "query an event"));
    return true;
  }
  absl::Status SynchronizeEvent(void* event) override {
    return ToStatus(cudaEventSynchronize(EventOf(event)), "synchronize an event");
  }
  absl::StatusOr<double> ElapsedMs(void* start, void* stop) override {
    float ms = 0;
    const cudaError_t error = cudaEventElapsedTime(&ms, EventOf(start), EventOf(stop));
    if (error == cudaErrorNotReady || error == cudaErrorInvalidResourceHandle) {
      cudaGetLastError();
      return absl::FailedPreconditionError("elapsed time: an event is not done");
    }
    SAE_RETURN_IF_ERROR(ToStatus(error, "elapsed time"));
    return static_cast<double>(ms);
  }

  absl::Status BeginCapture(void* stream) override {
    return ToStatus(cudaStreamBeginCapture(StreamOf(stream), cudaStreamCaptureModeThreadLocal),
                    "begin a capture");
  }
  absl::StatusOr<void*> EndCapture(void* stream) override {
    cudaGraph_t graph = nullptr;
    SAE_RETURN_IF_ERROR(ToStatus(cudaStreamEndCapture(StreamOf(stream), &graph), "end a capture"));
    cudaGraphExec_t executable = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    SAE_RETURN_IF_ERROR(ToStatus(error, "instantiate a graph"));
    return static_cast<void*>(executable);
  }
  absl::Status LaunchGraph(void* graph, void* stream) override {
    return ToStatus(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), StreamOf(stream)),
                    "launch a graph");
  }
  void DestroyGraph(void* graph) override {
    if (graph != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
  }

 private:
  const int device_;
  const std::string name_;
};

}  // namespace

int CudaDeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

absl::StatusOr<std::unique_ptr<DeviceRuntime>> CreateCudaRuntime(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return absl::NotFoundError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
  }
  if (device < 0 || device >= count) {
    return absl::NotFoundError(
        absl::StrCat("no CUDA device ", device, ": this machine has ", count));
  }
  cudaDeviceProp properties;
  SAE_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties"));
  auto runtime = std::make_unique<CudaRuntime>(device, properties.name);
  SAE_RETURN_IF_ERROR(runtime->BindThread());
  return runtime;
}

}  // namespace sae::kernels
