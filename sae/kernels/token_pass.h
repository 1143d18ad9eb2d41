#pragma once
// Decode, error and latent gradients of each token while its decoder rows are in cache: they are
// read from memory once. Bits equal to SparseDecode + Residual + LatentGradient called apart. One
// thread a token; bits do not depend on the number of threads. Row-major, contiguous; outputs
// overlap nothing. NaN propagates. Reentrant; no errors. Source: sae algorithms 0.2, steps 1 and G.

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"

namespace sae::kernels {

template <class T>
struct TokenPassInput {
  const Codes<T>* codes = nullptr;  ///< ids; its values are not used
  const T* f = nullptr;             ///< nnz: decode weights; 0 where an entry only wants its u
  const T* decoder = nullptr;       ///< latents x d
  const T* row_scale = nullptr;     ///< latents or null: direction_i = row_scale_i decoder_i
  const T* target = nullptr;        ///< tokens x d, raw units
  T target_scale = T(1);
  T factor = T(1);  ///< g = factor (x_hat - target_scale target)
  std::int64_t d = 0;
};

/// x_hat (tokens x d) comes in prefilled (bias, skip) and is added to; g: tokens x d; u: nnz,
/// direction_i . g_token. Returns sum |x_hat - target_scale target|^2 in float64, as Residual does.
template <class T>
double TokenPass(const TokenPassInput<T>& input, T* x_hat, T* g, T* u, ThreadPool& pool);

/// g = factor (x_hat - scale target), tokens x d. Returns sum |x_hat - scale target|^2: tokens in
/// order inside fixed blocks of them, blocks in order.
template <class T>
double Residual(const T* target, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                T factor, T* g, ThreadPool& pool);

}  // namespace sae::kernels
