#pragma once
// Gradient rows of the latents of a shard, averaged over the replicas and handed to their owners:
// rows are written out a chunk at a time, reduced by ReduceScatter, and kept by the rank that owns
// them until the optimizer has used them. Then the owners' new rows go back to all. Memory: owned
// rows of both matrices, and one chunk of 4 MiB (or D rows). Collective over the replicas of a
// shard. Keeps its buffers. Not thread-safe. Source: spec numerics.md 4, performance.md (f).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/row_step.h"
#include "sae/train/engine/context.h"

namespace sae::train {

template <class T>
class GradientReducer {
 public:
  explicit GradientReducer(const Context& context);

  /// The sums that `input` describes; its norm_gradient only where the decoder's rule keeps it.
  [[nodiscard]] absl::Status Reduce(const kernels::RowGradientInput<T>& input, const T* w_dec,
                                    Phases* phases);
  /// The same of matrices that are written out already, count x d and count x d_out.
  [[nodiscard]] absl::Status ReduceDense(const T* w_enc_gradient, const T* w_dec_gradient,
                                         Phases* phases);
  /// What kernels::RowUpdate takes for the owned latents: of each its two reduced rows. A row of
  /// zeros counts as one without gradient. Valid until the next Reduce.
  kernels::RowGradientInput<T> OwnedInput() const;

  /// `rows`: count x width, of which the owned ones are new: all become so.
  [[nodiscard]] absl::Status Share(T* rows, std::int64_t width, Phases* phases);

 private:
  /// make(latent, g_dec, g_enc) fills the rows of one latent, with the share of a replica.
  template <class Make>
  [[nodiscard]] absl::Status ReduceRows(const Make& make, Phases* phases);

  const Context& context_;
  const std::int64_t own_;
  const std::int64_t chunk_;                         // latents of each owner at a time
  kernels::AlignedVector<T> enc_, dec_;              // own x d, own x d_out
  kernels::AlignedVector<T> enc_chunk_, dec_chunk_;  // D x chunk rows
  std::vector<T> ones_;
  kernels::LatentIndex enc_index_, dec_index_;  // a latent's one row, or none
  std::vector<kernels::GradientTerm<T>> terms_;
};

}  // namespace sae::train
