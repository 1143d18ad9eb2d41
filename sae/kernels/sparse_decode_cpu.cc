#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/token_rows.h"

namespace sae::kernels::cpu {

template <class T>
void SparseDecode(const SparseDecodeParams<T>& p, ThreadPool& pool) {
  const TokenRows<T> rows{p.ids, p.decoder, p.row_scale, p.d};
  pool.ParallelFor(p.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      rows.Add(p.indptr[token], p.indptr[token + 1], p.indptr[end], p.values,
               p.output + token * p.d);
    }
  });
}

template void SparseDecode(const SparseDecodeParams<float>&, ThreadPool&);
template void SparseDecode(const SparseDecodeParams<double>&, ThreadPool&);

}  // namespace sae::kernels::cpu
