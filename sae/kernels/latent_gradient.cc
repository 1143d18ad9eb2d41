#include "sae/kernels/latent_gradient.h"

#include "sae/kernels/token_rows.h"

namespace sae::kernels {

template <class T>
void LatentGradient(const Codes<T>& codes, const T* decoder, const T* g, std::int64_t d, T* u,
                    ThreadPool& pool, const T* row_scale) {
  const TokenRows<T> rows{codes.ids.data(), decoder, row_scale, d};
  const std::int64_t* indptr = codes.indptr.data();
  pool.ParallelFor(codes.tokens, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      rows.Dot(indptr[token], indptr[token + 1], g + token * d, u);
    }
  });
}

template void LatentGradient(const Codes<float>&, const float*, const float*, std::int64_t, float*,
                             ThreadPool&, const float*);
template void LatentGradient(const Codes<double>&, const double*, const double*, std::int64_t,
                             double*, ThreadPool&, const double*);

}  // namespace sae::kernels
