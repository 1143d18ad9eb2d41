// One block a token. Where decoder rows are read a thread owns adjacent columns of all of them
// (token_rows-inl.h), and TokenPass keeps what it has read in registers: a token's rows, 48 KB of
// bfloat16 for 32 entries of 768, come once from memory.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/token_rows-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::AuxResidualParams;
using device::AuxScaleParams;
using device::DecodeParams;
using device::Groups;
using device::kMaxGroups;
using device::LatentGradientParams;
using device::PrefixResidualParams;
using device::ResidualVarianceParams;
using device::TokenPassParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMostThreads = device::kMostTokenThreads;
constexpr int kResident = 4;  // blocks of a multiprocessor, at least: 128 registers a thread

/// First entry in [begin, end) whose latent lies behind group g.
SAELOOM_DEVICE std::int32_t GroupEnd(const Groups& groups, int g, const std::int32_t* ids,
                                     std::int32_t begin, std::int32_t end) {
  if (g == groups.count - 1) return end;
  while (begin < end) {
    const std::int32_t middle = begin + (end - begin) / 2;
    if (ids[middle] < groups.last[g]) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

/// Wide: in one store for certain; the compiler cuts an assignment into single ones.
template <int kColumns, bool kWide>
SAELOOM_DEVICE void StorePack(const float (&values)[kColumns], std::int64_t j, std::int64_t d,
                              float* row) {
  static_assert(kColumns == 2 || kColumns == 4);
  if constexpr (kWide && kColumns == 4) {
    __stcg(reinterpret_cast<float4*>(row + j),
           make_float4(values[0], values[1], values[2], values[3]));
  } else if constexpr (kWide) {
    __stcg(reinterpret_cast<float2*>(row + j), make_float2(values[0], values[1]));
  } else {
    for (int i = 0; i < kColumns; ++i) {
      if (j + i < d) row[j + i] = values[i];
    }
  }
}

template <int kColumns, bool kWide>
SAELOOM_DEVICE void StartSums(const float* bias, std::int64_t j, std::int64_t d,
                              float (&sums)[kColumns]) {
  Pack<float, kColumns> pack = {};
  if (bias != nullptr) pack = LoadPack<kColumns, kWide>(bias, j, d);
  for (int i = 0; i < kColumns; ++i) sums[i] = pack.of[i];
}

/// out = bias, then the rows of the entries [begin, end).
template <bool kWide, class Columns>
SAELOOM_DEVICE void AddRows(const DecodeParams& p, const Columns& columns, const float* bias,
                            std::int32_t begin, std::int32_t end, float* out) {
  constexpr int kColumns = Columns::kColumns;
  for (std::int64_t j = kColumns * threadIdx.x; j < p.d; j += kColumns * blockDim.x) {
    float sums[kColumns];
    StartSums<kColumns, kWide>(bias, j, p.d, sums);
    AddEntries<kWide>(p, columns, begin, end, j, sums);
    StorePack<kColumns, kWide>(sums, j, p.d, out);
  }
}

template <class Columns, bool kWide>
SAELOOM_KERNEL void DecodeKernel(DecodeParams p, Columns columns) {
  const std::int64_t token = blockIdx.x;
  std::int32_t begin = p.codes.indptr[token];
  const std::int32_t end = p.codes.indptr[token + 1];
  for (int g = 0; g < p.groups.count; ++g) {
    const std::int32_t last = GroupEnd(p.groups, g, p.codes.ids, begin, end);
    float* const out = p.parts + (g * p.codes.tokens + token) * p.d;
    AddRows<kWide>(p, columns, g == 0 ? p.bias : nullptr, begin, last, out);
    begin = last;
  }
}

/// What e_g is multiplied by.
SAELOOM_DEVICE float ErrorFactor(double rho, double weight) {
  return static_cast<float>(2 * (rho * weight));
}

SAELOOM_KERNEL void PrefixResidualKernel(PrefixResidualParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const std::int64_t token = blockIdx.x;
  const double rho = *p.rho;
  double sum[1] = {0};
  for (std::int64_t j = threadIdx.x; j < p.d; j += kThreads) {
    const std::int64_t at = token * p.d + j;
    const std::int64_t stride = p.tokens * p.d;
    const float target = p.target[at];
    float x = 0;
    for (int g = 0; g < p.groups.count; ++g) {
      const float part = p.parts[g * stride + at];
      x = g == 0 ? part : x + part;
      const float e = __fmaf_rn(-p.target_scale, target, x);
      sum[0] += p.groups.weight[g] * (static_cast<double>(e) * static_cast<double>(e));
      p.parts[g * stride + at] = ErrorFactor(rho, p.groups.weight[g]) * e;
    }
    p.x_hat[at] = x;
    for (int g = p.groups.count - 1; g > 0; --g)
      p.parts[(g - 1) * stride + at] += p.parts[g * stride + at];
  }
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x == 0) p.squares[token] = sum[0];
}

SAELOOM_DEVICE std::int32_t AtMostBatch(std::int32_t count) {
  return count < kBatch ? count : kBatch;
}

/// The whole block adds up its threads' dots of the entries first .. first + count - 1; u of each.
/// One barrier; the caller has another one before the next call.
SAELOOM_DEVICE void StoreDots(const TokenGradient& p, std::int32_t first, int count,
                              float (&dots)[kBatch], float* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = TransposedWarpSum(dots);
  SAELOOM_BARRIER(2);
  if (thread >= count) return;
  float dot = sums[thread];
  for (int w = 1; w < static_cast<int>(blockDim.x) / 32; ++w) dot += sums[32 * w + thread];
  const std::int32_t e = first + thread;
  p.u[e] = p.row_scale == nullptr ? dot : dot * p.row_scale[p.codes.ids[e]];
}

/// u of the token's entries [first, end). `entries` and `sums` are shared.
template <bool kWide, class Columns>
SAELOOM_DEVICE void Gradients(const TokenGradient& p, const Groups& groups, const Columns& columns,
                              std::int32_t first, std::int32_t end, Entry* entries, float* sums) {
  constexpr int kColumns = Columns::kColumns;
  const std::int64_t token = blockIdx.x;
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  for (; first < end; first += kBatch) {
    const std::int32_t count = AtMostBatch(end - first);
    if (thread < kBatch) {
      const std::int32_t id = p.codes.ids[first + (thread < count ? thread : count - 1)];
      entries[thread] = {id, 0, GroupOf(groups, id)};
    }
    SAELOOM_BARRIER(3);
    float dots[kBatch] = {};
    for (std::int64_t j = kColumns * threadIdx.x; j < p.d; j += kColumns * blockDim.x)
      DotEntries<kWide>(p, token, columns, ReadAnew(entries), count, j, dots);
    StoreDots(p, first, count, dots, sums);
  }
}

template <class Columns, bool kWide>
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kMostThreads, kResident)
    LatentGradientKernel(LatentGradientParams p, Columns columns) {
  SAELOOM_SHARED(Entry, entries, kBatch);
  SAELOOM_SHARED(float, sums, kMostThreads);
  const TokenGradient gradient{p.codes, p.row_scale, p.h, p.u, p.d};
  Gradients<kWide>(gradient, p.groups, columns, p.codes.indptr[blockIdx.x],
                   p.codes.indptr[blockIdx.x + 1], entries, sums);
}

