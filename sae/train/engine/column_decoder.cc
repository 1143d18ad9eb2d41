// Reconstruction, error and the gradients of codes; layout and update are in column_update.cc.
#include "sae/train/engine/column_decoder.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/token_pass.h"
#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/residual.h"

namespace sae::train {
namespace {

constexpr std::int64_t kEntries = std::int64_t{1} << 16;  // of one exchange of parts

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
ColumnDecoder<T>::ColumnDecoder(const Context& context)
    : context_(context),
      width_(context.d_out / kColumnBlocks),
      own_(kColumnBlocks / context.communicator.size()),
      main_(context),
      aux_(context) {
  std::int64_t first = 0;
  const Vector block(Size(own_ * ValuesOf(context.batch())));
  for (const std::int64_t last : context.options.prefixes) {
    groups_.push_back({first, last});
    main_.g.push_back(block);
    first = last;
  }
  targets_ = x_hat_ = block;
  if (groups_.size() > 1) temporary_.resize(Size(ValuesOf(context.batch())));
  if (context.config.sae.aux_k.value_or(0) > 0) aux_.g.push_back(block);
  norm2_.resize(Size(context.shard.latents));
  const int ranks = context.communicator.size();
  for (int s = 0; s < ranks; ++s) {
    const model::LatentShard shard = model::ShardOf(context.shard.latents, ranks, s);
    for (std::int64_t i = 0; i < shard.count; ++i)
      global_.push_back(static_cast<std::int32_t>(shard.Global(i)));
  }
}

template <class T>
void ColumnDecoder<T>::LoadTargets(const Batch<T>& batch) {
  const std::int64_t tokens = batch.tokens(), first = context_.communicator.rank() * own_;
  context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T* row = batch.y() + b * context_.d_out + first * width_;
      for (std::int64_t c = 0; c < own_; ++c)
        std::copy_n(row + c * width_, width_, targets_.data() + (c * tokens + b) * width_);
    }
  });
}

template <class T>
void ColumnDecoder<T>::FillBias(const T* bias, std::int64_t tokens, T* out) {
  const T* own = bias + context_.communicator.rank() * own_ * width_;
  for (std::int64_t c = 0; c < own_; ++c) {
    kernels::FillRows(own + c * width_, tokens, width_, out + c * ValuesOf(tokens), context_.pool);
  }
}

template <class T>
absl::StatusOr<double> ColumnDecoder<T>::SumBlocks(std::span<const double> own, Phases* phases) {
  PhaseTimer timer(phases->exchange);
  all_sums_.resize(Size(kColumnBlocks));
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(own, std::span<double>(all_sums_)));
  double sum = 0;
  for (const double part : all_sums_) sum += part;
  return sum;
}

template <class T>
absl::Status ColumnDecoder<T>::AddParts(const T* own, std::int64_t count, T* out, Phases* phases) {
  for (std::int64_t first = 0; first < count; first += kEntries) {
    const std::int64_t part = std::min(kEntries, count - first);
    const T* all = own;
    std::int64_t stride = count, at = first;
    if (context_.communicator.size() > 1) {
      PhaseTimer timer(phases->exchange);
      gathered_.resize(Size(own_ * part));
      for (std::int64_t c = 0; c < own_; ++c)
        std::copy_n(own + c * count + first, part, gathered_.begin() + c * part);
      all_parts_.resize(Size(kColumnBlocks * part));
      SAE_RETURN_IF_ERROR(
          context_.communicator.AllGather(std::span<const T>(gathered_), std::span<T>(all_parts_)));
      all = all_parts_.data();
      stride = part;
      at = 0;
    }
    PhaseTimer timer(phases->backward);
    for (std::int64_t e = 0; e < part; ++e) {
      T sum = all[at + e];
      for (std::int64_t c = 1; c < kColumnBlocks; ++c) sum += all[c * stride + at + e];
      out[first + e] = sum;
    }
  }
  return absl::OkStatus();
}

template <class T>
absl::Status ColumnDecoder<T>::Forward(const Input& in, Phases* phases) {
  SAE_RETURN_IF_ERROR(main_.codes.Gather(*in.codes, in.f, in.finite, phases));
  PhaseTimer timer(phases->decode);
  const std::int64_t tokens = in.batch->tokens();
  FillBias(in.bias, tokens, x_hat_.data());
  if (!main_.codes.finite()) {
    std::fill(x_hat_.begin(), x_hat_.end(), std::numeric_limits<T>::quiet_NaN());
    return absl::OkStatus();
  }
  for (std::int64_t c = 0; c < own_; ++c) {
    kernels::SparseDecodeParams<T> decode;
    decode.indptr = main_.codes.codes().indptr.data();
    decode.ids = main_.codes.codes().ids.data();
    decode.values = main_.codes.f();
    decode.decoder = in.w + c * context_.shard.latents * width_;
    decode.output = x_hat_.data() + c * ValuesOf(tokens);
    decode.tokens = tokens;
    decode.d = width_;
    kernels::cpu::SparseDecode(decode, context_.pool);
  }
  return absl::OkStatus();
}

