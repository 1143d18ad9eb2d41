// cuBLASLt and cub. Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T, so B is the
// library's left factor. The heuristic is asked once a shape; then the same algorithm runs, so the
// same shape gives the same bits. Shape, strides, alignment and the workspace are all that goes
// into the choice, so equal calls take the same algorithm in every process on the same kind of GPU:
// `reduction: fixed` gives the encoder's products one shape at every number of ranks (encode.h).
#include <map>
#include <tuple>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cublasLt.h>

#include "sae/kernels/device.h"
#include "sae/kernels/device_library.h"
#include "sae/kernels/device_library_checks.h"

namespace sae::kernels::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
constexpr int kThreads = 256;

// Everything that the choice of an algorithm depends on.
using GemmKey =
    std::tuple<cudaDataType, GemmForm, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
               std::int64_t, std::int64_t, bool, unsigned, unsigned, unsigned>;

struct GemmPlan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

void Destroy(GemmPlan& plan) {
  if (plan.operation != nullptr) cublasLtMatmulDescDestroy(plan.operation);
  for (cublasLtMatrixLayout_t layout : {plan.left, plan.right, plan.out}) {
    if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  }
}

}  // namespace

struct DeviceLibrary {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<GemmKey, GemmPlan> plans;
};

Error CreateDeviceLibrary(DeviceLibrary** library) {
  *library = nullptr;
  auto* made = new DeviceLibrary;
  if (cublasLtCreate(&made->handle) != CUBLAS_STATUS_SUCCESS ||
      cudaMalloc(&made->workspace, kWorkspaceBytes) != cudaSuccess) {
    cudaGetLastError();
    DestroyDeviceLibrary(made);
    return Error::kLibraryFailed;
  }
  *library = made;
  return Error::kOk;
}

void DestroyDeviceLibrary(DeviceLibrary* library) {
  if (library == nullptr) return;
  for (auto& entry : library->plans) Destroy(entry.second);
  if (library->workspace != nullptr) cudaFree(library->workspace);
  if (library->handle != nullptr) cublasLtDestroy(library->handle);
  delete library;
}

namespace {

unsigned Alignment(const void* pointer) {
  const auto bits = reinterpret_cast<std::uintptr_t>(pointer);
  unsigned alignment = 1;
  while (alignment < 256 && bits % (2 * alignment) == 0) alignment *= 2;
  return alignment;
}

template <class T>
bool MakePlan(DeviceLibrary* library, cudaDataType type, const GemmParams<T>& p, GemmPlan* plan) {
  const bool nt = p.form == GemmForm::kNT, tn = p.form == GemmForm::kTN;
  const cublasOperation_t left = nt ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t right = tn ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const unsigned a = Alignment(p.b), b = Alignment(p.a), c = Alignment(p.c);
  const std::size_t workspace = kWorkspaceBytes;
  const auto ok = [](cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; };
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return ok(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
  };
  const bool made =
      ok(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
      ok(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &left,
                                        sizeof(left))) &&
      ok(cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &right,
                                        sizeof(right))) &&
      ok(cublasLtMatrixLayoutCreate(&plan->left, type, nt ? p.k : p.n, nt ? p.n : p.k, p.ldb)) &&
      ok(cublasLtMatrixLayoutCreate(&plan->right, type, tn ? p.m : p.k, tn ? p.k : p.m, p.lda)) &&
      ok(cublasLtMatrixLayoutCreate(&plan->out, CUDA_R_32F, p.n, p.m, p.ldc)) &&
      ok(cublasLtMatmulPreferenceCreate(&preference)) &&
      prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c) &&
      prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c) &&
      ok(cublasLtMatmulAlgoGetHeuristic(library->handle, plan->operation, plan->left, plan->right,
                                        plan->out, plan->out, preference, 1, &found, &count)) &&
      count == 1;
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  plan->algorithm = found.algo;
  return made;
}

template <class T>
Error Gemm(DeviceLibrary* library, cudaDataType type, const GemmParams<T>& p, void* stream) {
  if (library == nullptr || !Valid(p)) return Error::kInvalidArgument;
  if (p.m == 0 || p.n == 0) return Error::kOk;
  const GemmKey key{type,           p.form,        p.m,   p.n,         p.k,
                    p.lda,          p.ldb,         p.ldc, p.beta == 0, Alignment(p.a),
                    Alignment(p.b), Alignment(p.c)};
  auto found = library->plans.find(key);
  if (found == library->plans.end()) {
    GemmPlan plan;
    if (!MakePlan(library, type, p, &plan)) {
      Destroy(plan);
      return Error::kLibraryFailed;
    }
    found = library->plans.emplace(key, plan).first;
  }
  const GemmPlan& plan = found->second;
  return cublasLtMatmul(library->handle, plan.operation, &p.alpha, p.b, plan.left, p.a, plan.right,
                        &p.beta, p.c, plan.out, p.c, plan.out, &plan.algorithm, library->workspace,
                        kWorkspaceBytes, static_cast<cudaStream_t>(stream)) == CUBLAS_STATUS_SUCCESS
             ? Error::kOk
             : Error::kLibraryFailed;
}

