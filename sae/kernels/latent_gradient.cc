#include "sae/kernels/latent_gradient.h"

#include <algorithm>
#include <array>

#include "sae/kernels/row_ops.h"

namespace sae::kernels {

template <class T>
void LatentGradient(const Codes<T>& codes, const T* decoder, const T* g, std::int64_t d, T* u,
                    ThreadPool& pool, const T* row_scale) {
  constexpr std::int64_t kRows = 16;  // at once, so that their chains of additions overlap
  const std::int64_t* indptr = codes.indptr.data();
  const std::int32_t* ids = codes.ids.data();
  pool.ParallelFor(codes.tokens, [=](std::int64_t begin, std::int64_t end, int) {
    std::array<const T*, kRows> rows{};
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t last = indptr[token + 1];
      for (std::int64_t e = indptr[token]; e < last; e += kRows) {
        const std::int64_t count = std::min(kRows, last - e);
        for (std::int64_t q = 0; q < count; ++q)
          rows[static_cast<std::size_t>(q)] = decoder + ids[e + q] * d;
        DotRows(d, count, rows.data(), g + token * d, u + e);
        for (std::int64_t q = e; row_scale != nullptr && q < e + count; ++q)
          u[q] *= row_scale[ids[q]];
      }
    }
  });
}

template void LatentGradient(const Codes<float>&, const float*, const float*, std::int64_t, float*,
                             ThreadPool&, const float*);
template void LatentGradient(const Codes<double>&, const double*, const double*, std::int64_t,
                             double*, ThreadPool&, const double*);

}  // namespace sae::kernels
