#pragma once
// Sums and vectors of a step. Orders of additions are fixed: blocks of rows or elements that depend
// on the size alone, then blocks in order; float64, rounded once. So bits do not depend on the
// device. All pointers are device memory; kernels are enqueued on `stream`. Row-major, contiguous.
// `enabled`, `go`: device flags; 0: nothing is written; null: 1. NaN propagates. Errors:
// kInvalidArgument where a size is negative or a needed pointer is null. Partners: namespace plain,
// the same params with host memory, plain ascending sums; scratch is not used (vectors_cpu.cc).

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// Blocks of rows that sums of columns are cut into: doubles of scratch for each column.
inline constexpr std::int64_t kColumnParts = 256;

/// out[j] (+)= sum over rows of m[r, j], rounded once, then added in float32.
struct ColumnSumsParams {
  const float* m = nullptr;  ///< rows x d
  std::int64_t rows = 0, d = 0;
  const std::int32_t* enabled = nullptr;
  bool add = false;
  double* scratch = nullptr;  ///< kColumnParts d
  float* out = nullptr;       ///< d
};

/// out[j] = sum over i of weights_i W_ij. Rows of weight 0 are not read.
struct WeightedRowSumParams {
  const float* weights = nullptr;  ///< rows
  WeightRows w;                    ///< rows x d, joined where lo is given
  std::int64_t rows = 0, d = 0;
  double* scratch = nullptr;  ///< kColumnParts d
  double* out = nullptr;      ///< d
};

/// *out (+)= *factor sum of values; factor null: 1.
struct SumParams {
  const double* values = nullptr;
  std::int64_t count = 0;
  const double* factor = nullptr;
  bool add = false;
  double* scratch = nullptr;  ///< 1024
  double* out = nullptr;
};

/// *out (+)= sum of squares.
struct SumSquaresParams {
  const float* values = nullptr;
  std::int64_t count = 0;
  bool add = false;
  double* scratch = nullptr;  ///< 1024
  double* out = nullptr;
};

/// a[j] -= b[j] rounded to float32: b_dec's gradient minus the encoder's term.
struct SubtractParams {
  float* a = nullptr;
  const double* b = nullptr;
  std::int64_t count = 0;
};

/// optim::UpdateVector: gradient times *gradient_scale, Adam with float32 moments
/// (kernels::AdamRow, to the bit). lr_factor multiplies adam->lr (thresholds have their own).
struct AdamVectorParams {
  float* p = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  const float* gradient = nullptr;
  std::int64_t count = 0;
  const AdamScalars* adam = nullptr;
  double lr_factor = 1;
  const double* gradient_scale = nullptr;  ///< device scalar, or null: 1
  const std::int32_t* go = nullptr;
};

/// norms[i] = |W_i| and / or row_scale[i] = 1 / max(|W_i|, 2^-24).
struct RowNormsParams {
  WeightRows w;
  std::int64_t rows = 0, d = 0;
  float* norms = nullptr;      ///< rows, or null
  float* row_scale = nullptr;  ///< rows, or null
};

/// kernels::RenormaliseRow of each row: W_i times 1 / max(|W_i|, 2^-24) rounded to float32.
struct RenormaliseRowsParams {
  MutableWeightRows w;
  std::int64_t rows = 0, d = 0;
  const std::int32_t* go = nullptr;
};

/// Running mean of parameters (train.ema): mean += (1 - mu) (p - mean), p joined from w, or p.
struct EmaParams {
  WeightRows w;
  const float* p = nullptr;  ///< used where given
  float* mean = nullptr;
  std::int64_t count = 0;
  double mu = 0;
  const std::int32_t* go = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error ColumnSums(const device::ColumnSumsParams& params, void* stream);
[[nodiscard]] Error WeightedRowSum(const device::WeightedRowSumParams& params, void* stream);
[[nodiscard]] Error Sum(const device::SumParams& params, void* stream);
[[nodiscard]] Error SumSquares(const device::SumSquaresParams& params, void* stream);
[[nodiscard]] Error Subtract(const device::SubtractParams& params, void* stream);
[[nodiscard]] Error AdamVector(const device::AdamVectorParams& params, void* stream);
[[nodiscard]] Error RowNorms(const device::RowNormsParams& params, void* stream);
[[nodiscard]] Error RenormaliseRows(const device::RenormaliseRowsParams& params, void* stream);
[[nodiscard]] Error Ema(const device::EmaParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void ColumnSums(const device::ColumnSumsParams& params);
void WeightedRowSum(const device::WeightedRowSumParams& params);
void Sum(const device::SumParams& params);
void SumSquares(const device::SumSquaresParams& params);
void Subtract(const device::SubtractParams& params);
void AdamVector(const device::AdamVectorParams& params);
void RowNorms(const device::RowNormsParams& params);
void RenormaliseRows(const device::RenormaliseRowsParams& params);
void Ema(const device::EmaParams& params);
}  // namespace sae::kernels::plain
