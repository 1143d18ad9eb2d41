#pragma once
// Gradient rows written out, for replicas that reduce them before their owner's update. The sums
// are those of RowUpdate before the decoder's rule: terms in order, tokens ascending, one fused
// multiply-add an entry. After the reduction an index of the rows that are not all zero makes them
// RowUpdate's input: row i is token i of latent i, with factor 1. All pointers are device memory;
// enqueued on `stream`. Errors: kInvalidArgument where a size is negative or a needed pointer is
// null. Partners: namespace plain (gradient_rows_cpu.cc). Source: numerics 4.

#include <cstdint>

#include "sae/kernels/device/row_update.h"

namespace sae::kernels::device {

struct GradientRowsParams {
  /// What RowUpdate takes; of parameters w_dec alone is read, for norm_gradient.
  RowUpdateParams input;
  float* dec = nullptr;  ///< latents x d_out; zeros where the row has no gradient
  float* enc = nullptr;  ///< latents x d
};

/// out.indptr, and out.entries: of each row that holds something else than zeros its own number.
struct IndexRowsParams {
  const float* rows = nullptr;  ///< out.latents x d
  std::int64_t d = 0;
  DeviceIndex out;
};

/// Variances of equal parts of a batch about their own column means become that of the whole about
/// its means. Before the sum over `parts`: means[d] = *variance + mean of means[j]^2; after it,
/// from the summed means[0 .. d]: *variance.
struct JoinVarianceParams {
  double* means = nullptr;  ///< d + 1
  std::int64_t d = 0;
  std::int64_t parts = 1;
  bool summed = false;
  double* variance = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error GradientRows(const device::GradientRowsParams& params, void* stream);
[[nodiscard]] Error IndexRows(const device::IndexRowsParams& params, void* stream);
[[nodiscard]] Error JoinVariance(const device::JoinVarianceParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void GradientRows(const device::GradientRowsParams& params);
void IndexRows(const device::IndexRowsParams& params);
void JoinVariance(const device::JoinVarianceParams& params);
}  // namespace sae::kernels::plain
