#pragma once
// output[b] += sum over the entries e of token b of values[e] * direction(ids[e]), direction(i) =
// decoder[i], times row_scale[i] where that is given (norms taken on the fly): the sparse half of
// the reconstruction (the caller puts b_dec, or nothing, into `output` first). Shapes: indptr
// tokens + 1; ids, values nnz; decoder latents x d; output tokens x d; row-major, contiguous. 0 <=
// id < latents is the caller's duty. `output` overlaps nothing. NaN propagates. Order: entries of a
// token in CSR order (ascending id), one multiply-add each in T, by values[e] * row_scale[id];
// every output element is summed by one thread, so the bits do not depend on the number of threads
// or blocks. C++17 without Abseil: the .cu file includes it. Pointers are device memory for
// Device::kCuda.

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/kernels/error.h"

namespace sae::kernels {

template <class T>
struct SparseDecodeParams {
  const std::int64_t* indptr = nullptr;
  const std::int32_t* ids = nullptr;
  const T* values = nullptr;
  const T* decoder = nullptr;
  T* output = nullptr;
  std::int64_t tokens = 0;
  std::int64_t d = 0;
  const T* row_scale = nullptr;  ///< latents, or null: 1
};

/// Checks and dispatches. CPU: returns when done. CUDA: enqueues on `stream` (a cudaStream_t) and
/// returns. `pool` is used on the CPU only.
template <class T>
[[nodiscard]] Error SparseDecode(Device device, const SparseDecodeParams<T>& params,
                                 ThreadPool& pool, void* stream = nullptr);

namespace cpu {
template <class T>
void SparseDecode(const SparseDecodeParams<T>& params, ThreadPool& pool);
}
namespace cuda {
[[nodiscard]] Error SparseDecode(const SparseDecodeParams<float>& params, void* stream);
[[nodiscard]] Error SparseDecode(const SparseDecodeParams<double>& params, void* stream);
}  // namespace cuda

}  // namespace sae::kernels
