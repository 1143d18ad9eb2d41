// One block a token; a thread owns columns j, j + blockDim, ... and adds the token's entries in
// order, so the sum of an element is the CPU's: entries ascending, one fused multiply-add each.
#include "sae/kernels/device.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::kernels::cuda {
namespace {

constexpr int kThreads = 256;

SAELOOM_DEVICE float MultiplyAdd(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SAELOOM_DEVICE double MultiplyAdd(double a, double b, double c) { return __fma_rn(a, b, c); }

template <class T>
SAELOOM_KERNEL void SparseDecodeKernel(SparseDecodeParams<T> p) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t begin = p.indptr[token];
  const std::int64_t end = p.indptr[token + 1];
  for (std::int64_t j = threadIdx.x; j < p.d; j += blockDim.x) {
    T sum = p.output[token * p.d + j];
    for (std::int64_t e = begin; e < end; ++e) {
      const T scale = p.row_scale == nullptr ? T(1) : p.row_scale[p.ids[e]];
      sum = MultiplyAdd(p.values[e] * scale, p.decoder[p.ids[e] * p.d + j], sum);
    }
    p.output[token * p.d + j] = sum;
  }
}

template <class T>
Error Launch(const SparseDecodeParams<T>& params, void* stream) {
  return SAELOOM_LAUNCH((SparseDecodeKernel<T>), static_cast<unsigned>(params.tokens), kThreads, 0,
                        stream, params);
}

}  // namespace

Error SparseDecode(const SparseDecodeParams<float>& params, void* stream) {
  return Launch(params, stream);
}
Error SparseDecode(const SparseDecodeParams<double>& params, void* stream) {
  return Launch(params, stream);
}

}  // namespace sae::kernels::cuda
