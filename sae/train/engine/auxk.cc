#include "sae/train/engine/auxk.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/train/engine/residual.h"

namespace sae::train {

template <class T>
AuxK<T>::AuxK(const Context& context, std::int64_t batch)
    : context_(context),
      selector_(context.communicator, context.pool),
      offered_(static_cast<std::size_t>(context.communicator.size())),
      g_(static_cast<std::size_t>(batch * context.d)),
      means_(static_cast<std::size_t>(context.d)) {
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
absl::Status AuxK<T>::Reconstruct(const Input& in, bool finite, Phases* phases) {
  const auto values = static_cast<std::size_t>(in.encode.tokens * context_.d);
  {
    PhaseTimer timer(phases->aux);
    std::fill_n(g_.begin(), values, T(0));
    kernels::SparseDecodeParams<T> decode;
    decode.indptr = codes_.indptr.data();
    decode.ids = codes_.ids.data();
    decode.values = codes_.values.data();
    decode.decoder = in.parameters->w_dec.data();
    decode.output = g_.data();
    decode.tokens = in.encode.tokens;
    decode.d = context_.d;
    kernels::cpu::SparseDecode(decode, context_.pool);
    if (!finite) std::fill_n(g_.begin(), values, std::numeric_limits<T>::quiet_NaN());
  }
  if (context_.communicator.size() == 1) return absl::OkStatus();
  PhaseTimer timer(phases->exchange);
  return context_.communicator.AllReduceSum(std::span<T>(g_.data(), values));
}

template <class T>
absl::Status AuxK<T>::Run(const Input& in, kernels::EncodeWorkspace<T>* workspace, Phases* phases) {
  active_ = false;
  loss_ = 0;
  SAE_ASSIGN_OR_RETURN(const bool any, FindDead(in.tokens_since_fired, phases));
  if (!any) return absl::OkStatus();
  kernels::EncodeInput<T> encode = in.encode;
  encode.subset = dead_.data();
  encode.subset_size = static_cast<std::int64_t>(dead_.size());
  bool finite = true;
  Phases inner;
  const absl::Status selected =
      selector_.Select(encode, *context_.config.sae.aux_k, context_.shard.count, offered_,
                       workspace, &codes_, &finite, &inner);
  phases->aux += inner.encode + inner.select;
  phases->exchange += inner.exchange;
  SAE_RETURN_IF_ERROR(selected);
  SAE_RETURN_IF_ERROR(Reconstruct(in, finite, phases));
  PhaseTimer timer(phases->aux);
  const std::int64_t tokens = in.encode.tokens;
  const double variance = ResidualVariance(in.encode.x, in.encode.scale, in.x_hat, tokens,
                                           context_.d, means_.data(), context_.pool);
  if (!(variance > 0) || !std::isfinite(variance)) return absl::OkStatus();
  const double scale = in.alpha_variance / (static_cast<double>(tokens * context_.d) * variance);
  loss_ = scale * AuxResidual(in.encode.x, in.encode.scale, in.x_hat, tokens, context_.d,
                              static_cast<T>(2 * scale), g_.data(), context_.pool);
  delta_.resize(static_cast<std::size_t>(codes_.nnz()));
  kernels::LatentGradient(codes_, in.parameters->w_dec.data(), g_.data(), context_.d, delta_.data(),
                          context_.pool);
  kernels::BuildLatentIndex(codes_, &index_);
  active_ = true;
  return absl::OkStatus();
}

template class AuxK<float>;
template class AuxK<double>;

}  // namespace sae::train