// Keys from *count on sort behind all others; stability keeps them behind equal ones.
SAELOOM_KERNEL void PadKeysKernel(std::uint32_t* keys, const std::int64_t* count,
                                  std::int64_t capacity) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = *count + blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
       i < capacity; i += step) {
    keys[i] = 0xFFFFFFFFU;
  }
}

struct Add64 {
  SAELOOM_HOST_DEVICE std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return a + b;
  }
};

template <class T>
Error Scan(const ExclusiveScanParams<T>& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  const auto s = static_cast<cudaStream_t>(stream);
  if (cudaMemsetAsync(p.out, 0, sizeof(std::int64_t), s) != cudaSuccess) {
    return Error::kLibraryFailed;
  }
  if (p.n == 0) return Error::kOk;
  std::size_t bytes = p.scratch_bytes;
  return cub::DeviceScan::InclusiveScanInit(p.scratch, bytes, p.in, p.out + 1, Add64{},
                                            std::int64_t{0}, static_cast<int>(p.n),
                                            s) == cudaSuccess
             ? Error::kOk
             : Error::kLibraryFailed;
}

template <class T>
std::size_t ScanBytes(std::int64_t n) {
  std::size_t bytes = 0;
  cub::DeviceScan::InclusiveScanInit(nullptr, bytes, static_cast<const T*>(nullptr),
                                     static_cast<std::int64_t*>(nullptr), Add64{}, std::int64_t{0},
                                     static_cast<int>(n));
  return bytes;
}

}  // namespace

Error GemmBf16(DeviceLibrary* library, const GemmParams<bf16>& params, void* stream) {
  return Gemm(library, CUDA_R_16BF, params, stream);
}
Error GemmF32(DeviceLibrary* library, const GemmParams<float>& params, void* stream) {
  return Gemm(library, CUDA_R_32F, params, stream);
}

Error SortPairs(const SortPairsParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  if (p.capacity == 0) return Error::kOk;
  if (p.count != nullptr) {
    const std::int64_t blocks = (p.capacity + kThreads - 1) / kThreads;
    const Error padded =
        SAELOOM_LAUNCH(PadKeysKernel, static_cast<unsigned>(blocks < 1024 ? blocks : 1024),
                       kThreads, 0, stream, p.keys_in, p.count, p.capacity);
    if (padded != Error::kOk) return padded;
  }
  std::size_t bytes = p.scratch_bytes;
  return cub::DeviceRadixSort::SortPairs(p.scratch, bytes, p.keys_in, p.keys_out, p.values_in,
                                         p.values_out, static_cast<int>(p.capacity), 0, p.key_bits,
                                         static_cast<cudaStream_t>(stream)) == cudaSuccess
             ? Error::kOk
             : Error::kLibraryFailed;
}

std::size_t SortPairsScratchBytes(std::int64_t capacity) {
  std::size_t bytes = 0;
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, static_cast<const std::uint32_t*>(nullptr),
                                  static_cast<std::uint32_t*>(nullptr),
                                  static_cast<const std::uint32_t*>(nullptr),
                                  static_cast<std::uint32_t*>(nullptr), static_cast<int>(capacity));
  return bytes + 256;  // never 0: null scratch would only ask for the size
}

Error ExclusiveScan(const ExclusiveScanParams<std::uint32_t>& params, void* stream) {
  return Scan(params, stream);
}
Error ExclusiveScan(const ExclusiveScanParams<std::int32_t>& params, void* stream) {
  return Scan(params, stream);
}
Error ExclusiveScan(const ExclusiveScanParams<std::int64_t>& params, void* stream) {
  return Scan(params, stream);
}
std::size_t ExclusiveScanScratchBytes(std::int64_t n) {
  std::size_t bytes = ScanBytes<std::uint32_t>(n);
  if (ScanBytes<std::int32_t>(n) > bytes) bytes = ScanBytes<std::int32_t>(n);
  if (ScanBytes<std::int64_t>(n) > bytes) bytes = ScanBytes<std::int64_t>(n);
  return bytes + 256;
}

}  // namespace sae::kernels::cuda
