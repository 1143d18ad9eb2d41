#pragma once
// The dense step's rows of gated codes: the gate's own codes and reconstruction first, then
// f = 1[pi > 0] ReLU(m). See dense_rule.h; the entries' formulas are in gated.cc. Source: spec
// algorithms.md 2.

#include <vector>

#include "sae/train/engine/dense_rule.h"

namespace sae::train {

template <class T>
class DenseGated final : public DenseRule<T> {
 public:
  /// Borrows both.
  DenseGated(const Context& context, const model::Parameters<T>& parameters);
  void Begin(const DenseStart<T>& start) override;
  bool gates() const override { return true; }
  void Open(DenseRange range, T* product, T* gate) override;
  void Codes(DenseRange range, const T* from, T* f) override;
  void Backward(DenseRange range, const T* h, const T* f, T* u) override;
  void CloseGate(DenseRange range, const T* h, const T* v, T* u) override;
  absl::StatusOr<PenaltyTerms> Finish(LatentGradients<T>* gradients, Phases* phases) override;
  std::span<const std::int32_t> entries() const override { return open_; }

 private:
  const model::Parameters<T>& parameters_;
  DenseStart<T> start_;
  std::vector<T> magnitude_;  // e^r
  // By latent: ReLU(pi), dL/dpi, dL/dm, dL/dm h, dL/dh.
  std::vector<double> gate_sums_, d_gate_, d_magnitude_, d_scale_, d_h_;
  std::vector<std::int32_t> open_;
};

}  // namespace sae::train
