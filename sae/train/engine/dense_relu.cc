#include "sae/train/engine/dense_relu.h"

#include <algorithm>

#include "sae/kernels/gemm.h"
#include "sae/kernels/token_pass.h"
#include "sae/train/engine/transpose.h"

namespace sae::train {
namespace {

// Tokens of one block: as many chunks as keep the codes of a block within 16 MiB of float32.
std::int64_t BlockOf(std::int64_t batch, std::int64_t count) {
  constexpr std::int64_t kElements = std::int64_t{1} << 22;
  const std::int64_t chunks =
      std::max<std::int64_t>(1, kElements / (count * kernels::kTokensPerChunk));
  return std::min(batch, chunks * kernels::kTokensPerChunk);
}

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
DenseRelu<T>::DenseRelu(const Context& context)
    : context_(context),
      count_(context.shard.count),
      block_(BlockOf(context.config.train.batch, context.shard.count)),
      words_((context.config.train.batch + 63) / 64),
      f_(Size(block_ * count_)),
      f_t_(Size(block_ * count_)),
      delta_t_(Size(block_ * count_)),
      decoder_t_(Size(context.d * count_)),
      rows_t_(Size(context.d * block_)),
      product_(Size(count_ * context.d)),
      w_enc_gradient_(Size(count_ * context.d)),
      w_dec_gradient_(w_enc_gradient_.size()),
      b_enc_gradient_(Size(count_)),
      bias_sums_(Size(count_)),
      l1_sums_(Size(count_)),
      active_(Size(count_)),
      fired_(Size(count_)),
      mask_(Size(count_ * words_)) {}

// f = max(scale * z + c, 0) of a block, both ways round.
template <class T>
void DenseRelu<T>::Activate(const Input& in, std::int64_t token, std::int64_t tokens) {
  const std::int64_t d = context_.d;
  kernels::Gemm(tokens, count_, d, in.x + token * d, d, in.parameters->w_enc.data(), d, f_.data(),
                count_, context_.pool);
  context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      T* row = f_.data() + b * count_;
      for (std::int64_t i = 0; i < count_; ++i) {
        const T z = in.scale * row[i] + in.c[i];
        row[i] = z < 0 ? T(0) : z;  // NaN stays: it must reach the loss
      }
    }
  });
  Transpose(f_.data(), tokens, count_, f_t_.data(), tokens, context_.pool);
}

// x_hat of a block, summed over ranks; b_dec added once.
template <class T>
absl::Status DenseRelu<T>::Reconstruct(const Input& in, std::int64_t token, std::int64_t tokens,
                                       T* x_hat, Phases* phases) {
  const std::int64_t d = context_.d;
  T* hat = x_hat + token * d;
  {
    PhaseTimer timer(phases->decode);
    kernels::Gemm(tokens, d, count_, f_.data(), count_, decoder_t_.data(), count_, hat, d,
                  context_.pool);
    const T* bias = in.parameters->b_dec.data();
    for (std::int64_t b = 0; context_.communicator.rank() == 0 && b < tokens; ++b) {
      for (std::int64_t j = 0; j < d; ++j) hat[b * d + j] += bias[j];
    }
  }
  if (context_.communicator.size() == 1) return absl::OkStatus();
  PhaseTimer timer(phases->exchange);
  return context_.communicator.AllReduceSum(std::span<T>(hat, Size(tokens * d)));
}

// Sums of f, counts and bits of f > 0, by latent.
template <class T>
void DenseRelu<T>::CountActive(std::int64_t token, std::int64_t tokens) {
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* f = f_t_.data() + i * tokens;
      double l1 = 0;
      std::int64_t active = 0;
      for (std::int64_t b = 0; b < tokens; ++b) {
        l1 += static_cast<double>(f[b]);
        const std::int64_t at = token + b;
        const bool on = f[b] > 0;
        active += on ? 1 : 0;
        mask_[Size(i * words_ + (at >> 6))] |= static_cast<std::uint64_t>(on) << (at & 63);
      }
      l1_sums_[Size(i)] += l1;
      active_[Size(i)] += active;
    }
  });
}

