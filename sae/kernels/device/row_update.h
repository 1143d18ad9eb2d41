#pragma once
// The row-owner update: gradient of a latent's two rows from its entries, the decoder's rule, Adam,
// renormalisation, one pass, no float atomics, no gradient matrix. The contract is row_step.h's
// with dense rows (kernels::RowUpdate): terms in order, tokens ascending, one fused multiply-add an
// entry; norms and the radial factor in float64, in an order that widths, formats and whether rows
// are aligned decide. Where a matrix's terms hold more than 512 entries of the latent together, its
// warps take shares of them, and their sums are added in warp order: fixed, but another order.
// Moments are float32 in registers and rounded when stored (moment_format.h), keyed by seed,
// adam->t, global id, column, matrix and moment. A block has a latent to itself; rows of a multiple
// of 4 columns, of at most 8192, are read and written four columns at a time and stay in registers.
// With last_step rows are lazy (row_step.h's kLazy: beta1 = 0, float32 moments): a latent without
// any gradient costs a look at its list, its rows and moments are not read; when it is touched
// again, its moments first catch up with the steps that it has rested for. CatchUpRows does that
// for all latents, before moments are read by anyone else.
// With `columns` rows are blocks of columns of the decoder's rows, and there is no encoder (d = 0):
// float32 moments, rule kFree, what the whole row decides is given, and norms are completed by
// others (decoder_columns.h).
// With decoder_step decoder rows are deferred (row_step.h's kDeferred; rules kUnit and kFree,
// float32 moments): one without a gradient is left alone, one with a gradient must have caught up
// before (deferred_rows.h); encoder rows are dense.
// All pointers are device memory; enqueued on `stream`. Errors: kInvalidArgument where a
// size is negative, a needed pointer is null, rows do not fit into shared memory (d and d_out
// at most 28160, with 8-bit moments 14080), or lazy or deferred rows have other moments than
// float32.
// Partner: namespace plain, one chain an element whatever the list's length (row_update_cpu.cc).
// Sources: sae algorithms 0.2-0.4, 3.5; numerics 4, 8.

#include <cstdint>

#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/rows.h"

namespace sae::kernels::device {

enum class RowRule { kUnit, kUnitBefore, kFree, kOnTheFly };

struct RowTerm {
  DeviceIndex index;
  const std::int32_t* rows = nullptr;  ///< token of each CSR entry (DeviceCodes::rows)
  const float* f = nullptr;            ///< per entry; null: nothing reaches the decoder
  const float* delta = nullptr;        ///< per entry; null: nothing reaches the encoder
  const float* g = nullptr;            ///< tokens x d_out
  std::int32_t first_latent = 0, last_latent = 0x7fffffff;
  const std::int32_t* enabled = nullptr;  ///< device flag; 0: the term is not there
};
inline constexpr int kMaxTerms = 18;

/// For measurements and tests; 0: as the sizes ask for.
struct RowTuning {
  int quads = 0;  ///< 4 columns each, of a thread: 2, 3, 4 where the rows allow it; -1: all rows in
                  ///< shared memory. The order of float64 sums depends on it
  int latents = 0;      ///< that a block takes in turn; lazy rows: at most 32
  int long_blocks = 0;  ///< that look for long lists
};

/// Of rows that are blocks of columns. norm2: |row|^2 after the step, rounded to float32, with the
/// sign bit set where the row has had neither a gradient nor momentum.
struct ColumnRows {
  const float* along = nullptr;  ///< latents: g += along_i times the row; null: rows are whole
  float* norm2 = nullptr;        ///< of latent i at i / chunk * stride + i % chunk
  std::int64_t chunk = 1, stride = 1;
};

struct RowUpdateParams {
  std::int64_t latents = 0, d = 0, d_out = 0;
  const float* x = nullptr;  ///< tokens x d, raw; null: x_bf16 is given
  const std::uint16_t* x_bf16 = nullptr;
  float scale = 1;                       ///< 1 / S
  const float* b_dec = nullptr;          ///< d, or null without pre-bias
  const float* delta_sums = nullptr;     ///< latents
  const float* norm_gradient = nullptr;  ///< latents or null (used with kFree only)
  const float* dense_delta = nullptr;    ///< latents or null
  const float* x_sum = nullptr;          ///< d, with dense_delta
  int terms_count = 0;
  RowTerm terms[kMaxTerms];
  RowRule rule = RowRule::kUnit;
  MutableWeightRows w_enc, w_dec;  ///< lo null: the value is hi alone, rounded when stored
  MomentRows enc_moments, dec_moments;
  std::int64_t* last_step = nullptr;       ///< latents, or null: dense rows. Lazy: up to which step
                                           ///< a latent's moments are current
  std::int64_t* decoder_step = nullptr;    ///< latents, or null. Deferred: up to which step a
                                           ///< decoder row is current; without last_step
  float* row_scale = nullptr;              ///< kOnTheFly: latents, read, then rewritten
  const AdamScalars* adam = nullptr;       ///< device
  const double* gradient_scale = nullptr;  ///< device scalar, or null: 1
  const std::int32_t* go = nullptr;        ///< device flag, or null; 0: nothing is changed
  std::uint64_t seed = 0;                  ///< stochastic rounding of moments
  const std::int32_t* global_ids = nullptr;  ///< null: local + first_global; keys the rounding
  std::int64_t first_global = 0;
  double* norms = nullptr;    ///< latents, or null: squared norm of both gradient rows, after the
                              ///< rule, before gradient_scale
  bool measure_only = false;  ///< clipping's first pass: only `norms`
  ColumnRows columns;         ///< with norm_gradient every row is touched, and `along` holds it
  RowTuning tuning;
};

/// Moments of lazy rows as dense rows would have them after step t.
struct CatchUpRowsParams {
  std::int64_t latents = 0, d = 0, d_out = 0;
  MomentRows enc_moments, dec_moments;      ///< float32
  const std::int64_t* last_step = nullptr;  ///< latents; the caller sets all to t afterwards
  double beta2 = 0;
  std::int64_t t = 0;  ///< the last finished step
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error RowUpdate(const device::RowUpdateParams& params, void* stream);
[[nodiscard]] Error CatchUpRows(const device::CatchUpRowsParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void RowUpdate(const device::RowUpdateParams& params);
void CatchUpRows(const device::CatchUpRowsParams& params);
}  // namespace sae::kernels::plain