/// Columns j .. of the token's reconstruction, its error and gradient, after the entries' rows.
/// Returns the squares.
template <bool kWide, int kColumns>
SAELOOM_DEVICE double StoreColumns(const TokenPassParams& p, std::int64_t row, std::int64_t j,
                                   float factor, const Pack<float, kColumns>& target,
                                   const float (&sums)[kColumns], float (&gradient)[kColumns]) {
  const std::int64_t d = p.decode.d;
  double squares = 0;
  for (int i = 0; i < kColumns; ++i) {
    const float error = __fmaf_rn(-p.target_scale, target.of[i], sums[i]);
    if (kWide || j + i < d)
      squares +=
          p.decode.groups.weight[0] * (static_cast<double>(error) * static_cast<double>(error));
    gradient[i] = factor * error;
  }
  StorePack<kColumns, kWide>(sums, j, d, p.x_hat + row);
  StorePack<kColumns, kWide>(gradient, j, d, p.decode.parts + row);
  return squares;
}

template <class Columns, bool kWide>
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kMostThreads, kResident)
    TokenPassKernel(TokenPassParams p, Columns columns) {
  constexpr int kColumns = Columns::kColumns;
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  SAELOOM_SHARED(Entry, entries, kBatch);
  SAELOOM_SHARED(float, warp_dots, kMostThreads);
  const DecodeParams& decode = p.decode;
  const std::int64_t d = decode.d;
  const std::int64_t token = blockIdx.x;
  const std::int32_t begin = decode.codes.indptr[token];
  const std::int32_t end = decode.codes.indptr[token + 1];
  const std::int32_t count = AtMostBatch(end - begin);
  const std::int32_t first = end - count;  // of the entries whose rows are kept
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (thread < kBatch && count > 0) {
    const std::int32_t e = first + (thread < count ? thread : count - 1);
    const std::int32_t id = decode.codes.ids[e];
    entries[thread] = {id, CodeFactor(decode, e, id), 0};
  }
  const float factor = ErrorFactor(*p.rho, decode.groups.weight[0]);
  const float* start = decode.bias;
  if (begin < first) {  // by itself: a thread has no registers for it beside the kept rows
    float* const sums = p.x_hat + token * d;
    AddRows<kWide>(decode, columns, decode.bias, begin, first, sums);
    start = sums;
  }
  SAELOOM_BARRIER(4);
  double squares[1] = {0};
  float dots[kBatch] = {};
  for (std::int64_t j = kColumns * threadIdx.x; j < d; j += kColumns * blockDim.x) {
    const Pack<float, kColumns> target = LoadPack<kColumns, kWide>(p.target + token * d, j, d);
    typename Columns::Stored kept[kBatch];
    float sums[kColumns], gradient[kColumns];
    StartSums<kColumns, kWide>(start, j, d, sums);
    AddKept<kWide>(columns, ReadAnew(entries), count, j, d, kept, sums);
    squares[0] += StoreColumns<kWide>(p, token * d, j, factor, target, sums, gradient);
    DotKept<Columns>(kept, count, gradient, dots);
  }
  BlockSum<1> block_sum(shared);
  block_sum(squares);
  if (thread == 0) p.squares[token] = squares[0];
  const TokenGradient rest{decode.codes, decode.row_scale, decode.parts, p.u, d};
  StoreDots(rest, first, count, dots, warp_dots);
  Gradients<kWide>(rest, decode.groups, columns, begin, first, entries, warp_dots);
}

