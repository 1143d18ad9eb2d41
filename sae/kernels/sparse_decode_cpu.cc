#include "sae/kernels/row_ops.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::kernels::cpu {

template <class T>
void SparseDecode(const SparseDecodeParams<T>& p, ThreadPool& pool) {
  pool.ParallelFor(p.tokens, [&p](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      T* out = p.output + token * p.d;
      for (std::int64_t e = p.indptr[token]; e < p.indptr[token + 1]; ++e) {
        const T scale = p.row_scale == nullptr ? T(1) : p.row_scale[p.ids[e]];
        Axpy(p.d, p.values[e] * scale, p.decoder + p.ids[e] * p.d, out);
      }
    }
  });
}

template void SparseDecode(const SparseDecodeParams<float>&, ThreadPool&);
template void SparseDecode(const SparseDecodeParams<double>&, ThreadPool&);

}  // namespace sae::kernels::cpu