// One reconstruction of all entries by `f`: hat, its gradient g, and u of all entries.
template <class T>
absl::StatusOr<double> ColumnDecoder<T>::PlainLoss(const Input& in, const T* f, Part* part,
                                                   Vector* x_hat, Vector* g, std::vector<T>* u,
                                                   Phases* phases) {
  const std::int64_t tokens = in.batch->tokens(), nnz = part->codes.codes().nnz();
  if (!part->codes.finite()) return std::numeric_limits<double>::quiet_NaN();
  u_parts_.resize(Size(own_ * nnz));
  own_sums_.resize(Size(own_));
  {
    PhaseTimer timer(phases->decode);
    FillBias(in.bias, tokens, x_hat->data());
    for (std::int64_t c = 0; c < own_; ++c) {
      kernels::TokenPassInput<T> pass;
      pass.codes = &part->codes.codes();
      pass.f = f;
      pass.decoder = in.w + c * context_.shard.latents * width_;
      pass.target = targets_.data() + c * ValuesOf(tokens);
      pass.target_scale = in.batch->scale();
      pass.factor = static_cast<T>(2 * in.rho);
      pass.d = width_;
      own_sums_[Size(c)] = kernels::TokenPass(pass, x_hat->data() + c * ValuesOf(tokens),
                                              g->data() + c * ValuesOf(tokens),
                                              u_parts_.data() + c * nnz, context_.pool);
    }
  }
  SAE_ASSIGN_OR_RETURN(const double squares, SumBlocks(own_sums_, phases));
  u->resize(Size(nnz));
  SAE_RETURN_IF_ERROR(AddParts(u_parts_.data(), nnz, u->data(), phases));
  return in.rho * squares;
}

template <class T>
void ColumnDecoder<T>::AddRange(const Part& part, const T* w, LatentRange range, T* out) {
  const kernels::Codes<T>& codes = part.codes.codes();
  context_.pool.ParallelFor(codes.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const auto first = codes.ids.begin() + codes.indptr[Size(b)];
      const auto last = codes.ids.begin() + codes.indptr[Size(b) + 1];
      auto it = std::lower_bound(first, last, range.first,
                                 [](std::int32_t id, std::int64_t bound) { return id < bound; });
      for (; it != last && *it < range.last; ++it) {
        const T f = codes.values[Size(it - codes.ids.begin())];
        kernels::Axpy(width_, f, w + std::int64_t{*it} * width_, out + b * width_);
      }
    }
  });
}

template <class T>
void ColumnDecoder<T>::DotGroups(const Part& part, const T* w, std::int64_t block, T* u) {
  const kernels::Codes<T>& codes = part.codes.codes();
  const std::int64_t first = block * ValuesOf(codes.tokens);
  context_.pool.ParallelFor(codes.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      std::size_t group = 0;
      for (std::int64_t e = codes.indptr[Size(b)]; e < codes.indptr[Size(b) + 1]; ++e) {
        const std::int64_t id = codes.ids[Size(e)];
        while (id >= groups_[group].last) ++group;
        u[e] = kernels::Dot(width_, w + id * width_, part.g[group].data() + first + b * width_);
      }
    }
  });
}

// As MainLoss of nested prefixes, block by block.
template <class T>
absl::StatusOr<double> ColumnDecoder<T>::PrefixLoss(const Input& in, Phases* phases) {
  const std::int64_t tokens = in.batch->tokens(), nnz = main_.codes.codes().nnz();
  const std::int64_t values = ValuesOf(tokens);
  if (!main_.codes.finite()) return std::numeric_limits<double>::quiet_NaN();
  u_parts_.resize(Size(own_ * nnz));
  own_sums_.assign(Size(own_), 0.0);
  PhaseTimer timer(phases->decode);
  FillBias(in.bias, tokens, x_hat_.data());
  for (std::int64_t c = 0; c < own_; ++c) {
    const T* w = in.w + c * context_.shard.latents * width_;
    T* hat = x_hat_.data() + c * values;
    for (std::size_t group = 0; group < groups_.size(); ++group) {
      std::fill_n(temporary_.begin(), values, T(0));
      AddRange(main_, w, groups_[group], temporary_.data());
      kernels::Axpy(values, T(1), temporary_.data(), hat);
      const double weight = in.rho * context_.options.prefix_weights[group];
      own_sums_[Size(c)] +=
          weight * kernels::Residual(targets_.data() + c * values, in.batch->scale(), hat, tokens,
                                     width_, static_cast<T>(2 * weight),
                                     main_.g[group].data() + c * values, context_.pool);
    }
    for (std::size_t group = groups_.size() - 1; group > 0; --group) {
      kernels::Axpy(values, T(1), main_.g[group].data() + c * values,
                    main_.g[group - 1].data() + c * values);
    }
    DotGroups(main_, w, c, u_parts_.data() + c * nnz);
  }
  Phases inner;
  SAE_ASSIGN_OR_RETURN(const double loss, SumBlocks(own_sums_, &inner));
  main_.u.resize(Size(nnz));
  SAE_RETURN_IF_ERROR(AddParts(u_parts_.data(), nnz, main_.u.data(), &inner));
  phases->exchange += inner.exchange;
  phases->decode -= inner.exchange;
  return loss;
}

