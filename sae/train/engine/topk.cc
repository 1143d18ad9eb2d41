#include "sae/train/engine/topk.h"

#include <algorithm>

#include "sae/kernels/row_step.h"

namespace sae::train {

template <class T>
void PassThrough(Entries<T>* entries, LatentGradients<T>* gradients, ThreadPool& pool) {
  entries->delta = entries->u;
  kernels::SumByLatent(entries->index, entries->delta.data(), gradients->delta_sums.data(), pool);
  gradients->b_enc = gradients->delta_sums;
}

template <class T>
TopKActivation<T>::TopKActivation(const Context& context)
    : context_(context),
      selector_(context.communicator, context.pool, context.shard,
                context.config.sae.multi_topk ? context.config.sae.k : 0),
      offered_(static_cast<std::size_t>(context.communicator.size()), context.shard.count) {}

template <class T>
absl::Status TopKActivation<T>::Encode(const kernels::EncodeInput<T>& input, bool training,
                                       kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                                       Phases* phases) {
  const std::int64_t k = context_.config.sae.k;
  wide_on_ = training && context_.config.sae.multi_topk;
  out->weighted = false;
  const std::int64_t width = wide_on_ ? std::min(4 * k, context_.shard.latents) : k;
  Entries<T>* first = wide_on_ ? &wide_ : out;
  SAE_RETURN_IF_ERROR(selector_.Select(input, width, offered_, workspace, &first->codes,
                                       &first->finite, phases));
  if (!wide_on_) return absl::OkStatus();
  out->finite = wide_.finite;
  selector_.Narrow(&out->codes, phases);
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<PenaltyTerms> TopKActivation<T>::Backward(const BackwardInput<T>&,
                                                         Entries<T>* entries,
                                                         LatentGradients<T>* gradients,
                                                         Phases* phases) {
  PhaseTimer timer(phases->backward);
  PassThrough(entries, gradients, context_.pool);
  return PenaltyTerms{};
}

template class TopKActivation<float>;
template class TopKActivation<double>;
template void PassThrough(Entries<float>*, LatentGradients<float>*, ThreadPool&);
template void PassThrough(Entries<double>*, LatentGradients<double>*, ThreadPool&);

}  // namespace sae::train
