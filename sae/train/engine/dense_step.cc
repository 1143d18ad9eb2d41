#include "sae/train/engine/dense_step.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/token_pass.h"
#include "sae/kernels/vector_ops.h"

namespace sae::train {
namespace {

constexpr std::int64_t kBlockElements = std::int64_t{1} << 22;  // 16 MiB of float32
/// Each block adds to the whole of both gradient matrices: with fewer tokens that costs more than
/// the products.
constexpr std::int64_t kFewestTokens = 64;
constexpr std::int64_t kLatentsAtATime = 256;  // their sums stay in cache while tokens go by

std::int64_t BlockOf(std::int64_t batch, std::int64_t count) {
  const std::int64_t tokens = std::max(kFewestTokens, kBlockElements / count);
  // A multiple of the words of the mask: two blocks share none.
  return std::min(batch, tokens / kFewestTokens * kFewestTokens);
}

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
DenseStep<T>::DenseStep(const Context& context, std::unique_ptr<DenseRule<T>> rule)
    : context_(context),
      rule_(std::move(rule)),
      count_(context.shard.count),
      block_(BlockOf(context.config.train.batch, context.shard.count)),
      h_(Size(rule_->gates() ? block_ * count_ : 0)),
      codes_(Size(block_ * count_)),
      delta_(codes_.size()),
      gate_hat_(Size(rule_->gates() ? block_ * context.d_out : 0)),
      gate_error_(gate_hat_.size()),
      w_enc_gradient_(Size(count_ * context.d)),
      w_dec_gradient_(Size(count_ * context.d_out)),
      active_(Size(count_)),
      mask_(Size((context.config.train.batch + 31) / 32 * count_)) {}

// work(token of the block, range, offset into the block's matrices), tokens in order for each latent.
template <class T>
template <class Work>
void DenseStep<T>::ForRows(Block block, const Work& work) {
  const std::int64_t groups = (count_ + kLatentsAtATime - 1) / kLatentsAtATime;
  context_.pool.ParallelFor(groups, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = group * kLatentsAtATime;
      const DenseRange range{first, std::min(count_, first + kLatentsAtATime)};
      for (std::int64_t b = 0; b < block.tokens; ++b) work(b, range, b * count_ + first);
    }
  });
}

// Every reconstruction starts from bias and skip, counted on one rank.
template <class T>
void DenseStep<T>::Begin(const Input& in, T* x_hat, Phases* phases) {
  PhaseTimer timer(phases->decode);
  const std::int64_t tokens = in.batch->tokens();
  DenseStart<T> start;
  start.tokens = tokens;
  start.scale = in.batch->scale();
  start.c = in.c;
  start.norms = in.norms;
  start.lambda = in.lambda;
  rule_->Begin(start);
  squared_error_ = gate_squared_error_ = 0;
  std::fill(mask_.begin(), mask_.end(), 0U);
  if (context_.communicator.rank() != 0) {
    std::fill_n(x_hat, tokens * context_.d_out, T(0));
    return;
  }
  kernels::FillRows(in.parameters->b_dec.data(), tokens, context_.d_out, x_hat, context_.pool);
  in.skip->Add(*in.batch, in.parameters->w_skip, x_hat);
}

// out += codes W_dec, over all ranks; error = dR/d out.
template <class T>
absl::Status DenseStep<T>::Decode(const Input& in, Block block, T* out, T* error, double* squares,
                                  Phases* phases) {
  const std::int64_t d = context_.d_out;
  {
    PhaseTimer timer(phases->decode);
    kernels::GemmAdd(block.tokens, d, count_, codes_.data(), count_, in.parameters->w_dec.data(), d,
                     out, d, &partial_, context_.pool);
  }
  if (context_.communicator.size() > 1) {
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(
        context_.communicator.AllReduceSum(std::span<T>(out, Size(block.tokens * d))));
  }
  PhaseTimer timer(phases->decode);
  *squares += kernels::Residual(in.batch->y() + block.first * d, in.batch->scale(), out,
                                block.tokens, d, static_cast<T>(2 * in.rho), error, context_.pool);
  return absl::OkStatus();
}

// Codes of the block and the bits f > 0.
template <class T>
void DenseStep<T>::WriteCodes(Block block) {
  T* from = h();
  ForRows(block, [&](std::int64_t b, DenseRange range, std::int64_t at) {
    T* f = codes_.data() + at;
    rule_->Codes(range, from + at, f);
    const std::int64_t token = block.first + b;
    std::uint32_t* words = mask_.data() + (token >> 5) * count_ + range.first;
    const std::uint32_t bit = 1U << (token & 31);
    for (std::int64_t i = 0; i < range.last - range.first; ++i) words[i] |= f[i] > 0 ? bit : 0U;
  });
}

