// A thread owns columns thread, thread + threads, ... of the row: weights and moments stay in its
// registers for all steps. A step has one barrier, that of the sum which says whether m is 0
// everywhere and what the row's norm is.
#include "sae/kernels/device.h"
#include "sae/kernels/device/adam_element.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/deferred_rows.h"

namespace sae::kernels::cuda {
namespace {

using device::CatchUpDecoderParams;
using device::RowRule;
using Format = device::MomentFormat;

template <int kColumns>
struct RestingRow {
  float w[kColumns], m[kColumns], v[kColumns];
};

/// visit(place in the registers, element of the matrix).
template <int kColumns, class Visit>
SAELOOM_DEVICE void ForColumns(const CatchUpDecoderParams& p, std::int64_t latent,
                               const Visit& visit) {
  SAELOOM_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    const std::int64_t column = threadIdx.x + static_cast<std::int64_t>(c) * blockDim.x;
    if (column < p.d) visit(c, latent * p.d + column);
  }
}

/// One step with g = 0. Returns whether m is still not 0 somewhere.
template <int kColumns>
SAELOOM_DEVICE bool RestOnce(const AdamConstants& adam, bool unit, RestingRow<kColumns>& row,
                             BlockSum<2>& sums) {
  double state[2] = {0, 0};  // m not 0; |w|^2
  SAELOOM_UNROLL
  for (int c = 0; c < kColumns; ++c) {
    AdamElementWithoutGradient(adam, &row.w[c], &row.m[c], &row.v[c]);
    if (row.m[c] != 0) state[0] = 1;
    const auto w = static_cast<double>(row.w[c]);
    state[1] = __fma_rn(w, w, state[1]);
  }
  sums(state);
  const bool moves = state[0] != 0;
  if (unit && moves) {
    const float inverse = InverseNorm(state[1]);
    SAELOOM_UNROLL
    for (int c = 0; c < kColumns; ++c) row.w[c] = inverse * row.w[c];
  }
  return moves;
}

/// The last `lag` steps up to step `to`. All threads of the block; a barrier comes before the first
/// value is written.
template <int kColumns>
SAELOOM_DEVICE void CatchUpRow(const CatchUpDecoderParams& p, std::int64_t latent, std::int64_t to,
                               std::int64_t lag, BlockSum<2>& sums) {
  float* const m = static_cast<float*>(p.moments.m);
  float* const v = static_cast<float*>(p.moments.v);
  AdamConstants adam({0, p.beta1, p.beta2, p.epsilon, 1, 1, 0}, 0);
  RestingRow<kColumns> row = {};  // zeros beside the row stay zeros
  double any[2] = {0, 0};
  ForColumns<kColumns>(p, latent, [&](int c, std::int64_t at) {
    row.m[c] = m[at];
    row.v[c] = v[at];
    if (row.m[c] != 0) any[0] = 1;
  });
  sums(any);
  if (any[0] != 0) {
    ForColumns<kColumns>(p, latent, [&](int c, std::int64_t at) { row.w[c] = Weight(p.w, at); });
    bool moves = true;
    SAELOOM_NO_UNROLL
    for (std::int64_t at = (to - lag) % p.window; lag > 0 && moves; --lag) {
      adam.step = p.steps[at].step;
      adam.inverse2 = p.steps[at].inverse2;
      at = at + 1 == p.window ? 0 : at + 1;
      moves = RestOnce<kColumns>(adam, p.rule == RowRule::kUnit, row, sums);
    }
    ForColumns<kColumns>(p, latent, [&](int c, std::int64_t at) {
      SetWeight(p.w, at, row.w[c]);
      m[at] = row.m[c];
    });
  }
  ForColumns<kColumns>(p, latent,
                       [&](int c, std::int64_t at) { v[at] = Decayed(adam, lag, row.v[c]); });
}

constexpr int kMostThreads = 256;

/// Rows of `latents` latents, at most one a lane, from blockIdx.x * latents on: those that must
/// catch up, in turn.
template <int kColumns>
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kMostThreads)
    CatchUpDecoderKernel(CatchUpDecoderParams p, int latents) {
  SAELOOM_SHARED(double, sums_shared, 2 * 2 * kMaxWarps);
  BlockSum<2> sums(sums_shared);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * latents;
  const std::int64_t mine = first + lane;
  const std::int64_t to = p.adam == nullptr ? p.t : p.adam->t - 1;
  int lag = 0;
  if (lane < latents && mine < p.latents &&
      (p.indptr == nullptr || p.indptr[mine] < p.indptr[mine + 1])) {
    lag = static_cast<int>(to - p.last_step[mine]);
  }
  for (unsigned left = __ballot_sync(kAllLanes, lag > 0 ? 1 : 0); left != 0; left &= left - 1) {
    const int of = __ffs(static_cast<int>(left)) - 1;
    CatchUpRow<kColumns>(p, first + of, to, __shfl_sync(kAllLanes, lag, of), sums);
    if (threadIdx.x == 0) p.last_step[first + of] = to;
  }
}

constexpr std::int64_t kManyBlocks = 8192;

template <int kColumns>
Error Launch(const CatchUpDecoderParams& p, void* stream) {
  const std::int64_t share = p.latents / kManyBlocks;
  const std::int64_t each = share < 1 ? 1 : share < 32 ? share : 32;
  const std::int64_t warps = (p.d + 32 * kColumns - 1) / (32 * kColumns);
  return SAELOOM_LAUNCH(
      (CatchUpDecoderKernel<kColumns>), static_cast<unsigned>((p.latents + each - 1) / each),
      static_cast<unsigned>(32 * (warps > 0 ? warps : 1)), 0, stream, p, static_cast<int>(each));
}

bool Valid(const CatchUpDecoderParams& p) {
  return p.latents >= 0 && p.d >= 0 && p.d <= device::kMostDeferredWidth && p.window > 0 &&
         (p.rule == RowRule::kUnit || p.rule == RowRule::kFree) && p.w.hi != nullptr &&
         p.w.lo != nullptr && p.moments.format == Format::kF32 && p.moments.m != nullptr &&
         p.moments.v != nullptr && p.last_step != nullptr && p.steps != nullptr;
}

}  // namespace

Error CatchUpDecoder(const CatchUpDecoderParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  if (p.latents == 0) return Error::kOk;
  if (p.d <= 4 * kMostThreads) return Launch<4>(p, stream);
  if (p.d <= 8 * kMostThreads) return Launch<8>(p, stream);
  if (p.d <= 16 * kMostThreads) return Launch<16>(p, stream);
  return Launch<32>(p, stream);
}

}  // namespace sae::kernels::cuda
