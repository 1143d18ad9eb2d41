#pragma once
// The dense step's rows of ReLU codes, with penalties sum f, sum f |d_i| and sum f^p. See
// dense_rule.h; the entries' formulas are in relu.cc. Source: spec algorithms.md 1, 3b.3.

#include <vector>

#include "sae/train/engine/dense_rule.h"
#include "sae/train/engine/relu.h"

namespace sae::train {

template <class T>
class DenseRelu final : public DenseRule<T> {
 public:
  /// Borrows both.
  DenseRelu(const Context& context, Relu<T>& relu);
  void Begin(const DenseStart<T>& start) override;
  void Codes(DenseRange range, const T* from, T* f) override;
  void Backward(DenseRange range, const T* h, const T* f, T* u) override;
  absl::StatusOr<PenaltyTerms> Finish(LatentGradients<T>* gradients, Phases* phases) override;
  std::span<const std::int32_t> entries() const override { return active_; }

 private:
  bool anneals() const { return context_.options.penalty == model::Penalty::kLp; }

  const Context& context_;
  Relu<T>& relu_;
  DenseStart<T> start_;
  double share_ = 0;                          // lambda / B
  std::vector<T> slope_;                      // dP / df, of l1 and l1_norm
  std::vector<double> f_sums_, delta_sums_;   // by latent
  std::vector<double> powers_, next_powers_;  // by latent: sum f^p with p now, with the next p
  std::vector<std::int32_t> active_;
};

}  // namespace sae::train