SAELOOM_KERNEL void AuxResidualKernel(AuxResidualParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const std::int64_t token = blockIdx.x;
  const bool enabled = p.enabled == nullptr || *p.enabled != 0;
  const auto factor = static_cast<float>(*p.factor);
  double sum[1] = {0};
  for (std::int64_t j = threadIdx.x; j < p.d; j += kThreads) {
    const std::int64_t at = token * p.d + j;
    const float e = enabled ? p.out[at] + (p.x_hat[at] - p.target_scale * p.target[at]) : 0.0F;
    sum[0] += static_cast<double>(e) * static_cast<double>(e);
    p.out[at] = enabled ? factor * e : 0.0F;
  }
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x == 0) p.squares[token] = sum[0];
}

constexpr int kMeanColumns = 8;  // 32 bytes of a row
constexpr int kMeanRows = kThreads / kMeanColumns;

SAELOOM_DEVICE double Error64(const ResidualVarianceParams& p, std::int64_t at) {
  return static_cast<double>(p.x_hat[at] - p.target_scale * p.target[at]);
}

SAELOOM_KERNEL void ColumnMeansKernel(ResidualVarianceParams p) {
  SAELOOM_SHARED(double, sums, kThreads);
  const std::int64_t column = blockIdx.x * kMeanColumns + threadIdx.x % kMeanColumns;
  double sum = 0;
  for (std::int64_t t = threadIdx.x / kMeanColumns; column < p.d && t < p.tokens; t += kMeanRows)
    sum += Error64(p, t * p.d + column);
  sums[threadIdx.x] = sum;
  SAELOOM_BARRIER(1);
  if (threadIdx.x >= kMeanColumns || column >= p.d) return;
  double total = 0;
  for (int r = 0; r < kMeanRows; ++r) total += sums[r * kMeanColumns + threadIdx.x];
  p.column_means[column] = total / static_cast<double>(p.tokens);
}

