// GradientRows: a block a latent, a thread every 256th column. IndexRows: a warp a row marks it,
// then one block counts the marks.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/gradient_rows.h"
#include "sae/kernels/device/row_terms-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::GradientRowsParams;
using device::IndexRowsParams;
using device::JoinVarianceParams;
using device::RowRule;
using device::RowTerm;
using device::RowUpdateParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kScanThreads = 1024;

struct FloatRows {
  const float* rows;
  SAELOOM_DEVICE float operator()(std::int64_t at) const { return rows[at]; }
};

/// sum + the term's entries of the latent, of one column.
template <class Source>
SAELOOM_DEVICE float AddEntries(const RowTerm& term, const float* factors, const Source& source,
                                std::int64_t latent, std::int64_t d, std::int64_t j, float sum) {
  const std::int32_t end = term.index.indptr[latent + 1];
  for (std::int32_t q = term.index.indptr[latent]; q < end; ++q) {
    const std::int32_t e = term.index.entries[q];
    sum = __fmaf_rn(factors[e], source(term.rows[e] * d + j), sum);
  }
  return sum;
}

SAELOOM_DEVICE float DecoderColumn(const RowUpdateParams& p, std::int64_t latent, std::int64_t j) {
  float sum = 0;
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    if (term.f == nullptr || !Holds(term, latent)) continue;
    sum = AddEntries(term, term.f, FloatRows{term.g}, latent, p.d_out, j, sum);
  }
  return sum;
}

SAELOOM_DEVICE float EncoderColumn(const RowUpdateParams& p, std::int64_t latent, std::int64_t j) {
  float sum = 0;
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    if (term.delta == nullptr || !Holds(term, latent)) continue;
    sum = p.x != nullptr ? AddEntries(term, term.delta, FloatRows{p.x}, latent, p.d, j, sum)
                         : AddEntries(term, term.delta, HighWeights{p.x_bf16}, latent, p.d, j, sum);
  }
  if (p.dense_delta != nullptr) sum = __fmaf_rn(p.dense_delta[latent], p.x_sum[j], sum);
  if (p.scale != 1.0F) sum *= p.scale;
  if (p.b_dec != nullptr) sum = __fmaf_rn(-p.delta_sums[latent], p.b_dec[j], sum);
  return sum;
}

SAELOOM_KERNEL void GradientRowsKernel(GradientRowsParams g) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const RowUpdateParams& p = g.input;
  const std::int64_t latent = blockIdx.x;
  const ListLengths lengths = LengthsOf(p, latent);
  float along = 0;
  if (p.norm_gradient != nullptr && p.rule == RowRule::kFree) {
    double norm2[1] = {0};
    for (std::int64_t j = threadIdx.x; j < p.d_out; j += kThreads) {
      const auto w = static_cast<double>(Weight(p.w_dec, latent * p.d_out + j));
      norm2[0] = __fma_rn(w, w, norm2[0]);
    }
    BlockSum<1> block_sum(shared);
    block_sum(norm2);
    if (norm2[0] > 0)
      along = static_cast<float>(static_cast<double>(p.norm_gradient[latent]) / sqrt(norm2[0]));
  }
  for (std::int64_t j = threadIdx.x; j < p.d_out; j += kThreads) {
    float sum = lengths.decoder > 0 ? DecoderColumn(p, latent, j) : 0.0F;
    if (along != 0) sum = __fmaf_rn(along, Weight(p.w_dec, latent * p.d_out + j), sum);
    g.dec[latent * p.d_out + j] = sum;
  }
  const bool touched = EncoderTouched(p, lengths.encoder);
  for (std::int64_t j = threadIdx.x; j < p.d; j += kThreads)
    g.enc[latent * p.d + j] = touched ? EncoderColumn(p, latent, j) : 0.0F;
}

/// indptr[i + 1] = whether row i holds something else than zeros.
SAELOOM_KERNEL void MarkRowsKernel(IndexRowsParams p) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= p.out.latents) return;  // a whole warp
  bool any = false;
  for (std::int64_t j = threadIdx.x % 32; j < p.d; j += 32) any = any || p.rows[row * p.d + j] != 0;
  const unsigned votes = __ballot_sync(kAllLanes, any);
  if (threadIdx.x % 32 == 0) p.out.indptr[row + 1] = votes != 0 ? 1 : 0;
}

