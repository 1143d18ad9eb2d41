// Sums in two launches: fixed blocks of rows or elements into scratch, then the blocks in order.
#include "sae/kernels/device.h"
#include "sae/kernels/device/adam_element.h"
#include "sae/kernels/device/row_visit-inl.h"
#include "sae/kernels/device/vectors.h"

namespace sae::kernels::cuda {
namespace {

using device::AdamVectorParams;
using device::ColumnSumsParams;
using device::EmaParams;
using device::kColumnParts;
using device::RenormaliseRowsParams;
using device::RowNormsParams;
using device::SubtractParams;
using device::SumParams;
using device::SumSquaresParams;
using device::WeightedRowSumParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kColumnThreads = 64;        // of four columns each
constexpr int kAhead = 16;                // rows read at once
constexpr int kPartLanes = 8;             // lanes that share a column's parts
constexpr std::int64_t kElements = 4096;  // of a block of Sum, while there are no more than kSums
constexpr std::int64_t kSums = 1024;

unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}

SAELOOM_DEVICE bool IsOn(const std::int32_t* flag) { return flag == nullptr || *flag != 0; }

struct PlainRows {
  using Stored = Four<float>;
  const float* m;
  std::int64_t d;
  SAELOOM_DEVICE float Weigh(std::int64_t) const { return 1; }
  template <bool kWide>
  SAELOOM_DEVICE Stored Load(std::int64_t row, std::int64_t j) const {
    return LoadPack<4, kWide>(m + row * d, j, d);
  }
  SAELOOM_DEVICE static float Value(const Stored& stored, int i) { return stored.of[i]; }
  bool Wide() const { return d % 4 == 0 && Aligned(m, sizeof(Stored)); }
};
struct WeightedHighRows {
  using Stored = Four<std::uint16_t>;
  const float* weights;
  const std::uint16_t* hi;
  std::int64_t d;
  SAELOOM_DEVICE float Weigh(std::int64_t row) const { return weights[row]; }
  template <bool kWide>
  SAELOOM_DEVICE Stored Load(std::int64_t row, std::int64_t j) const {
    return LoadPack<4, kWide>(hi + row * d, j, d);
  }
  SAELOOM_DEVICE static float Value(const Stored& stored, int i) {
    return Bf16ToFloat(stored.of[i]);
  }
  bool Wide() const { return d % 4 == 0 && Aligned(hi, sizeof(Stored)); }
};
struct WeightedJoinedRows {
  struct Stored {
    Four<std::uint16_t> hi;
    Four<std::int16_t> lo;
  };
  const float* weights;
  device::WeightRows w;
  std::int64_t d;
  SAELOOM_DEVICE float Weigh(std::int64_t row) const { return weights[row]; }
  template <bool kWide>
  SAELOOM_DEVICE Stored Load(std::int64_t row, std::int64_t j) const {
    return {LoadPack<4, kWide>(w.hi + row * d, j, d), LoadPack<4, kWide>(w.lo + row * d, j, d)};
  }
  SAELOOM_DEVICE static float Value(const Stored& stored, int i) {
    return Join(stored.hi.of[i], stored.lo.of[i]);
  }
  bool Wide() const { return d % 4 == 0 && Aligned(w.hi, 8) && Aligned(w.lo, 8); }
};

/// scratch[blockIdx.y, j] = sum over the block's rows of Weigh(row) row[j], ascending. A thread
/// owns four columns. The weights are asked for one turn, the rows kAhead rows before they are
/// needed. The product of two floats is exact in float64.
template <class Rows, bool kWide>
SAELOOM_KERNEL void PartialColumnsKernel(Rows rows, std::int64_t count, std::int64_t d,
                                         const std::int32_t* enabled, double* scratch) {
  const std::int64_t j = 4 * (blockIdx.x * static_cast<std::int64_t>(kColumnThreads) + threadIdx.x);
  if (j >= d || !IsOn(enabled)) return;
  const std::int64_t end = count * (blockIdx.y + 1) / kColumnParts;
  std::int64_t first = count * blockIdx.y / kColumnParts;
  double sums[4] = {0, 0, 0, 0};
  float next[kAhead];
  for (int r = 0; r < kAhead; ++r) next[r] = first + r < end ? rows.Weigh(first + r) : 0.0F;
  for (; first < end; first += kAhead) {
    float weights[kAhead];
    typename Rows::Stored values[kAhead];
    for (int r = 0; r < kAhead; ++r) {
      weights[r] = next[r];
      values[r] = {};
      if (weights[r] != 0) values[r] = rows.template Load<kWide>(first + r, j);
    }
    for (int r = 0; r < kAhead; ++r) {
      const std::int64_t row = first + kAhead + r;
      next[r] = row < end ? rows.Weigh(row) : 0.0F;
    }
    for (int r = 0; r < kAhead; ++r) {
      const auto weight = static_cast<double>(weights[r]);
      for (int i = 0; i < 4; ++i)
        sums[i] = __fma_rn(weight, static_cast<double>(Rows::Value(values[r], i)), sums[i]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    if (kWide || j + i < d) scratch[blockIdx.y * d + j + i] = sums[i];
  }
}

/// The calling thread's column and lane of it, where kPartLanes lanes of a warp share each of
/// 32 / kPartLanes columns.
SAELOOM_DEVICE std::int64_t SharedColumn() {
  const int columns = 32 / kPartLanes;
  const std::int64_t warp = blockIdx.x * static_cast<std::int64_t>(kWarps) + threadIdx.x / 32;
  return warp * columns + threadIdx.x % columns;
}

/// Every lane of the column gets its sum: runs of parts in order, then a fixed tree over runs. All
/// lanes of the warp come.
SAELOOM_DEVICE double ColumnTotal(const double* scratch, std::int64_t d, std::int64_t j) {
  constexpr int kRun = kColumnParts / kPartLanes;
  const int columns = 32 / kPartLanes;
  const int run = static_cast<int>(threadIdx.x) % 32 / columns;
  double parts[kRun];
  for (int i = 0; i < kRun; ++i) parts[i] = j < d ? scratch[(run * kRun + i) * d + j] : 0.0;
  double sum = 0;
  for (int i = 0; i < kRun; ++i) sum += parts[i];
  for (int lanes = 16; lanes >= columns; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  return sum;
}
SAELOOM_DEVICE bool OwnsColumn(std::int64_t j, std::int64_t d) {
  return j < d && static_cast<int>(threadIdx.x) % 32 < 32 / kPartLanes;
}
SAELOOM_KERNEL void ColumnSumsKernel(ColumnSumsParams p) {
  if (!IsOn(p.enabled)) return;
  const std::int64_t j = SharedColumn();
  const auto sum = static_cast<float>(ColumnTotal(p.scratch, p.d, j));
  if (!OwnsColumn(j, p.d)) return;
  p.out[j] = p.add ? p.out[j] + sum : sum;
}
SAELOOM_KERNEL void WeightedRowSumKernel(WeightedRowSumParams p) {
  const std::int64_t j = SharedColumn();
  const double sum = ColumnTotal(p.scratch, p.d, j);
  if (OwnsColumn(j, p.d)) p.out[j] = sum;
}

struct Values {
  const double* v;
  SAELOOM_DEVICE double operator()(std::int64_t i) const { return v[i]; }
};
struct Squares {
  const float* v;
  SAELOOM_DEVICE double operator()(std::int64_t i) const {
    return static_cast<double>(v[i]) * static_cast<double>(v[i]);
  }
};

template <class Source>
SAELOOM_KERNEL void PartialSumsKernel(Source source, std::int64_t count, double* scratch) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const std::int64_t end = count * (blockIdx.x + 1) / gridDim.x;
  double sum[1] = {0};
  for (std::int64_t i = count * blockIdx.x / gridDim.x + threadIdx.x; i < end; i += kThreads)
    sum[0] += source(i);
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x == 0) scratch[blockIdx.x] = sum[0];
}

SAELOOM_KERNEL void SumKernel(const double* scratch, int blocks, const double* factor, bool add,
                              double* out) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  double sum[1] = {0};
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) sum[0] += scratch[i];
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x != 0) return;
  const double total = factor == nullptr ? sum[0] : *factor * sum[0];
  *out = add ? *out + total : total;
}

