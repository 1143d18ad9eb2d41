#pragma once
// Multi-TopK: the loss of the 4k largest codes beside that of the k largest, L = L(k) + L(4k) / 8.
// Collective. Keeps its buffers. Not thread-safe. Source: spec algorithms.md 3.7 (Gao et al. 2024).

#include <vector>

#include "sae/kernels/row_step.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/main_loss.h"

namespace sae::train {

template <class T>
class WideLoss {
 public:
  static constexpr double kWeight = 1.0 / 8;

  WideLoss(const Context& context, Reconstructor<T>& reconstructor)
      : main_(context, reconstructor) {}

  /// `input.rho` is that of the main loss; entries->index is built.
  [[nodiscard]] absl::Status Run(typename MainLoss<T>::Input input, Entries<T>* entries,
                                 Phases* phases) {
    entries_ = entries;
    input.rho *= kWeight;
    SAE_RETURN_IF_ERROR(main_.ForwardBackward(input, entries, phases));
    entries->delta = entries->u;
    return absl::OkStatus();
  }
  double loss() const { return main_.loss(); }
  T* g() { return main_.g(); }
  const Entries<T>& entries() const { return *entries_; }

 private:
  MainLoss<T> main_;
  Entries<T>* entries_ = nullptr;
};

}  // namespace sae::train
