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
/// Latents of a group: what one product takes at most, and enough groups for many threads.
constexpr std::int64_t kGroup = 512, kSmallGroup = 64, kGroups = 16;

std::int64_t BlockOf(std::int64_t batch, std::int64_t count) {
  const std::int64_t tokens = std::max(kFewestTokens, kBlockElements / count);
  // A multiple of the words of the mask: two blocks share none.
  return std::min(batch, tokens / kFewestTokens * kFewestTokens);
}

std::int64_t GroupOf(std::int64_t count) {
  return std::clamp(count / kGroups / kSmallGroup * kSmallGroup, kSmallGroup, kGroup);
}

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
DenseStep<T>::DenseStep(const Context& context, std::unique_ptr<DenseRule<T>> rule)
    : context_(context),
      rule_(std::move(rule)),
      count_(context.shard.count),
      block_(BlockOf(context.batch(), context.shard.count)),
      group_(GroupOf(context.shard.count)),
      h_(Size(rule_->gates() ? block_ * count_ : 0)),
      codes_(Size(block_ * count_)),
      u_(Size(context.pool.size()), kernels::AlignedVector<T>(Size(block_ * group_))),
      v_(rule_->gates() ? u_ : std::vector<kernels::AlignedVector<T>>()),
      gate_hat_(Size(rule_->gates() ? block_ * context.d_out : 0)),
      gate_error_(gate_hat_.size()),
      w_enc_gradient_(Size(count_ * context.d)),
      w_dec_gradient_(Size(count_ * context.d_out)),
      active_(Size(count_)),
      mask_(Size((context.batch() + 31) / 32 * count_)) {}

template <class T>
template <class Work>
void DenseStep<T>::ForGroups(const Work& work) {
  const std::int64_t groups = (count_ + group_ - 1) / group_;
  context_.pool.ParallelFor(groups, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = group * group_;
      work(DenseRange{first, std::min(count_, first + group_)}, worker);
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
void DenseStep<T>::WriteCodes(Block block, DenseRange range) {
  const T* from = h();
  for (std::int64_t b = 0; b < block.tokens; ++b) {
    const std::int64_t at = b * count_ + range.first;
    T* f = codes_.data() + at;
    rule_->Codes(range, from + at, f);
    const std::int64_t token = block.first + b;
    std::uint32_t* words = mask_.data() + (token >> 5) * count_ + range.first;
    const std::uint32_t bit = 1U << (token & 31);
    for (std::int64_t i = 0; i < range.last - range.first; ++i) words[i] |= f[i] > 0 ? bit : 0U;
  }
}

// The products, and what can follow at once: the codes, or the gate's.
template <class T>
void DenseStep<T>::Encode(const Input& in, Block block) {
  const std::int64_t d = context_.d;
  ForGroups([&](DenseRange range, int) {
    kernels::GemmTile(block.tokens, range.last - range.first, d, in.batch->x() + block.first * d, d,
                      in.parameters->w_enc.data() + range.first * d, d, h() + range.first, count_);
    if (!rule_->gates()) return WriteCodes(block, range);
    for (std::int64_t b = 0; b < block.tokens; ++b) {
      const std::int64_t at = b * count_ + range.first;
      rule_->Open(range, h_.data() + at, codes_.data() + at);
    }
  });
}

template <class T>
absl::Status DenseStep<T>::Forward(const Input& in, Block block, T* x_hat, T* g, Phases* phases) {
  const std::int64_t d = context_.d_out;
  T* out = x_hat + block.first * d;
  {
    PhaseTimer timer(phases->encode);
    Encode(in, block);
  }
  if (rule_->gates()) {
    std::copy_n(out, block.tokens * d, gate_hat_.data());
    SAE_RETURN_IF_ERROR(
        Decode(in, block, gate_hat_.data(), gate_error_.data(), &gate_squared_error_, phases));
    PhaseTimer timer(phases->aux);
    ForGroups([&](DenseRange range, int) { WriteCodes(block, range); });
  }
  return Decode(in, block, out, g + block.first * d, &squared_error_, phases);
}

template <class T>
void DenseStep<T>::BackwardOf(const Input& in, Block block, DenseRange range, const T* g,
                              int worker) {
  const std::int64_t d = context_.d, d_out = context_.d_out, tokens = block.tokens;
  const std::int64_t width = range.last - range.first;
  const bool add = block.first > 0;
  const T* w_dec = in.parameters->w_dec.data() + range.first * d_out;
  const T* f = codes_.data() + range.first;
  const T* h_row = h() + range.first;
  T* u = u_[Size(worker)].data();
  kernels::GemmTile(tokens, width, d_out, g, d_out, w_dec, d_out, u, width);
  for (std::int64_t b = 0; b < tokens; ++b)
    rule_->Backward(range, h_row + b * count_, f + b * count_, u + b * width);
  if (rule_->gates()) {
    T* v = v_[Size(worker)].data();
    kernels::GemmTile(tokens, width, d_out, gate_error_.data(), d_out, w_dec, d_out, v, width);
    for (std::int64_t b = 0; b < tokens; ++b)
      rule_->CloseGate(range, h_row + b * count_, v + b * width, u + b * width);
  }
  kernels::GemmTransposedTile(width, d_out, tokens, f, count_, g, d_out, add,
                              w_dec_gradient_.data() + range.first * d_out, d_out);
  kernels::GemmTransposedTile(width, d, tokens, u, width, in.batch->x() + block.first * d, d, add,
                              w_enc_gradient_.data() + range.first * d, d);
}

template <class T>
void DenseStep<T>::Backward(const Input& in, Block block, const T* g, Phases* phases) {
  PhaseTimer timer(phases->backward);
  ForGroups([&](DenseRange range, int worker) {
    BackwardOf(in, block, range, g + block.first * context_.d_out, worker);
  });
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