SAELOOM_KERNEL void SubtractKernel(SubtractParams p) {
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (j < p.count) p.a[j] -= static_cast<float>(p.b[j]);
}

SAELOOM_KERNEL void AdamVectorKernel(AdamVectorParams p) {
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (j >= p.count || !IsOn(p.go)) return;
  const AdamConstants adam(*p.adam, p.adam->lr * p.lr_factor);
  const float scale = p.gradient_scale == nullptr ? 1.0F : static_cast<float>(*p.gradient_scale);
  AdamElement(adam, scale * p.gradient[j], p.p + j, p.m + j, p.v + j);
}

/// Over the calling warp's row.
SAELOOM_DEVICE double RowSquares(const device::WeightRows& w, std::int64_t first, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = threadIdx.x % 32; j < d; j += 32) {
    const auto value = static_cast<double>(Weight(w, first + j));
    sum = __fma_rn(value, value, sum);
  }
  return WarpSum(sum);
}

SAELOOM_KERNEL void RowNormsKernel(RowNormsParams p) {
  const std::int64_t row = blockIdx.x * static_cast<std::int64_t>(kWarps) + threadIdx.x / 32;
  if (row >= p.rows) return;
  const double squares = RowSquares(p.w, row * p.d, p.d);
  if (threadIdx.x % 32 != 0) return;
  if (p.norms != nullptr) p.norms[row] = static_cast<float>(sqrt(squares));
  if (p.row_scale != nullptr) p.row_scale[row] = InverseNorm(squares);
}

SAELOOM_KERNEL void RenormaliseRowsKernel(RenormaliseRowsParams p) {
  const std::int64_t row = blockIdx.x * static_cast<std::int64_t>(kWarps) + threadIdx.x / 32;
  if (row >= p.rows || !IsOn(p.go)) return;
  const std::int64_t first = row * p.d;
  const float inverse = InverseNorm(RowSquares({p.w.hi, p.w.lo}, first, p.d));
  for (std::int64_t j = threadIdx.x % 32; j < p.d; j += 32)
    SetWeight(p.w, first + j, inverse * Weight(p.w, first + j));
}

