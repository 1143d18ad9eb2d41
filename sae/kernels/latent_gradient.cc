#include "sae/kernels/latent_gradient.h"

#include "sae/kernels/row_ops.h"

namespace sae::kernels {

template <class T>
void LatentGradient(const Codes<T>& codes, const T* decoder, const T* g, std::int64_t d, T* u,
                    ThreadPool& pool) {
  const std::int64_t* indptr = codes.indptr.data();
  const std::int32_t* ids = codes.ids.data();
  pool.ParallelFor(codes.tokens, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      for (std::int64_t e = indptr[token]; e < indptr[token + 1]; ++e) {
        u[e] = Dot(d, decoder + ids[e] * d, g + token * d);
      }
    }
  });
}

template void LatentGradient(const Codes<float>&, const float*, const float*, std::int64_t, float*,
                             ThreadPool&);
template void LatentGradient(const Codes<double>&, const double*, const double*, std::int64_t,
                             double*, ThreadPool&);

}  // namespace sae::kernels
