#pragma once
// What only hardware libraries do well: tensor-core products (cuBLASLt), radix sort and scan (cub).
// Three definitions: device_library_cuda.cu (the libraries), tests/simt (plain loops on the
// stream), no_cuda.cc. All calls enqueue on `stream` and return; all may be captured in a graph;
// none allocates after CreateDeviceLibrary. Scratch memory is the caller's. C++17. A DeviceLibrary
// owns its handle and one workspace on the device; calls on one library must be ordered on one
// stream (make one library a stream). Pointers are device memory unless said otherwise.

#include <cstddef>
#include <cstdint>

#include "sae/kernels/bf16.h"
#include "sae/kernels/error.h"

namespace sae::kernels::cuda {

struct DeviceLibrary;  ///< opaque

/// For the device that is current on the calling thread. `*library` is null on failure.
[[nodiscard]] Error CreateDeviceLibrary(DeviceLibrary** library);
/// All work of the library must be done. Null is allowed.
void DestroyDeviceLibrary(DeviceLibrary* library);

enum class GemmForm {
  kNT,  ///< C[m, n] = A[m, k] B[n, k]^T
  kNN,  ///< C[m, n] = A[m, k] B[k, n]
  kTN,  ///< C[m, n] = A[k, m]^T B[k, n]
};

/// C = alpha op(A) op(B) + beta C, row-major; lda, ldb, ldc are row strides in elements. beta = 0:
/// C is not read. C overlaps neither A nor B. k >= 1; m = 0 or n = 0 does nothing. The simt twin
/// adds each element's products by one chain of fused multiply-adds in ascending k; the library's
/// order is its own but the same for the same shape. float: exact float32 products (no TF32).
template <class T>
struct GemmParams {
  GemmForm form = GemmForm::kNT;
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t lda = 0;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  float* c = nullptr;
  std::int64_t ldc = 0;
  float alpha = 1, beta = 0;
};

/// bf16 factors, float32 sums. For speed: pointers 16-byte aligned, lda and ldb multiples of 8.
[[nodiscard]] Error GemmBf16(DeviceLibrary* library, const GemmParams<bf16>& params, void* stream);
[[nodiscard]] Error GemmF32(DeviceLibrary* library, const GemmParams<float>& params, void* stream);

/// Stable ascending sort of `capacity` pairs by the low `key_bits` bits of the key. Where `count`
/// is given only the first *count pairs (read on the device, 0 <= *count <= capacity) are sorted;
/// then keys_in is overwritten from *count on, and so is keys_out with 0xFFFFFFFF; values_out from
/// *count on is unspecified. In and out must not overlap. capacity < 2^31.
struct SortPairsParams {
  std::uint32_t* keys_in = nullptr;
  const std::uint32_t* values_in = nullptr;
  std::uint32_t* keys_out = nullptr;
  std::uint32_t* values_out = nullptr;
  std::int64_t capacity = 0;
  const std::int64_t* count = nullptr;
  int key_bits = 32;  ///< 1..32; higher bits of the first *count keys must be 0
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;  ///< at least SortPairsScratchBytes(capacity)
};
[[nodiscard]] Error SortPairs(const SortPairsParams& params, void* stream);
std::size_t SortPairsScratchBytes(std::int64_t capacity);

/// out[0] = 0, out[i + 1] = out[i] + in[i] for i < n: out holds n + 1 elements, the last one is the
/// total. In and out must not overlap. n < 2^31.
template <class T>
struct ExclusiveScanParams {
  const T* in = nullptr;
  std::int64_t* out = nullptr;
  std::int64_t n = 0;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;  ///< at least ExclusiveScanScratchBytes(n)
};
[[nodiscard]] Error ExclusiveScan(const ExclusiveScanParams<std::uint32_t>& params, void* stream);
[[nodiscard]] Error ExclusiveScan(const ExclusiveScanParams<std::int32_t>& params, void* stream);
[[nodiscard]] Error ExclusiveScan(const ExclusiveScanParams<std::int64_t>& params, void* stream);
std::size_t ExclusiveScanScratchBytes(std::int64_t n);

}  // namespace sae::kernels::cuda