template <class T>
absl::Status DenseStep<T>::Forward(const Input& in, Block block, T* x_hat, T* g, Phases* phases) {
  const std::int64_t d = context_.d, d_out = context_.d_out;
  T* out = x_hat + block.first * d_out;
  {
    PhaseTimer timer(phases->encode);
    kernels::Gemm(block.tokens, count_, d, in.batch->x() + block.first * d, d,
                  in.parameters->w_enc.data(), d, h(), count_, context_.pool);
  }
  if (rule_->gates()) {
    {
      PhaseTimer timer(phases->aux);
      ForRows(block, [&](std::int64_t, DenseRange range, std::int64_t at) {
        rule_->Open(range, h_.data() + at, codes_.data() + at);
      });
      std::copy_n(out, block.tokens * d_out, gate_hat_.data());
    }
    SAE_RETURN_IF_ERROR(Decode(in, block, gate_hat_.data(), gate_error_.data(),
                               &gate_squared_error_, phases));
  }
  {
    PhaseTimer timer(phases->encode);
    WriteCodes(block);
  }
  return Decode(in, block, out, g + block.first * d_out, &squared_error_, phases);
}

template <class T>
void DenseStep<T>::Backward(const Input& in, Block block, const T* g, Phases* phases) {
  PhaseTimer timer(phases->backward);
  const std::int64_t d = context_.d, d_out = context_.d_out, tokens = block.tokens;
  const bool add = block.first > 0;
  const T* w_dec = in.parameters->w_dec.data();
  g += block.first * d_out;
  kernels::GemmTransposed(count_, d_out, tokens, codes_.data(), count_, g, d_out, add,
                          w_dec_gradient_.data(), d_out, context_.pool);
  kernels::Gemm(tokens, count_, d_out, g, d_out, w_dec, d_out, delta_.data(), count_,
                context_.pool);
  ForRows(block, [&](std::int64_t, DenseRange range, std::int64_t at) {
    rule_->Backward(range, h() + at, codes_.data() + at, delta_.data() + at);
  });
  if (rule_->gates()) {
    kernels::Gemm(tokens, count_, d_out, gate_error_.data(), d_out, w_dec, d_out, codes_.data(),
                  count_, context_.pool);
    ForRows(block, [&](std::int64_t, DenseRange range, std::int64_t at) {
      rule_->CloseGate(range, h_.data() + at, codes_.data() + at, delta_.data() + at);
    });
  }
  kernels::GemmTransposed(count_, d, tokens, delta_.data(), count_, in.batch->x() + block.first * d,
                          d, add, w_enc_gradient_.data(), d, context_.pool);
}

// dW_enc as a sum over delta (scale x - b_dec); what the penalty wants of |W_dec_i|; who fired.
template <class T>
void DenseStep<T>::Finish(const Input& in, const LatentGradients<T>& gradients) {
  const std::int64_t d = context_.d, d_out = context_.d_out;
  const std::int64_t words = (in.batch->tokens() + 31) / 32;
  context_.pool.ParallelFor(count_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      T* row = w_enc_gradient_.data() + i * d;
      kernels::Scale(d, in.batch->scale(), row);
      if (context_.options.pre_bias)
        kernels::Axpy(d, -gradients.delta_sums[Size(i)], in.parameters->b_dec.data(), row);
      if (!gradients.norm.empty() && in.norms[i] > 0) {
        kernels::Axpy(d_out, gradients.norm[Size(i)] / in.norms[i],
                      in.parameters->w_dec.data() + i * d_out, w_dec_gradient_.data() + i * d_out);
      }
      active_[Size(i)] = 0;
      for (std::int64_t w = 0; w < words; ++w)
        active_[Size(i)] += std::popcount(mask_[Size(w * count_ + i)]);
    }
  });
}

template <class T>
absl::StatusOr<typename DenseStep<T>::Sums> DenseStep<T>::ForwardBackward(
    const Input& in, T* x_hat, T* g, LatentGradients<T>* gradients, Phases* phases) {
  Begin(in, x_hat, phases);
  const std::int64_t tokens = in.batch->tokens();
  for (std::int64_t first = 0; first < tokens; first += block_) {
    const Block block{first, std::min(block_, tokens - first)};
    SAE_RETURN_IF_ERROR(Forward(in, block, x_hat, g, phases));
    Backward(in, block, g, phases);
  }
  Sums sums;
  SAE_ASSIGN_OR_RETURN(sums.penalty, rule_->Finish(gradients, phases));
  PhaseTimer timer(phases->backward);
  Finish(in, *gradients);
  sums.squared_error = squared_error_;
  sums.penalty.replicated += in.rho * gate_squared_error_;
  sums.active = std::accumulate(active_.begin(), active_.end(), std::int64_t{0});
  const auto entries = rule_->entries();
  sums.entries = std::accumulate(entries.begin(), entries.end(), std::int64_t{0});
  return sums;
}

template class DenseStep<float>;
template class DenseStep<double>;

}  // namespace sae::train
