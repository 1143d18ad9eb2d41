#include "sae/kernels/row_ops.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::kernels::cpu {

template <class T>
void SparseDecode(const SparseDecodeParams<T>& p, ThreadPool& pool) {
  pool.ParallelFor(p.tokens, [&p](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      T* out = p.output + token * p.d;
      for (std::int64_t e = p.indptr[token]; e < p.indptr[token + 1]; ++e) {
        Axpy(p.d, p.values[e], p.decoder + p.ids[e] * p.d, out);
      }
    }
  });
}

template void SparseDecode(const SparseDecodeParams<float>&, ThreadPool&);
template void SparseDecode(const SparseDecodeParams<double>&, ThreadPool&);

}  // namespace sae::kernels::cpu