SAELOOM_KERNEL void ScanMarksKernel(IndexRowsParams p) {
  SAELOOM_SHARED(int, counts, 2 * kMaxWarps);
  if (threadIdx.x == 0) p.out.indptr[0] = 0;
  int base = 0;
  int turn = 0;  // halves of counts in turns: one barrier is enough
  for (std::int64_t first = 0; first < p.out.latents; first += kScanThreads) {
    const std::int64_t row = first + threadIdx.x;
    const bool marked = row < p.out.latents && p.out.indptr[row + 1] != 0;
    const unsigned votes = __ballot_sync(kAllLanes, marked);
    int* const half = counts + turn * kMaxWarps;
    turn = 1 - turn;
    if (threadIdx.x % 32 == 0) half[threadIdx.x / 32] = __popc(votes);
    SAELOOM_BARRIER(1);
    int place = base + __popc(votes & ((1U << (threadIdx.x % 32)) - 1));
    for (unsigned w = 0; w < kScanThreads / 32; ++w) {
      if (w < threadIdx.x / 32) place += half[w];
      base += half[w];
    }
    if (row >= p.out.latents) continue;
    p.out.indptr[row + 1] = place + (marked ? 1 : 0);
    if (marked) p.out.entries[place] = static_cast<std::int32_t>(row);
  }
}

SAELOOM_KERNEL void JoinVarianceKernel(JoinVarianceParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const double share = p.summed ? 1 / static_cast<double>(p.parts) : 1.0;
  double squares[1] = {0};
  for (std::int64_t j = threadIdx.x; j < p.d; j += kThreads) {
    const double mean = share * p.means[j];
    squares[0] += mean * mean;
  }
  BlockSum<1> block_sum(shared);
  block_sum(squares);
  if (threadIdx.x != 0) return;
  const double mean_square = squares[0] / static_cast<double>(p.d);
  if (p.summed) {
    *p.variance = share * p.means[p.d] - mean_square;
  } else {
    p.means[p.d] = *p.variance + mean_square;
  }
}

bool Valid(const RowUpdateParams& p) {
  if (p.latents < 0 || p.d < 0 || p.d_out < 0 || p.terms_count < 0 ||
      p.terms_count > device::kMaxTerms || (p.norm_gradient != nullptr && p.w_dec.hi == nullptr) ||
      (p.b_dec != nullptr && p.delta_sums == nullptr) ||
      (p.dense_delta != nullptr && p.x_sum == nullptr)) {
    return false;
  }
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    if (term.index.indptr == nullptr || (term.f != nullptr && term.g == nullptr) ||
        (term.delta != nullptr && p.x == nullptr && p.x_bf16 == nullptr)) {
      return false;
    }
  }
  return true;
}

}  // namespace

Error GradientRows(const GradientRowsParams& p, void* stream) {
  if (!Valid(p.input) || (p.input.latents > 0 && (p.dec == nullptr || p.enc == nullptr)))
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(GradientRowsKernel, static_cast<unsigned>(p.input.latents), kThreads, 0,
                        stream, p);
}

Error IndexRows(const IndexRowsParams& p, void* stream) {
  if (p.out.latents < 0 || p.d < 0 || p.out.indptr == nullptr ||
      (p.out.latents > 0 && (p.rows == nullptr || p.out.entries == nullptr))) {
    return Error::kInvalidArgument;
  }
  const auto blocks = static_cast<unsigned>((p.out.latents + kWarps - 1) / kWarps);
  const Error error = SAELOOM_LAUNCH(MarkRowsKernel, blocks, kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(ScanMarksKernel, 1, kScanThreads, 0, stream, p);
}

Error JoinVariance(const JoinVarianceParams& p, void* stream) {
  if (p.d < 1 || p.parts < 1 || p.means == nullptr || p.variance == nullptr)
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(JoinVarianceKernel, 1, kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