SAELOOM_KERNEL void EmaKernel(EmaParams p) {
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (j >= p.count || !IsOn(p.go)) return;
  const float value = p.p != nullptr ? p.p[j] : Weight(p.w, j);
  p.mean[j] += static_cast<float>(1 - p.mu) * (value - p.mean[j]);
}

template <class Source>
Error SumUp(const Source& source, std::int64_t count, const double* factor, bool add,
            double* scratch, double* out, void* stream) {
  const std::int64_t wanted = (count + kElements - 1) / kElements;
  const auto blocks = static_cast<int>(wanted < 1 ? 1 : wanted > kSums ? kSums : wanted);
  const Error error = SAELOOM_LAUNCH((PartialSumsKernel<Source>), static_cast<unsigned>(blocks),
                                     kThreads, 0, stream, source, count, scratch);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(SumKernel, 1, kThreads, 0, stream, scratch, blocks, factor, add, out);
}

template <class Rows>
Error PartialColumns(const Rows& rows, std::int64_t count, std::int64_t d,
                     const std::int32_t* enabled, double* scratch, void* stream) {
  const dim3 grid(Grid(d, 4 * kColumnThreads), kColumnParts);
  return rows.Wide() ? SAELOOM_LAUNCH((PartialColumnsKernel<Rows, true>), grid, kColumnThreads, 0,
                                      stream, rows, count, d, enabled, scratch)
                     : SAELOOM_LAUNCH((PartialColumnsKernel<Rows, false>), grid, kColumnThreads, 0,
                                      stream, rows, count, d, enabled, scratch);
}

constexpr std::int64_t kColumnsOfBlock = kThreads / kPartLanes;

}  // namespace

Error ColumnSums(const ColumnSumsParams& p, void* stream) {
  if (p.rows < 0 || p.d < 0 || p.scratch == nullptr || p.out == nullptr ||
      (p.rows > 0 && p.m == nullptr)) {
    return Error::kInvalidArgument;
  }
  const Error error =
      PartialColumns(PlainRows{p.m, p.d}, p.rows, p.d, p.enabled, p.scratch, stream);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(ColumnSumsKernel, Grid(p.d, kColumnsOfBlock), kThreads, 0, stream, p);
}

Error WeightedRowSum(const WeightedRowSumParams& p, void* stream) {
  if (p.rows < 0 || p.d < 0 || p.scratch == nullptr || p.out == nullptr ||
      (p.rows > 0 && (p.weights == nullptr || p.w.hi == nullptr))) {
    return Error::kInvalidArgument;
  }
  const Error error = p.w.lo == nullptr ? PartialColumns(WeightedHighRows{p.weights, p.w.hi, p.d},
                                                         p.rows, p.d, nullptr, p.scratch, stream)
                                        : PartialColumns(WeightedJoinedRows{p.weights, p.w, p.d},
                                                         p.rows, p.d, nullptr, p.scratch, stream);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(WeightedRowSumKernel, Grid(p.d, kColumnsOfBlock), kThreads, 0, stream, p);
}

Error Sum(const SumParams& p, void* stream) {
  if (p.count < 0 || p.scratch == nullptr || p.out == nullptr ||
      (p.count > 0 && p.values == nullptr)) {
    return Error::kInvalidArgument;
  }
  return SumUp(Values{p.values}, p.count, p.factor, p.add, p.scratch, p.out, stream);
}

Error SumSquares(const SumSquaresParams& p, void* stream) {
  if (p.count < 0 || p.scratch == nullptr || p.out == nullptr ||
      (p.count > 0 && p.values == nullptr)) {
    return Error::kInvalidArgument;
  }
  return SumUp(Squares{p.values}, p.count, nullptr, p.add, p.scratch, p.out, stream);
}

Error Subtract(const SubtractParams& p, void* stream) {
  if (p.count < 0 || (p.count > 0 && (p.a == nullptr || p.b == nullptr)))
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(SubtractKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

Error AdamVector(const AdamVectorParams& p, void* stream) {
  if (p.count < 0 || p.adam == nullptr ||
      (p.count > 0 &&
       (p.p == nullptr || p.m == nullptr || p.v == nullptr || p.gradient == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(AdamVectorKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

Error RowNorms(const RowNormsParams& p, void* stream) {
  if (p.rows < 0 || p.d < 0 || (p.rows > 0 && p.w.hi == nullptr)) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(RowNormsKernel, Grid(p.rows, kWarps), kThreads, 0, stream, p);
}

Error RenormaliseRows(const RenormaliseRowsParams& p, void* stream) {
  if (p.rows < 0 || p.d < 0 || (p.rows > 0 && p.w.hi == nullptr)) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(RenormaliseRowsKernel, Grid(p.rows, kWarps), kThreads, 0, stream, p);
}

Error Ema(const EmaParams& p, void* stream) {
  if (p.count < 0 ||
      (p.count > 0 && (p.mean == nullptr || (p.p == nullptr && p.w.hi == nullptr)))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(EmaKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
