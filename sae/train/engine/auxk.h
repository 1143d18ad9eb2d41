#pragma once
// AuxK: the latents that have not fired for long reconstruct the residual of the main codes, so
// that they get a gradient again. Exact top aux_k among the dead latents of all ranks, on their own
// encode. Collective. Keeps its buffers. Not thread-safe. L_aux = alpha V0 mean(ea^2) / V: ea =
// W_dec^T a + x_hat - x', V = variance of the residual over the batch (mean over tokens and d, no
// gradient), V0 = R(x - mean x) on the initial sample: every reduction R is then a constant times
// the loss of Gao et al. 2024 (arXiv 2406.04093) section A.2, in every term.

#include <cstdint>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/codes.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/column_decoder.h"
#include "sae/train/engine/global_topk.h"
#include "sae/train/engine/reconstructor.h"

namespace sae::train {

template <class T>
class AuxK {
 public:
  AuxK(const Context& context, Reconstructor<T>& reconstructor);

  struct Input {
    kernels::EncodeInput<T> encode;  ///< of the whole shard; the subset is set here
    const Batch<T>* batch = nullptr;
    const std::int64_t* tokens_since_fired = nullptr;
    const model::Parameters<T>* parameters = nullptr;
    const T* row_scale = nullptr;  ///< on-the-fly norms
    const T* x_hat = nullptr;      ///< tokens x d_out: the main reconstruction, scaled units
    double alpha_variance = 0;     ///< alpha * V0
    ColumnDecoder<T>* columns = nullptr;  ///< where the decoder is cut by columns: has x_hat and g
  };

  /// The dead latents' codes; active() false where no rank has a dead latent.
  [[nodiscard]] absl::Status Select(const Input& input, kernels::EncodeWorkspace<T>* workspace,
                                    Phases* phases);
  /// After Select. Leaves active() false, and loss() 0, where V is 0 or not finite.
  [[nodiscard]] absl::Status Run(const Input& input, Phases* phases);

  bool active() const { return active_; }
  double loss() const { return loss_; }
  const kernels::Codes<T>& codes() const { return codes_; }
  const kernels::LatentIndex& index() const { return index_; }
  const T* delta() const { return delta_.data(); }
  /// dL_aux / d(reconstruction), tokens x d.
  const T* g() const { return g_.data(); }

 private:
  /// Fills dead_ and offered_; true where any rank has a dead latent.
  [[nodiscard]] absl::StatusOr<bool> FindDead(const std::int64_t* tokens_since_fired,
                                              Phases* phases);

  [[nodiscard]] absl::StatusOr<double> VarianceOfAll(double own);
  [[nodiscard]] absl::Status RunColumns(const Input& input, Phases* phases);

  const Context& context_;
  Reconstructor<T>& reconstructor_;
  GlobalTopK<T> selector_;
  std::vector<std::int32_t> dead_;     // local ids, ascending
  std::vector<std::int64_t> offered_;  // dead latents of each rank
  kernels::Codes<T> codes_;
  kernels::LatentIndex index_;
  std::vector<T> delta_;
  kernels::AlignedVector<T> g_;
  std::vector<double> means_;
  double loss_ = 0;
  bool active_ = false;
  bool finite_ = true;
};

}  // namespace sae::train
