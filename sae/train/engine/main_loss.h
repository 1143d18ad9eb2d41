#pragma once
// Reconstruction of the main codes, its error against the targets, and the gradient that reaches
// each code. One prefix (every architecture but Matryoshka) or G nested ones: with x_hat^(g) the
// reconstruction from latents below m_g, L = sum_g w_g R(x_hat^(g) - y), and latents of group g see
// H^(g) = sum over g' >= g of dL/dx_hat^(g'). Collective. Keeps its buffers. Not thread-safe.
// Sources: spec algorithms.md 0.2, 3b.2, 7.

#include <cstdint>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/column_decoder.h"
#include "sae/train/engine/entries.h"
#include "sae/train/engine/reconstructor.h"
#include "sae/train/engine/skip.h"

namespace sae::train {

template <class T>
class MainLoss {
 public:
  MainLoss(const Context& context, Reconstructor<T>& reconstructor);

  struct Input {
    const Batch<T>* batch = nullptr;
    const model::Parameters<T>* parameters = nullptr;
    const T* row_scale = nullptr;  ///< on-the-fly norms
    double rho = 0;                ///< R(e) = rho sum e^2
    ColumnDecoder<T>* columns = nullptr;  ///< where the decoder is cut by columns
  };
  /// x_hat() alone.
  [[nodiscard]] absl::Status Forward(const Input& input, const Entries<T>& entries, Phases* phases);
  /// x_hat(), g, entries->u; loss(). Of a decoder cut by columns u and loss() alone: the rest is
  /// with it.
  [[nodiscard]] absl::Status ForwardBackward(const Input& input, Entries<T>* entries,
                                             Phases* phases);

  /// sum over prefixes, weighted; NaN where a pre-activation was.
  double loss() const { return loss_; }
  T* x_hat() { return x_hat_.data(); }
  /// The gradient that latents of group g see, tokens x d_out; group 0 sees the whole loss's.
  T* g(std::size_t group = 0) { return g_[group].data(); }
  std::size_t groups() const { return ranges_.size(); }
  /// Local ids of group g; may be empty.
  LatentRange range(std::size_t group) const { return ranges_[group]; }
  Skip<T>& skip() { return skip_; }

 private:
  typename ColumnDecoder<T>::Input ColumnInput(const Input& input,
                                               const Entries<T>& entries) const;
  [[nodiscard]] absl::Status Plain(const Input& input, Entries<T>* entries, Phases* phases);
  [[nodiscard]] absl::Status Prefixes(const Input& input, Entries<T>* entries, Phases* phases);
  void GroupGradients(const Input& input, Entries<T>* entries);
  typename Reconstructor<T>::Input ReconstructorInput(const Input& input,
                                                      const Entries<T>& entries) const;

  const Context& context_;
  Reconstructor<T>& reconstructor_;
  Skip<T> skip_;
  std::vector<LatentRange> ranges_;
  kernels::AlignedVector<T> x_hat_;
  std::vector<kernels::AlignedVector<T>> g_;
  double loss_ = 0;
};

}  // namespace sae::train