SAELOOM_KERNEL void DeviationsKernel(ResidualVarianceParams p) {
  const std::int64_t token = blockIdx.x * kWarps + threadIdx.x / 32;
  if (token >= p.tokens) return;
  double sum = 0;
  for (std::int64_t j = threadIdx.x % 32; j < p.d; j += 32) {
    const double e = Error64(p, token * p.d + j) - p.column_means[j];
    sum += e * e;
  }
  sum = WarpSum(sum);
  if (threadIdx.x % 32 == 0) p.partial[token] = sum;
}

SAELOOM_KERNEL void VarianceKernel(ResidualVarianceParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  double sum[1] = {0};
  for (std::int64_t t = threadIdx.x; t < p.tokens; t += kThreads) sum[0] += p.partial[t];
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x == 0) *p.variance = sum[0] / static_cast<double>(p.tokens * p.d);
}

SAELOOM_KERNEL void AuxScaleKernel(AuxScaleParams p) {
  const double variance = *p.variance;
  const bool on = (p.dead == nullptr || *p.dead > 0) && variance > 0 && std::isfinite(variance);
  const double share =
      on ? p.alpha_variance / (static_cast<double>(p.tokens * p.d) * variance) : 0.0;
  if (p.share != nullptr) *p.share = share;
  *p.factor = 2 * share;
  *p.enabled = on ? 1 : 0;
}

bool Valid(const device::DeviceCodes& codes, std::int64_t d) {
  return codes.tokens >= 0 && codes.capacity >= 0 && d >= 0 && codes.indptr != nullptr &&
         (codes.capacity == 0 || codes.ids != nullptr);
}
bool Valid(const Groups& groups) { return groups.count >= 1 && groups.count <= kMaxGroups; }
bool Valid(const DecodeParams& p) {
  return Valid(p.codes, p.d) && Valid(p.groups) && p.parts != nullptr &&
         (p.codes.capacity == 0 || (p.f != nullptr && p.w.hi != nullptr));
}
unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
template <class Columns>
int TokenThreads(std::int64_t d) {
  return device::ShapeOfToken(d, Columns::kColumns == device::kJoinedColumns).threads;
}

template <class Columns>
Error LaunchDecode(const Columns& columns, const DecodeParams& p, void* stream) {
  constexpr std::uintptr_t kBytes = sizeof(float) * Columns::kColumns;
  const unsigned grid = Grid(p.codes.tokens, 1);
  const int threads = TokenThreads<Columns>(p.d);
  return columns.Wide(p.d) && Aligned(p.bias, kBytes) && Aligned(p.parts, kBytes)
             ? SAELOOM_LAUNCH((DecodeKernel<Columns, true>), grid, threads, 0, stream, p, columns)
             : SAELOOM_LAUNCH((DecodeKernel<Columns, false>), grid, threads, 0, stream, p, columns);
}

template <class Columns>
Error LaunchLatentGradient(const Columns& columns, const LatentGradientParams& p, void* stream) {
  const unsigned grid = Grid(p.codes.tokens, 1);
  const int threads = TokenThreads<Columns>(p.d);
  return columns.Wide(p.d) && Aligned(p.h, sizeof(float) * Columns::kColumns)
             ? SAELOOM_LAUNCH((LatentGradientKernel<Columns, true>), grid, threads, 0, stream, p,
                              columns)
             : SAELOOM_LAUNCH((LatentGradientKernel<Columns, false>), grid, threads, 0, stream, p,
                              columns);
}

