#pragma once
// ReLU codes with an L1-like penalty: sum f (2023), sum f |d_i| (April 2024), sum f^p (p-annealed).
// See activation.h. Source: spec algorithms.md 1, 3b.3.

#include <vector>

#include "sae/optim/p_anneal.h"
#include "sae/train/engine/activation.h"

namespace sae::train {

template <class T>
class Relu final : public Activation<T> {
 public:
  explicit Relu(const Context& context);
  absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                      kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                      Phases* phases) override;
  absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input, Entries<T>* entries,
                                        LatentGradients<T>* gradients, Phases* phases) override;
  double PenaltySum(const BackwardInput<T>& input, const Entries<T>& entries) const override;
  std::unique_ptr<DenseRule<T>> CreateDenseRule() override;
  void Commit() override;
  void AddState(model::State* state) override;
  void AddMetrics(std::map<std::string, double>* out) const override;

  const optim::PAnneal& anneal() const { return anneal_; }
  /// d f^p / df at f > 0.
  double Slope(double f) const;
  /// Over this rank's codes of a step: sums of f^p and f^next_p. Collective.
  [[nodiscard]] absl::Status ReducePowers(double now, double next, std::int64_t tokens,
                                          Phases* phases);
  /// Sum of f^p over all ranks' codes of the last step, per token.
  double power_sum() const { return power_sums_[0]; }

 private:
  bool anneals() const { return context_.options.penalty == model::Penalty::kLp; }
  double SumOfPowers(const Entries<T>& entries, double p) const;
  [[nodiscard]] absl::Status SumPowers(const BackwardInput<T>& input, const Entries<T>& entries,
                                       Phases* phases);

  const Context& context_;
  optim::PAnneal anneal_;
  double power_sums_[2] = {0, 0};  // of this step, all ranks, per token: with p now, with the next p
  std::vector<double> latent_sums_;  // fixed reduction
};

}  // namespace sae::train
