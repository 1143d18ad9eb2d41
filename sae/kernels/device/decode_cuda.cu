// One block a token. A thread owns columns j, j + kThreads, ... and keeps kColumns of them in
// registers while the token's entries pass; a warp owns an entry where rows are multiplied.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/decode.h"

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
constexpr int kColumns = 4;
constexpr std::int64_t kSharedBytes = 96 * 1024;  // two blocks a multiprocessor

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

SAELOOM_DEVICE float CodeFactor(const DecodeParams& p, std::int32_t e) {
  return p.row_scale == nullptr ? p.f[e] : p.f[e] * p.row_scale[p.codes.ids[e]];
}

/// sums[c] of column j + c kThreads: bias, then the entries [begin, end), whose row's elements
/// read(entry, column) gives.
template <class Read>
SAELOOM_DEVICE void AddEntries(const DecodeParams& p, const float* bias, std::int32_t begin,
                               std::int32_t end, std::int64_t j, const Read& read,
                               float (&sums)[kColumns]) {
  for (int c = 0; c < kColumns; ++c) {
    const std::int64_t column = j + c * kThreads;
    sums[c] = bias != nullptr && column < p.d ? bias[column] : 0.0F;
  }
  for (std::int32_t e = begin; e < end; ++e) {
    const float a = CodeFactor(p, e);
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t column = j + c * kThreads;
      if (column < p.d) sums[c] = __fmaf_rn(a, read(e, column), sums[c]);
    }
  }
}