template <class Columns>
Error LaunchTokenPass(const Columns& columns, const TokenPassParams& p, void* stream) {
  constexpr std::uintptr_t kBytes = sizeof(float) * Columns::kColumns;
  const DecodeParams& decode = p.decode;
  const unsigned grid = Grid(decode.codes.tokens, 1);
  const int threads = TokenThreads<Columns>(decode.d);
  const bool wide = columns.Wide(decode.d) && Aligned(decode.bias, kBytes) &&
                    Aligned(decode.parts, kBytes) && Aligned(p.target, kBytes) &&
                    Aligned(p.x_hat, kBytes);
  return wide ? SAELOOM_LAUNCH((TokenPassKernel<Columns, true>), grid, threads, 0, stream, p,
                               columns)
              : SAELOOM_LAUNCH((TokenPassKernel<Columns, false>), grid, threads, 0, stream, p,
                               columns);
}

}  // namespace

Error Decode(const DecodeParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  return p.w.lo == nullptr ? LaunchDecode(HighColumns{p.w.hi}, p, stream)
                           : LaunchDecode(JoinedColumns{p.w}, p, stream);
}

Error PrefixResidual(const PrefixResidualParams& p, void* stream) {
  if (p.tokens < 0 || p.d < 0 || !Valid(p.groups) || p.parts == nullptr || p.target == nullptr ||
      p.rho == nullptr || p.x_hat == nullptr || p.squares == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(PrefixResidualKernel, Grid(p.tokens, 1), kThreads, 0, stream, p);
}

Error LatentGradient(const LatentGradientParams& p, void* stream) {
  if (!Valid(p.codes, p.d) || !Valid(p.groups) || p.h == nullptr ||
      (p.codes.capacity > 0 && (p.w.hi == nullptr || p.u == nullptr))) {
    return Error::kInvalidArgument;
  }
  return p.w.lo == nullptr ? LaunchLatentGradient(HighColumns{p.w.hi}, p, stream)
                           : LaunchLatentGradient(JoinedColumns{p.w}, p, stream);
}

Error TokenPass(const TokenPassParams& p, void* stream) {
  const DecodeParams& decode = p.decode;
  if (!Valid(decode) || decode.groups.count != 1 || p.target == nullptr || p.rho == nullptr ||
      p.x_hat == nullptr || p.squares == nullptr || (decode.codes.capacity > 0 && p.u == nullptr)) {
    return Error::kInvalidArgument;
  }
  return decode.w.lo == nullptr ? LaunchTokenPass(HighColumns{decode.w.hi}, p, stream)
                                : LaunchTokenPass(JoinedColumns{decode.w}, p, stream);
}

Error AuxResidual(const AuxResidualParams& p, void* stream) {
  if (p.tokens < 0 || p.d < 0 || p.out == nullptr || p.x_hat == nullptr || p.target == nullptr ||
      p.factor == nullptr || p.squares == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(AuxResidualKernel, Grid(p.tokens, 1), kThreads, 0, stream, p);
}

Error ResidualVariance(const ResidualVarianceParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.x_hat == nullptr || p.target == nullptr ||
      p.column_means == nullptr || p.partial == nullptr || p.variance == nullptr) {
    return Error::kInvalidArgument;
  }
  Error error = SAELOOM_LAUNCH(ColumnMeansKernel, Grid(p.d, kMeanColumns), kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  error = SAELOOM_LAUNCH(DeviationsKernel, Grid(p.tokens, kWarps), kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(VarianceKernel, 1, kThreads, 0, stream, p);
}

Error AuxScale(const AuxScaleParams& p, void* stream) {
  if (p.tokens < 1 || p.d < 1 || p.variance == nullptr || p.factor == nullptr ||
      p.enabled == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(AuxScaleKernel, 1, 1, 0, stream, p);
}

}  // namespace sae::kernels::cuda
