#pragma once
// u[e] = direction(id_e) . g[token_e] for every entry e of `codes`, in CSR order: step 1 of the
// generic backward (sae algorithms 0.2). direction(i) = decoder[i], the product times row_scale[i]
// where that is given (norms taken on the fly). decoder: latents x d; g: tokens x d; u: nnz. One
// thread a dot product, fixed order of additions (row_ops.h). `u` overlaps nothing. NaN propagates.
// Reentrant; no errors.

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"

namespace sae::kernels {

template <class T>
void LatentGradient(const Codes<T>& codes, const T* decoder, const T* g, std::int64_t d, T* u,
                    ThreadPool& pool, const T* row_scale = nullptr);

}  // namespace sae::kernels