template <class T>
absl::StatusOr<double> ColumnDecoder<T>::ForwardBackward(const Input& in, T* u, Phases* phases) {
  aux_on_ = false;
  SAE_RETURN_IF_ERROR(main_.codes.Gather(*in.codes, in.f, in.finite, phases));
  {
    PhaseTimer timer(phases->decode);
    LoadTargets(*in.batch);
  }
  double loss = 0;
  if (groups_.size() == 1) {
    SAE_ASSIGN_OR_RETURN(
        loss, PlainLoss(in, main_.codes.f(), &main_, &x_hat_, &main_.g[0], &main_.u, phases));
  } else {
    SAE_ASSIGN_OR_RETURN(loss, PrefixLoss(in, phases));
  }
  if (!main_.codes.finite()) return loss;
  PhaseTimer timer(phases->backward);
  main_.codes.Own(main_.u.data(), u);
  return loss;
}

template <class T>
absl::StatusOr<double> ColumnDecoder<T>::SecondLoss(const Input& in, const T* values, T* v,
                                                    Phases* phases) {
  second_hat_.resize(x_hat_.size());
  second_g_.resize(x_hat_.size());
  SAE_RETURN_IF_ERROR(main_.codes.GatherValues(values, &second_f_, phases));
  SAE_ASSIGN_OR_RETURN(const double loss, PlainLoss(in, second_f_.data(), &main_, &second_hat_,
                                                    &second_g_, &second_u_, phases));
  PhaseTimer timer(phases->backward);
  main_.codes.Own(second_u_.data(), v);
  return loss;
}

template <class T>
absl::StatusOr<bool> ColumnDecoder<T>::Aux(const Input& in, double alpha_variance, double* loss,
                                           T* delta, Phases* phases) {
  aux_on_ = false;
  *loss = 0;
  SAE_RETURN_IF_ERROR(aux_.codes.Gather(*in.codes, in.f, in.finite, phases));
  const Batch<T>& batch = *in.batch;
  const std::int64_t tokens = batch.tokens(), values = ValuesOf(tokens);
  const std::int64_t nnz = aux_.codes.codes().nnz();
  T* g = aux_.g[0].data();
  std::fill_n(g, own_ * values, aux_.codes.finite() ? T(0) : std::numeric_limits<T>::quiet_NaN());
  own_sums_.resize(Size(own_));
  std::vector<double>& means = workspace_.norms;  // scratch
  means.resize(std::max(means.size(), Size(width_)));
  for (std::int64_t c = 0; c < own_; ++c) {
    PhaseTimer timer(phases->decode);
    if (aux_.codes.finite()) {
      AddRange(aux_, in.w + c * context_.shard.latents * width_, {0, context_.shard.latents},
               g + c * values);
    }
    own_sums_[Size(c)] =
        ResidualVariance(targets_.data() + c * values, batch.scale(), x_hat_.data() + c * values,
                         tokens, width_, means.data(), context_.pool);
  }
  SAE_ASSIGN_OR_RETURN(double variance, SumBlocks(own_sums_, phases));
  variance /= static_cast<double>(kColumnBlocks);
  if (!(variance > 0) || !std::isfinite(variance)) return false;
  const double scale = alpha_variance / (static_cast<double>(tokens * context_.d_out) * variance);
  u_parts_.resize(Size(own_ * nnz));
  for (std::int64_t c = 0; c < own_; ++c) {
    PhaseTimer timer(phases->decode);
    own_sums_[Size(c)] =
        AuxResidual(targets_.data() + c * values, batch.scale(), x_hat_.data() + c * values, tokens,
                    width_, static_cast<T>(2 * scale), g + c * values, context_.pool);
    kernels::LatentGradient(aux_.codes.codes(), in.w + c * context_.shard.latents * width_,
                            g + c * values, width_, u_parts_.data() + c * nnz, context_.pool);
  }
  SAE_ASSIGN_OR_RETURN(const double squares, SumBlocks(own_sums_, phases));
  *loss = scale * squares;
  aux_.u.resize(Size(nnz));
  SAE_RETURN_IF_ERROR(AddParts(u_parts_.data(), nnz, aux_.u.data(), phases));
  PhaseTimer timer(phases->backward);
  aux_.codes.Own(aux_.u.data(), delta);
  aux_on_ = true;
  return true;
}

template class ColumnDecoder<float>;
template class ColumnDecoder<double>;

}  // namespace sae::train
