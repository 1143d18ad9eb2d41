#include "sae/train/engine/skip.h"

#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"
#include "sae/train/engine/transpose.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Skip<T>::Skip(const Context& context) : context_(context) {
  if (!context.options.skip) return;
  const std::int64_t batch = context.batch();
  product_.resize(Size(batch * context.d_out));
  x_t_.resize(Size(batch * context.d));
  g_t_.resize(Size(batch * context.d_out));
  gradient_.resize(Size(context.d_out * context.d));
}

template <class T>
void Skip<T>::Add(const Batch<T>& batch, const kernels::AlignedVector<T>& w_skip, T* out) {
  if (!context_.options.skip) return;
  const std::int64_t d = context_.d, d_out = context_.d_out, tokens = batch.tokens();
  kernels::Gemm(tokens, d_out, d, batch.x(), d, w_skip.data(), d, product_.data(), d_out,
                context_.pool);
  context_.pool.ParallelFor(tokens * d_out, [&](std::int64_t begin, std::int64_t end, int) {
    kernels::Axpy(end - begin, batch.scale(), product_.data() + begin, out + begin);
  });
}

template <class T>
T* Skip<T>::Gradient(const Batch<T>& batch, const T* g, const T* more) {
  const std::int64_t d = context_.d, d_out = context_.d_out, tokens = batch.tokens();
  if (more != nullptr) {
    context_.pool.ParallelFor(tokens * d_out, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) product_[Size(i)] = g[i] + more[i];
    });
    g = product_.data();
  }
  Transpose(batch.x(), tokens, d, x_t_.data(), tokens, context_.pool);
  Transpose(g, tokens, d_out, g_t_.data(), tokens, context_.pool);
  kernels::Gemm(d_out, d, tokens, g_t_.data(), tokens, x_t_.data(), tokens, gradient_.data(), d,
                context_.pool);
  for (T& v : gradient_) v *= batch.scale();
  return gradient_.data();
}

template class Skip<float>;
template class Skip<double>;

}  // namespace sae::train
