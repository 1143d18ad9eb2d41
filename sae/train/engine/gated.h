#pragma once
// Gated codes: f = 1[pi > 0] ReLU(m), pi = h + b_gate, m = e^r h + b_mag, h = W_g (x - b_dec); the
// gate learns from lambda sum pi and from a second reconstruction of ReLU(pi) through the decoder,
// which gets no gradient from it. See activation.h. Source: spec algorithms.md 2 (Rajamanoharan et
// al. 2024, arXiv 2404.16014).

#include <vector>

#include "sae/train/engine/activation.h"

namespace sae::train {

template <class T>
class Gated final : public Activation<T> {
 public:
  Gated(const Context& context, const model::Parameters<T>& parameters);
  bool folds_encoder_bias() const override { return false; }
  absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                      kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                      Phases* phases) override;
  absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input, Entries<T>* entries,
                                        LatentGradients<T>* gradients, Phases* phases) override;
  double PenaltySum(const BackwardInput<T>& input, const Entries<T>& entries) const override;
  std::unique_ptr<DenseRule<T>> CreateDenseRule() override;

 private:
  /// The gate's own reconstruction: a_ = its error's gradient; v_ per entry; its loss.
  [[nodiscard]] absl::StatusOr<double> GateLoss(const BackwardInput<T>& input,
                                                const Entries<T>& entries, Phases* phases);
  void LatentBackward(const BackwardInput<T>& input, std::int64_t latent, Entries<T>* entries,
                      LatentGradients<T>* gradients) const;

  const Context& context_;
  const model::Parameters<T>& parameters_;
  std::vector<T> lower_, scale_;   // -b_gate, e^r
  std::vector<T> gate_, v_;        // ReLU(pi) and d_i . A per entry
  kernels::AlignedVector<T> hat_, a_;  // batch x d
};

}  // namespace sae::train
