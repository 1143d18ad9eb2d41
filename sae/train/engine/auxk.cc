#include "sae/train/engine/auxk.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/train/engine/residual.h"

namespace sae::train {

template <class T>
AuxK<T>::AuxK(const Context& context, Reconstructor<T>& reconstructor)
    : context_(context),
      reconstructor_(reconstructor),
      selector_(context.communicator, context.pool, context.shard),
      offered_(static_cast<std::size_t>(context.communicator.size())),
      g_(static_cast<std::size_t>(context.options.columns ? 0 : context.batch() * context.d_out)),
      means_(static_cast<std::size_t>(context.d_out + 1)) {
  dead_.reserve(static_cast<std::size_t>(context.shard.count));
}

template <class T>
absl::StatusOr<bool> AuxK<T>::FindDead(const std::int64_t* since, Phases* phases) {
  dead_.clear();
  const std::int64_t threshold = DeadAfter(context_.config);
  for (std::int64_t i = 0; i < context_.shard.count; ++i) {
    if (since[i] >= threshold) dead_.push_back(static_cast<std::int32_t>(i));
  }
  PhaseTimer timer(phases->exchange);
  const std::int64_t own = static_cast<std::int64_t>(dead_.size());
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(std::span<const std::int64_t>(&own, 1),
                                                      std::span<std::int64_t>(offered_)));
  return std::any_of(offered_.begin(), offered_.end(), [](std::int64_t n) { return n > 0; });
}

template <class T>
absl::Status AuxK<T>::Select(const Input& in, kernels::EncodeWorkspace<T>* workspace,
                             Phases* phases) {
  active_ = false;
  loss_ = 0;
  SAE_ASSIGN_OR_RETURN(const bool any, FindDead(in.tokens_since_fired, phases));
  if (!any) return absl::OkStatus();
  kernels::EncodeInput<T> encode = in.encode;
  encode.subset = dead_.data();
  encode.subset_size = static_cast<std::int64_t>(dead_.size());
  Phases inner;
  finite_ = true;
  const absl::Status selected =
      selector_.Select(encode, *context_.config.sae.aux_k, offered_, workspace, &codes_,
                       &finite_, &inner);
  phases->aux += inner.encode + inner.select;
  phases->exchange += inner.exchange;
  SAE_RETURN_IF_ERROR(selected);
  PhaseTimer timer(phases->aux);
  kernels::BuildLatentIndex(codes_, &index_, context_.pool);
  active_ = true;
  return absl::OkStatus();
}

// From each replica's variance about its own means, which means_ holds.
template <class T>
absl::StatusOr<double> AuxK<T>::VarianceOfAll(double own) {
  const auto d = static_cast<std::size_t>(context_.d_out);
  const auto mean_square = [&] {
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += means_[j] * means_[j];
    return sum / static_cast<double>(d);
  };
  means_[d] = own + mean_square();
  SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<double>(means_)));
  return means_[d] - mean_square();
}

template <class T>
absl::Status AuxK<T>::RunColumns(const Input& in, Phases* phases) {
  typename ColumnDecoder<T>::Input c;
  c.batch = in.batch;
  c.w = in.parameters->w_dec.data();
  c.codes = &codes_;
  c.f = codes_.values.data();
  c.finite = finite_;
  delta_.resize(static_cast<std::size_t>(codes_.nnz()));
  Phases inner;
  SAE_ASSIGN_OR_RETURN(active_,
                       in.columns->Aux(c, in.alpha_variance, &loss_, delta_.data(), &inner));
  phases->aux += inner.select + inner.decode + inner.backward;
  phases->exchange += inner.exchange;
  return absl::OkStatus();
}

template <class T>
absl::Status AuxK<T>::Run(const Input& in, Phases* phases) {
  if (!active_) return absl::OkStatus();
  active_ = false;
  if (in.columns != nullptr) return RunColumns(in, phases);
  typename Reconstructor<T>::Input r;
  r.codes = &codes_;
  r.f = codes_.values.data();
  r.range = {0, context_.shard.count};
  r.decoder = in.parameters->w_dec.data();
  r.row_scale = in.row_scale;
  r.finite = finite_;
  Phases inner;
  SAE_RETURN_IF_ERROR(reconstructor_.Run(r, g_.data(), &inner));
  phases->aux += inner.decode;
  phases->exchange += inner.exchange;
  PhaseTimer timer(phases->aux);
  const Batch<T>& batch = *in.batch;
  const std::int64_t d = context_.d_out;
  double variance = ResidualVariance(batch.y(), batch.scale(), in.x_hat, batch.tokens(), d,
                                     means_.data(), context_.pool);
  if (context_.replicas() > 1) {
    SAE_ASSIGN_OR_RETURN(variance, VarianceOfAll(variance));
  }
  if (!(variance > 0) || !std::isfinite(variance)) return absl::OkStatus();
  const double scale = in.alpha_variance / (static_cast<double>(batch.tokens() * d) * variance);
  loss_ = scale * AuxResidual(batch.y(), batch.scale(), in.x_hat, batch.tokens(), d,
                              static_cast<T>(2 * scale), g_.data(), context_.pool);
  delta_.resize(static_cast<std::size_t>(codes_.nnz()));
  kernels::LatentGradient(codes_, in.parameters->w_dec.data(), g_.data(), d, delta_.data(),
                          context_.pool, in.row_scale);
  active_ = true;
  return absl::OkStatus();
}

template class AuxK<float>;
template class AuxK<double>;

}  // namespace sae::train
