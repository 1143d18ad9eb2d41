#include "sae/train/engine/global_topk.h"

#include <algorithm>
#include <limits>

namespace sae::train {

template <class T>
void GlobalTopK<T>::Encode(const kernels::EncodeInput<T>& input, std::int64_t width,
                           kernels::EncodeWorkspace<T>* workspace, bool* finite) {
  *finite = true;
  own_.tokens = input.tokens;
  own_.width = width;
  if (width == 0) {
    own_.values.clear();
    own_.ids.clear();
    return;
  }
  // One rank that takes all it finds needs no order by value.
  const bool by_id = communicator_.size() == 1 && !narrows_;
  if (kernels::EncodeTopK(input, width, workspace, &own_, pool_,
                          by_id ? kernels::TopKOrder::kById : kernels::TopKOrder::kByValue))
    return;
  // NaN is in no order: offer what never wins, so that every rank goes on to see the loss.
  *finite = false;
  own_.values.assign(static_cast<std::size_t>(input.tokens * width),
                     -std::numeric_limits<T>::infinity());
  own_.ids.assign(own_.values.size(), static_cast<std::int32_t>(input.first_latent));
}

template <class T>
absl::Status GlobalTopK<T>::Exchange(std::int64_t tokens, std::int64_t k,
                                     std::span<const std::int64_t> offered) {
  counts_.resize(offered.size());
  std::int64_t total = 0;
  for (std::size_t r = 0; r < offered.size(); ++r)
    total += counts_[r] = tokens * std::min(k, offered[r]);
  values_.resize(static_cast<std::size_t>(total));
  ids_.resize(static_cast<std::size_t>(total));
  SAE_RETURN_IF_ERROR(
      communicator_.AllGatherV(own_.values.data(), values_.data(), counts_, DTypeOf<T>()));
  SAE_RETURN_IF_ERROR(communicator_.AllGatherV(own_.ids.data(), ids_.data(), counts_, DType::kI32));
  shards_.resize(offered.size());
  std::int64_t at = 0;
  for (std::size_t r = 0; r < offered.size(); ++r) {
    shards_[r] = {values_.data() + at, ids_.data() + at, std::min(k, offered[r])};
    at += counts_[r];
  }
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::Select(const kernels::EncodeInput<T>& input, std::int64_t k,
                                   std::int64_t shard_latents,
                                   std::span<const std::int64_t> offered,
                                   kernels::EncodeWorkspace<T>* workspace, kernels::Codes<T>* codes,
                                   bool* finite, Phases* phases) {
  {
    PhaseTimer timer(phases->encode);
    Encode(input, std::min(k, offered[static_cast<std::size_t>(communicator_.rank())]), workspace,
           finite);
  }
  if (communicator_.size() > 1) {
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(Exchange(input.tokens, k, offered));
  }
  Narrow(k, shard_latents, input.first_latent, codes, phases);
  return absl::OkStatus();
}

template <class T>
void GlobalTopK<T>::Narrow(std::int64_t k, std::int64_t shard_latents, std::int64_t first_latent,
                           kernels::Codes<T>* codes, Phases* phases) {
  PhaseTimer timer(phases->select);
  const std::int32_t* winners = nullptr;
  if (communicator_.size() > 1) {
    winners_.resize(static_cast<std::size_t>(own_.tokens));
    kernels::CountWinners(shards_, own_.tokens, k, communicator_.rank(), winners_.data(), pool_);
    winners = winners_.data();
  } else if (k < own_.width) {
    winners_.assign(static_cast<std::size_t>(own_.tokens), static_cast<std::int32_t>(k));
    winners = winners_.data();
  }
  kernels::CodesFromTopK(own_, winners, first_latent, shard_latents, codes, pool_);
}

template class GlobalTopK<float>;
template class GlobalTopK<double>;

}  // namespace sae::train