// delta = (d_i . g_b + l1) where f > 0, else 0; b_enc's gradient.
template <class T>
void DenseRelu<T>::LatentGradients(const Input& in, std::int64_t tokens, const T* g) {
  const std::int64_t d = context_.d;
  kernels::Gemm(count_, tokens, d, in.parameters->w_dec.data(), d, g, d, delta_t_.data(), tokens,
                context_.pool);
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* f = f_t_.data() + i * tokens;
      T* delta = delta_t_.data() + i * tokens;
      for (std::int64_t b = 0; b < tokens; ++b) delta[b] = f[b] > 0 ? delta[b] + in.l1 : T(0);
      double sum = 0;
      for (std::int64_t b = 0; b < tokens; ++b) sum += static_cast<double>(delta[b]);
      bias_sums_[Size(i)] += sum;
    }
  });
}

// gradient = or += scale * codes rows; codes_t [count, tokens], rows [tokens, d].
template <class T>
void DenseRelu<T>::Accumulate(const kernels::AlignedVector<T>& codes_t, std::int64_t tokens,
                              const T* rows, T scale, bool first,
                              kernels::AlignedVector<T>* gradient) {
  const std::int64_t d = context_.d;
  Transpose(rows, tokens, d, rows_t_.data(), tokens, context_.pool);
  kernels::Gemm(count_, d, tokens, codes_t.data(), tokens, rows_t_.data(), tokens, product_.data(),
                d, context_.pool);
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    T* out = gradient->data();
    const T keep = first ? T(0) : T(1);
    for (std::int64_t i = begin * d; i < end * d; ++i)
      out[i] = keep * out[i] + scale * product_[Size(i)];
  });
}

// b_enc's gradient, and dW_enc as a sum over delta (x - b_dec).
template <class T>
void DenseRelu<T>::FinishGradient(const Input& in) {
  const std::int64_t d = context_.d;
  for (std::int64_t i = 0; i < count_; ++i) {
    const T sum = b_enc_gradient_[Size(i)] = static_cast<T>(bias_sums_[Size(i)]);
    T* row = w_enc_gradient_.data() + i * d;
    for (std::int64_t j = 0; context_.options.pre_bias && j < d; ++j) row[j] -= sum * in.parameters->b_dec[Size(j)];
    fired_[Size(i)] = active_[Size(i)] > 0 ? 1 : 0;
  }
}

template <class T>
absl::StatusOr<typename DenseRelu<T>::Sums> DenseRelu<T>::ForwardBackward(const Input& in, T* x_hat,
                                                                          T* g, Phases* phases) {
  const std::int64_t d = context_.d;
  Sums sums;
  std::fill(bias_sums_.begin(), bias_sums_.end(), 0.0);
  std::fill(l1_sums_.begin(), l1_sums_.end(), 0.0);
  std::fill(active_.begin(), active_.end(), 0);
  std::fill(mask_.begin(), mask_.end(), 0);
  Transpose(in.parameters->w_dec.data(), count_, d, decoder_t_.data(), count_, context_.pool);
  const auto factor = static_cast<T>(2 * in.rho);
  for (std::int64_t token = 0; token < in.tokens; token += block_) {
    const std::int64_t tokens = std::min(block_, in.tokens - token);
    {
      PhaseTimer timer(phases->encode);
      Activate(in, token, tokens);
      CountActive(token, tokens);
    }
    SAE_RETURN_IF_ERROR(Reconstruct(in, token, tokens, x_hat, phases));
    PhaseTimer timer(phases->backward);
    T* g_block = g + token * d;
    const T* x = in.x + token * d;
    sums.squared_error +=
        kernels::Residual(x, in.scale, x_hat + token * d, tokens, d, factor, g_block, context_.pool);
    LatentGradients(in, tokens, g_block);
    Accumulate(f_t_, tokens, g_block, T(1), token == 0, &w_dec_gradient_);
    Accumulate(delta_t_, tokens, x, in.scale, token == 0, &w_enc_gradient_);
  }
  FinishGradient(in);
  for (std::int64_t i = 0; i < count_; ++i) {
    sums.l1 += l1_sums_[Size(i)];
    sums.active += active_[Size(i)];
  }
  return sums;
}

template class DenseRelu<float>;
template class DenseRelu<double>;

}  // namespace sae::train
