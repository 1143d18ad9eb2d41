#pragma once
// JumpReLU codes f = z 1[z > theta], and the straight-through gradient of theta by a rectangle
// window of width eps on raw z (z > 0). Penalties: lambda L0, quadratic in L0 / target, or tanh with
// the pre-activation loss. See activation.h. Sources: spec algorithms.md 4 (Rajamanoharan et al.
// 2024, arXiv 2407.14435; Anthropic, January 2025); the frequency penalty is our own definition.

#include <vector>

#include "sae/train/engine/activation.h"

namespace sae::train {

template <class T>
class JumpRelu final : public Activation<T> {
 public:
  JumpRelu(const Context& context, const model::Parameters<T>& parameters);
  absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                      kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                      Phases* phases) override;
  absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input, Entries<T>* entries,
                                        LatentGradients<T>* gradients, Phases* phases) override;
  double PenaltySum(const BackwardInput<T>& input, const Entries<T>& entries) const override;
  void AddState(model::State* state) override;
  void AddMetrics(std::map<std::string, double>* out) const override;

  /// eps; set at the start from the sample, kept by checkpoints.
  double bandwidth() const { return bandwidth_; }
  void set_bandwidth(double bandwidth) { bandwidth_ = bandwidth; }

 private:
  bool tanh() const { return context_.options.penalty == model::Penalty::kTanh; }
  void UpdateThetas();
  void LatentBackward(const BackwardInput<T>& input, std::int64_t latent, Entries<T>* entries,
                      LatentGradients<T>* gradients);
  [[nodiscard]] absl::Status MeasureFrequencies(const Entries<T>& entries, std::int64_t tokens);
  double StepCoefficient(const BackwardInput<T>& input) const;

  const Context& context_;
  const model::Parameters<T>& parameters_;
  double bandwidth_ = 0;
  std::vector<T> theta_, lower_;  // of this step
  std::vector<double> penalty_;   // per latent, of this step
  std::vector<double> frequency_;  // of replicas: share of tokens that fire, per latent
  std::vector<T> x_sum_;          // tanh: sum of x over the batch
};

}  // namespace sae::train
