#include "sae/train/engine/dense_relu.h"

#include <algorithm>

#include "sae/kernels/gemm.h"
#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/residual.h"

namespace sae::train {
namespace {

constexpr std::int64_t kBlock = kernels::kTokensPerChunk;

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

// out[c, r] = in[r, c]; ld_out >= rows.
template <class T>
void Transpose(const T* in, std::int64_t rows, std::int64_t columns, T* out, std::int64_t ld_out, ThreadPool& pool) {
  constexpr std::int64_t kTile = 32;
  pool.ParallelFor((columns + kTile - 1) / kTile, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t c_end = std::min(columns, (tile + 1) * kTile);
      for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
        const std::int64_t r_end = std::min(rows, r0 + kTile);
        for (std::int64_t c = tile * kTile; c < c_end; ++c) {
          for (std::int64_t r = r0; r < r_end; ++r) out[c * ld_out + r] = in[r * columns + c];
        }
      }
    }
  });
}

}  // namespace

template <class T>
DenseRelu<T>::DenseRelu(const Context& context, std::int64_t batch)
    : context_(context), count_(context.shard.count), gradient_(context.shard.count, context.d) {
  const std::int64_t d = context.d;
  const std::int64_t block = std::min(kBlock, batch);
  z_.resize(Size(block * count_));
  u_.resize(Size(block * count_));
  decoder_t_.resize(Size(d * count_));
  codes_t_.resize(Size(count_ * block));
  rows_t_.resize(Size(d * block));
  product_.resize(Size(count_ * d));
  bias_sums_.resize(Size(count_));
  fired_.resize(Size(count_));
  mask_.resize(Size((batch * count_ + 63) / 64));
  block_l1_.resize(Size(count_));
  block_active_.resize(Size(count_));
}

// z_ = max(scale * z_ + c, 0). One thread a range of latents, so that sums by latent have a fixed order.
template <class T>
void DenseRelu<T>::Activate(const Input& in, std::int64_t token, std::int64_t tokens, Sums* sums) {
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      block_l1_[Size(i)] = 0;
      block_active_[Size(i)] = 0;
    }
    for (std::int64_t b = 0; b < tokens; ++b) {
      T* row = z_.data() + b * count_;
      for (std::int64_t i = begin; i < end; ++i) {
        const T z = in.scale * row[i] + in.c[i];
        const T f = z > 0 ? z : (z == z ? T(0) : z);  // NaN must reach the loss
        row[i] = f;
        block_l1_[Size(i)] += static_cast<double>(f);
        block_active_[Size(i)] += f > 0 ? 1 : 0;
      }
    }
    for (std::int64_t i = begin; i < end; ++i) fired_[Size(i)] |= block_active_[Size(i)] > 0 ? 1 : 0;
  });
  for (std::int64_t i = 0; i < count_; ++i) {
    sums->l1 += block_l1_[Size(i)];
    sums->active += block_active_[Size(i)];
  }
  for (std::int64_t b = 0; b < tokens; ++b) {
    const T* row = z_.data() + b * count_;
    const std::int64_t first = (token + b) * count_;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t bit = first + i;
      mask_[Size(bit >> 6)] |= static_cast<std::uint64_t>(row[i] > 0) << (bit & 63);
    }
  }
}

// u_ = delta: (d_i . g_b + l1) where f > 0, else 0; b_enc's gradient.
template <class T>
void DenseRelu<T>::LatentGradients(const Input& in, std::int64_t tokens, const T* g) {
  const std::int64_t d = context_.d;
  kernels::Gemm(tokens, count_, d, g, d, in.parameters->w_dec.data(), d, u_.data(), count_, context_.pool);
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = 0; b < tokens; ++b) {
      const T* f = z_.data() + b * count_;
      T* u = u_.data() + b * count_;
      for (std::int64_t i = begin; i < end; ++i) {
        u[i] = f[i] > 0 ? u[i] + in.l1 : T(0);
        bias_sums_[Size(i)] += static_cast<double>(u[i]);
      }
    }
  });
}

// gradient += scale * codes^T rows; codes [tokens, count], rows [tokens, d].
template <class T>
void DenseRelu<T>::Accumulate(const kernels::AlignedVector<T>& codes, std::int64_t tokens, const T* rows, T scale,
                              kernels::AlignedVector<T>* gradient) {
  const std::int64_t d = context_.d;
  Transpose(codes.data(), tokens, count_, codes_t_.data(), tokens, context_.pool);
  Transpose(rows, tokens, d, rows_t_.data(), tokens, context_.pool);
  kernels::Gemm(count_, d, tokens, codes_t_.data(), tokens, rows_t_.data(), tokens, product_.data(), d,
                context_.pool);
  context_.pool.ParallelFor(count_ * d, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) (*gradient)[Size(i)] += scale * product_[Size(i)];
  });
}

template <class T>
absl::StatusOr<typename DenseRelu<T>::Sums> DenseRelu<T>::ForwardBackward(const Input& in, T* x_hat, T* g,
                                                                          Phases* phases) {
  const std::int64_t d = context_.d;
  const model::Parameters<T>& p = *in.parameters;
  ThreadPool& pool = context_.pool;
  Sums sums;
  std::fill(gradient_.w_enc.begin(), gradient_.w_enc.end(), T(0));
  std::fill(gradient_.w_dec.begin(), gradient_.w_dec.end(), T(0));
  std::fill(bias_sums_.begin(), bias_sums_.end(), 0.0);
  std::fill(fired_.begin(), fired_.end(), 0);
  std::fill(mask_.begin(), mask_.end(), 0);
  Transpose(p.w_dec.data(), count_, d, decoder_t_.data(), count_, pool);
  const T factor = T(2) / static_cast<T>(in.tokens);
  for (std::int64_t token = 0; token < in.tokens; token += kBlock) {
    const std::int64_t tokens = std::min(kBlock, in.tokens - token);
    const T* x = in.x + token * d;
    T* hat = x_hat + token * d;
    {
      PhaseTimer timer(phases->encode);
      kernels::Gemm(tokens, count_, d, x, d, p.w_enc.data(), d, z_.data(), count_, pool);
      Activate(in, token, tokens, &sums);
    }
    {
      PhaseTimer timer(phases->decode);
      kernels::Gemm(tokens, d, count_, z_.data(), count_, decoder_t_.data(), count_, hat, d, pool);
      if (context_.communicator.rank() == 0) {
        for (std::int64_t i = 0; i < tokens * d; ++i) hat[i] += p.b_dec[Size(i % d)];
      }
    }
    if (context_.communicator.size() > 1) {
      PhaseTimer timer(phases->exchange);
      SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<T>(hat, Size(tokens * d))));
    }
    PhaseTimer timer(phases->backward);
    sums.squared_error += Residual(x, in.scale, hat, tokens, d, factor, g + token * d, pool);
    LatentGradients(in, tokens, g + token * d);
    Accumulate(z_, tokens, g + token * d, T(1), &gradient_.w_dec);
    Accumulate(u_, tokens, x, in.scale, &gradient_.w_enc);
  }
  // The centred form of dW_enc: sum delta (x - b_dec).
  for (std::int64_t i = 0; i < count_; ++i) {
    const T sum = gradient_.b_enc[Size(i)] = static_cast<T>(bias_sums_[Size(i)]);
    T* row = gradient_.w_enc.data() + i * d;
    for (std::int64_t j = 0; j < d; ++j) row[j] -= sum * p.b_dec[Size(j)];
  }
  return sums;
}

template class DenseRelu<float>;
template class DenseRelu<double>;

}  // namespace sae::train