template <class Weights>
SAELOOM_KERNEL void DecodeKernel(DecodeParams p, Weights weights) {
  const std::int64_t token = blockIdx.x;
  std::int32_t begin = p.codes.indptr[token];
  const std::int32_t end = p.codes.indptr[token + 1];
  const auto read = [&](std::int32_t e, std::int64_t column) {
    return weights(p.codes.ids[e] * p.d + column);
  };
  for (int g = 0; g < p.groups.count; ++g) {
    const std::int32_t last = GroupEnd(p.groups, g, p.codes.ids, begin, end);
    float* const out = p.parts + (g * p.codes.tokens + token) * p.d;
    for (std::int64_t j = threadIdx.x; j < p.d; j += kColumns * kThreads) {
      float sums[kColumns];
      AddEntries(p, g == 0 ? p.bias : nullptr, begin, last, j, read, sums);
      for (int c = 0; c < kColumns; ++c) {
        if (j + c * kThreads < p.d) out[j + c * kThreads] = sums[c];
      }
    }
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

/// Over the calling warp's lanes: 32 chains, then the tree.
template <class Row>
SAELOOM_DEVICE float WarpDot(std::int64_t d, const Row& row, const float* h) {
  float sum = 0;
  for (std::int64_t j = threadIdx.x % 32; j < d; j += 32) sum = __fmaf_rn(row(j), h[j], sum);
  return WarpSum(sum);
}

/// A row of the decoder in device memory.
template <class Weights>
struct GlobalRow {
  Weights weights;
  std::int64_t first;
  SAELOOM_DEVICE float operator()(std::int64_t j) const { return weights(first + j); }
};

SAELOOM_DEVICE void StoreGradient(float* u, const float* row_scale, const std::int32_t* ids,
                                  std::int32_t e, float dot) {
  if (threadIdx.x % 32 != 0) return;
  u[e] = row_scale == nullptr ? dot : dot * row_scale[ids[e]];
}

template <class Weights>
SAELOOM_KERNEL void LatentGradientKernel(LatentGradientParams p, Weights weights) {
  const std::int64_t token = blockIdx.x;
  const std::int32_t end = p.codes.indptr[token + 1];
  int g = 0;
  for (std::int32_t e = p.codes.indptr[token] + static_cast<std::int32_t>(threadIdx.x / 32);
       e < end; e += kWarps) {
    const std::int32_t id = p.codes.ids[e];
    while (g < p.groups.count - 1 && id >= p.groups.last[g]) ++g;
    const float dot = WarpDot(p.d, GlobalRow<Weights>{weights, id * p.d},
                              p.h + (g * p.codes.tokens + token) * p.d);
    StoreGradient(p.u, p.row_scale, p.codes.ids, e, dot);
  }
}

/// What of a weight is kept in shared memory, and how it is read.
struct HighRows {
  using Stored = std::uint16_t;
  HighWeights weights;
  SAELOOM_DEVICE Stored Load(std::int64_t at) const { return weights.hi[at]; }
  SAELOOM_DEVICE static float Value(Stored stored) { return Bf16ToFloat(stored); }
};
struct JoinedRows {
  using Stored = float;
  JoinedWeights weights;
  SAELOOM_DEVICE Stored Load(std::int64_t at) const { return weights(at); }
  SAELOOM_DEVICE static float Value(Stored stored) { return stored; }
};

/// A row of the decoder in shared memory.
template <class Rows>
struct SharedRow {
  const typename Rows::Stored* row;
  SAELOOM_DEVICE float operator()(std::int64_t j) const { return Rows::Value(row[j]); }
};

SAELOOM_HOST_DEVICE constexpr std::int64_t GradientFloats(std::int64_t d) {
  return (d + 3) / 4 * 4;
}

/// Shared memory: the token's gradient, then the first `kept` rows.
template <class Rows>
SAELOOM_KERNEL void TokenPassKernel(TokenPassParams p, Rows source, std::int64_t kept) {
  using Stored = typename Rows::Stored;
  SAELOOM_DYNAMIC_SHARED(float, gradient);
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const DecodeParams& decode = p.decode;
  Stored* const rows = reinterpret_cast<Stored*>(gradient + GradientFloats(decode.d));
  const std::int64_t token = blockIdx.x;
  const std::int32_t begin = decode.codes.indptr[token];
  const std::int32_t end = decode.codes.indptr[token + 1];
  const float factor = ErrorFactor(*p.rho, decode.groups.weight[0]);
  const auto read = [&](std::int32_t e, std::int64_t column) {
    const Stored value = source.Load(decode.codes.ids[e] * decode.d + column);
    if (e - begin < kept) rows[(e - begin) * decode.d + column] = value;
    return Rows::Value(value);
  };
  double sum[1] = {0};
  for (std::int64_t first = threadIdx.x; first < decode.d; first += kColumns * kThreads) {
    float sums[kColumns];
    AddEntries(decode, decode.bias, begin, end, first, read, sums);
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t j = first + c * kThreads;
      if (j >= decode.d) break;
      const std::int64_t at = token * decode.d + j;
      const float error = __fmaf_rn(-p.target_scale, p.target[at], sums[c]);
      sum[0] += decode.groups.weight[0] * (static_cast<double>(error) * static_cast<double>(error));
      p.x_hat[at] = sums[c];
      gradient[j] = factor * error;
      decode.parts[at] = factor * error;
    }
  }
  BlockSum<1> block_sum(shared);
  block_sum(sum);  // its barrier also shows the gradient and the rows to all warps
  if (threadIdx.x == 0) p.squares[token] = sum[0];
  for (std::int32_t e = begin + static_cast<std::int32_t>(threadIdx.x / 32); e < end; e += kWarps) {
    const std::int64_t row = decode.codes.ids[e] * decode.d;
    float dot = 0;
    if (e - begin < kept) {
      dot = WarpDot(decode.d, SharedRow<Rows>{rows + (e - begin) * decode.d}, gradient);
    } else {
      dot = WarpDot(decode.d, GlobalRow<decltype(source.weights)>{source.weights, row}, gradient);
    }
    StoreGradient(p.u, decode.row_scale, decode.codes.ids, e, dot);
  }
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

}  // namespace

Error Decode(const DecodeParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  const unsigned grid = Grid(p.codes.tokens, 1);
  return p.w.lo == nullptr ? SAELOOM_LAUNCH((DecodeKernel<HighWeights>), grid, kThreads, 0, stream,
                                            p, HighWeights{p.w.hi})
                           : SAELOOM_LAUNCH((DecodeKernel<JoinedWeights>), grid, kThreads, 0,
                                            stream, p, JoinedWeights{p.w.hi, p.w.lo});
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
  const unsigned grid = Grid(p.codes.tokens, 1);
  return p.w.lo == nullptr ? SAELOOM_LAUNCH((LatentGradientKernel<HighWeights>), grid, kThreads, 0,
                                            stream, p, HighWeights{p.w.hi})
                           : SAELOOM_LAUNCH((LatentGradientKernel<JoinedWeights>), grid, kThreads,
                                            0, stream, p, JoinedWeights{p.w.hi, p.w.lo});
}

Error TokenPass(const TokenPassParams& p, void* stream) {
  const DecodeParams& decode = p.decode;
  if (!Valid(decode) || decode.groups.count != 1 || p.target == nullptr || p.rho == nullptr ||
      p.x_hat == nullptr || p.squares == nullptr || (decode.codes.capacity > 0 && p.u == nullptr)) {
    return Error::kInvalidArgument;
  }
  const std::int64_t tokens = decode.codes.tokens;
  if (tokens == 0) return Error::kOk;
  const std::int64_t gradient = GradientFloats(decode.d) * 4;
  const std::int64_t row = decode.d * (decode.w.lo == nullptr ? 2 : 4);
  if (gradient + row > kSharedBytes) {
    Error error = Decode(decode, stream);
    if (error != Error::kOk) return error;
    error = PrefixResidual({decode.parts, p.target, p.target_scale, p.rho, decode.groups, p.x_hat,
                            p.squares, tokens, decode.d},
                           stream);
    if (error != Error::kOk) return error;
    return LatentGradient(
        {decode.codes, decode.w, decode.row_scale, decode.groups, decode.parts, p.u, decode.d},
        stream);
  }
  const std::int64_t wanted = (decode.codes.capacity + tokens - 1) / tokens;
  const std::int64_t fit = row == 0 ? 0 : (kSharedBytes - gradient) / row;
  const std::int64_t kept = wanted < fit ? wanted : fit;
  const auto bytes = static_cast<std::size_t>(gradient + kept * row);
  const unsigned grid = Grid(tokens, 1);
  return decode.w.lo == nullptr
             ? SAELOOM_LAUNCH((TokenPassKernel<HighRows>), grid, kThreads, bytes, stream, p,
                              HighRows{{decode.w.hi}}, kept)
             : SAELOOM_LAUNCH((TokenPassKernel<JoinedRows>), grid, kThreads, bytes, stream, p,
                              JoinedRows{{decode.w.hi, decode.w.lo}}, kept);
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
