#pragma once
// TopK codes, exact over all ranks; with Multi-TopK the 4k largest as well. See activation.h.
// Source: spec algorithms.md 3.1, 3.7 (Gao et al. 2024).

#include <vector>

#include "sae/train/engine/activation.h"
#include "sae/train/engine/global_topk.h"

namespace sae::train {

template <class T>
class TopKActivation final : public Activation<T> {
 public:
  explicit TopKActivation(const Context& context);
  absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                      kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                      Phases* phases) override;
  absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input, Entries<T>* entries,
                                        LatentGradients<T>* gradients, Phases* phases) override;
  Entries<T>* wide() override { return wide_on_ ? &wide_ : nullptr; }

 private:
  const Context& context_;
  GlobalTopK<T> selector_;
  std::vector<std::int64_t> offered_;
  Entries<T> wide_;
  bool wide_on_ = false;
};

/// delta = u, its sums: the backward of codes that are pre-activations, without a penalty.
template <class T>
void PassThrough(Entries<T>* entries, LatentGradients<T>* gradients, ThreadPool& pool);

}  // namespace sae::train
