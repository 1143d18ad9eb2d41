// SplitColumns: a block a token. MergeWinners: a warp a token; an entry's place is its own rank's
// list's and what a binary search finds in the others. Along: a warp a latent, entries dealt to
// lanes. FinishColumns: a warp a block's row. The rest: a thread an element.
#include "sae/kernels/device.h"
#include "sae/kernels/device/adam_element.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/decoder_columns.h"
#include "sae/kernels/device/four-inl.h"

namespace sae::kernels::cuda {
namespace {

using device::AddPartsParams;
using device::AlongParams;
using device::FinishColumnsParams;
using device::MergeWinnersParams;
using device::PackWinnersParams;
using device::PlaceValuesParams;
using device::ShardNormsParams;
using device::SplitColumnsParams;
using device::SumNormPartsParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
SAELOOM_DEVICE std::int64_t ThreadOfGrid() {
  return blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
}
SAELOOM_DEVICE std::int64_t WarpOfGrid() {
  return blockIdx.x * static_cast<std::int64_t>(kWarps) + threadIdx.x / 32;
}

SAELOOM_KERNEL void SplitColumnsKernel(SplitColumnsParams p) {
  const std::int64_t token = blockIdx.x;
  const float* const row = p.in + token * p.d + p.first;
  for (std::int64_t c = 0; c < p.blocks; ++c) {
    float* const out = p.out + (c * p.tokens + token) * p.width;
    for (std::int64_t j = threadIdx.x; j < p.width; j += kThreads) out[j] = row[c * p.width + j];
  }
}

/// The parts of one rank's words.
struct RankWinners {
  const std::int32_t* indptr;
  const std::int32_t* ids;
  const std::int32_t* values;
};
SAELOOM_DEVICE RankWinners WinnersOf(const std::int32_t* all, int rank, std::int64_t tokens,
                                     std::int64_t capacity) {
  const std::int32_t* const words = all + rank * device::WinnerWords(tokens, capacity);
  return {words, words + tokens + 1, words + tokens + 1 + capacity};
}

SAELOOM_KERNEL void PackWinnersKernel(PackWinnersParams p) {
  const std::int64_t i = ThreadOfGrid();
  const std::int64_t entries = p.codes.indptr[p.codes.tokens];
  if (i <= p.codes.tokens) {
    const std::int32_t first = p.codes.indptr[i];
    p.out[i] = first < p.capacity ? first : static_cast<std::int32_t>(p.capacity);
    if (i == 0 && entries > p.capacity) *p.overflow = 1;
  }
  if (i >= p.capacity || i >= entries) return;
  std::int32_t* const ids = p.out + p.codes.tokens + 1;
  ids[i] = p.global_ids[p.codes.ids[i]];
  ids[p.capacity + i] = __float_as_int(p.f[i]);
}

/// Of the ascending ids [begin, end): how many lie below `id`.
SAELOOM_DEVICE std::int32_t Below(const std::int32_t* ids, std::int32_t begin, std::int32_t end,
                                  std::int32_t id) {
  const std::int32_t first = begin;
  while (begin < end) {
    const std::int32_t middle = begin + (end - begin) / 2;
    if (ids[middle] < id) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin - first;
}

SAELOOM_KERNEL void MergeWinnersKernel(MergeWinnersParams p) {
  const std::int64_t token = WarpOfGrid();
  const std::int64_t tokens = p.out.tokens;
  if (token >= tokens) return;  // a whole warp
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int64_t first = 0;
  std::int64_t last = 0;
  for (int r = 0; r < p.ranks; ++r) {
    const std::int32_t* const indptr = WinnersOf(p.all, r, tokens, p.capacity).indptr;
    first += indptr[token];
    last += indptr[token + 1];
  }
  if (lane == 0) {
    if (token == 0) p.out.indptr[0] = 0;
    p.out.indptr[token + 1] =
        static_cast<std::int32_t>(last < p.out.capacity ? last : p.out.capacity);
    if (last > p.out.capacity) *p.overflow = 1;
  }
  for (int r = 0; r < p.ranks; ++r) {
    const RankWinners own = WinnersOf(p.all, r, tokens, p.capacity);
    const std::int32_t begin = own.indptr[token];
    for (std::int32_t e = begin + lane; e < own.indptr[token + 1]; e += 32) {
      const std::int32_t id = own.ids[e];
      std::int64_t at = first + (e - begin);
      for (int s = 0; s < p.ranks; ++s) {
        if (s == r) continue;
        const RankWinners other = WinnersOf(p.all, s, tokens, p.capacity);
        at += Below(other.ids, other.indptr[token], other.indptr[token + 1], id);
      }
      const bool fits = at < p.out.capacity;
      p.place[r * p.capacity + e] = fits ? static_cast<std::int32_t>(at) : -1;
      if (!fits) continue;
      p.out.ids[at] = id;
      p.out.rows[at] = static_cast<std::int32_t>(token);
      p.out.values[at] = __int_as_float(own.values[e]);
    }
  }
}

SAELOOM_KERNEL void PlaceValuesKernel(PlaceValuesParams p) {
  const int rank = static_cast<int>(blockIdx.y);
  const std::int64_t e = ThreadOfGrid();
  if (e >= WinnersOf(p.winners, rank, p.tokens, p.capacity).indptr[p.tokens]) return;
  const std::int64_t at = rank * p.capacity + e;
  if (p.place[at] >= 0) p.out[p.place[at]] = p.all[at];
}

SAELOOM_DEVICE float SumOfParts(const AddPartsParams& p, std::int64_t e) {
  float sum = p.parts[e];
  for (std::int64_t c = 1; c < device::kColumnBlocks; ++c) sum += p.parts[c * p.stride + e];
  return sum;
}

SAELOOM_KERNEL void AddPartsKernel(AddPartsParams p) {
  const std::int64_t e = ThreadOfGrid();
  if (p.u != nullptr && e < p.stride && e < *p.entries) p.u[e] = SumOfParts(p, e);
  if (p.own_u == nullptr || e >= p.own_capacity || e >= *p.own_entries) return;
  const std::int32_t at = p.own_place[e];
  p.own_u[e] = at < 0 ? 0.0F : SumOfParts(p, at);
}

SAELOOM_KERNEL void AlongKernel(AlongParams p) {
  const std::int64_t latent = WarpOfGrid();
  if (latent >= p.latents) return;  // a whole warp
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double sum = 0;
  for (int t = 0; t < p.terms_count && p.unit; ++t) {
    const device::AlongTerm& term = p.terms[t];
    if (term.enabled != nullptr && *term.enabled == 0) continue;
    const std::int32_t end = term.index.indptr[latent + 1];
    for (std::int32_t q = term.index.indptr[latent] + lane; q < end; q += 32) {
      const std::int32_t e = term.index.entries[q];
      sum = __fma_rn(static_cast<double>(term.f[e]), static_cast<double>(term.u[e]), sum);
    }
  }
  if (p.unit) sum = WarpSum(sum);
  if (lane != 0) return;
  const double norm2 = p.norm2[latent];
  float along = 0;
  if (norm2 > 0) {
    along = static_cast<float>(p.unit ? -sum / norm2
                                      : static_cast<double>(p.norm_gradient[p.where[latent]]) /
                                            sqrt(norm2));
  }
  p.along[latent] = along;
}

SAELOOM_KERNEL void SumNormPartsKernel(SumNormPartsParams p) {
  const std::int64_t i = ThreadOfGrid();
  if (i >= p.count) return;
  double sum = 0;
  bool rests = true;
  for (std::int64_t c = 0; c < device::kColumnBlocks; ++c) {
    const float part = p.parts[c * p.count + i];
    sum += static_cast<double>(fabsf(part));
    rests = rests && __float_as_uint(part) >> 31 != 0;
  }
  p.sums[i] = rests ? -sum : sum;
}

SAELOOM_DEVICE void ScaleRow(const FinishColumnsParams& p, std::int64_t row, float factor) {
  const device::MutableWeightRows w{p.w.hi + row * p.width, p.w.lo + row * p.width};
  const std::int64_t lane = threadIdx.x % 32;
  if (p.width % 4 != 0 || !Aligned(w.hi, 8) || !Aligned(w.lo, 8)) {
    for (std::int64_t j = lane; j < p.width; j += 32) SetWeight(w, j, factor * Weight(w, j));
    return;
  }
  for (std::int64_t j = 4 * lane; j < p.width; j += 128) {
    Four<std::uint16_t> hi = LoadFourOnce(w.hi + j);
    Four<std::int16_t> lo = LoadFourOnce(w.lo + j);
    SAELOOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const SplitFloat split = Split(factor * Join(hi.of[i], lo.of[i]));
      hi.of[i] = split.hi;
      lo.of[i] = split.lo;
    }
    StoreFourOnce(w.hi + j, hi);
    StoreFourOnce(w.lo + j, lo);
  }
}

SAELOOM_KERNEL void FinishColumnsKernel(FinishColumnsParams p) {
  const std::int64_t latent = WarpOfGrid();
  if (latent >= p.latents || (p.go != nullptr && *p.go == 0)) return;
  const std::int64_t block = blockIdx.y;
  const double signed_sum = p.sums[latent];
  const double sum = fabs(signed_sum);
  const float factor = p.unit && !std::signbit(signed_sum) ? InverseNorm(sum) : 1.0F;
  if (block == 0 && threadIdx.x % 32 == 0) {
    const auto by = static_cast<double>(factor);
    p.norm2[latent] = factor == 1.0F ? sum : sum * (by * by);
  }
  if (factor != 1.0F) ScaleRow(p, block * p.latents + latent, factor);
}

SAELOOM_KERNEL void ShardNormsKernel(ShardNormsParams p) {
  const std::int64_t i = ThreadOfGrid();
  if (i < p.count) p.norms[i] = static_cast<float>(sqrt(p.norm2[p.global_ids[i]]));
}

bool ValidRanks(int ranks) { return ranks >= 1 && ranks <= device::kMaxColumnRanks; }

}  // namespace

Error SplitColumns(const SplitColumnsParams& p, void* stream) {
  if (p.tokens < 0 || p.width < 0 || p.blocks < 0 || p.first < 0 ||
      p.first + p.blocks * p.width > p.d || p.in == nullptr || p.out == nullptr) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(SplitColumnsKernel, Grid(p.tokens, 1), kThreads, 0, stream, p);
}

Error PackWinners(const PackWinnersParams& p, void* stream) {
  if (p.codes.tokens < 0 || p.capacity < 0 || p.codes.indptr == nullptr || p.out == nullptr ||
      p.overflow == nullptr ||
      (p.capacity > 0 && (p.codes.ids == nullptr || p.f == nullptr || p.global_ids == nullptr))) {
    return Error::kInvalidArgument;
  }
  const std::int64_t items = p.capacity > p.codes.tokens + 1 ? p.capacity : p.codes.tokens + 1;
  return SAELOOM_LAUNCH(PackWinnersKernel, Grid(items, kThreads), kThreads, 0, stream, p);
}

Error MergeWinners(const MergeWinnersParams& p, void* stream) {
  if (!ValidRanks(p.ranks) || p.capacity < 0 || p.out.tokens < 1 || p.out.capacity < 0 ||
      p.all == nullptr || p.out.indptr == nullptr || p.overflow == nullptr ||
      (p.capacity > 0 && p.place == nullptr) ||
      (p.out.capacity > 0 &&
       (p.out.ids == nullptr || p.out.rows == nullptr || p.out.values == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(MergeWinnersKernel, Grid(p.out.tokens, kWarps), kThreads, 0, stream, p);
}

Error PlaceValues(const PlaceValuesParams& p, void* stream) {
  if (!ValidRanks(p.ranks) || p.tokens < 0 || p.capacity < 0 || p.winners == nullptr ||
      (p.capacity > 0 && (p.all == nullptr || p.place == nullptr || p.out == nullptr))) {
    return Error::kInvalidArgument;
  }
  const dim3 grid(Grid(p.capacity, kThreads), static_cast<unsigned>(p.ranks));
  return SAELOOM_LAUNCH(PlaceValuesKernel, grid, kThreads, 0, stream, p);
}

Error AddParts(const AddPartsParams& p, void* stream) {
  if (p.stride < 0 || p.own_capacity < 0 || (p.stride > 0 && p.parts == nullptr) ||
      (p.u != nullptr && p.entries == nullptr) ||
      (p.own_u != nullptr && (p.own_entries == nullptr || p.own_place == nullptr))) {
    return Error::kInvalidArgument;
  }
  const std::int64_t items = p.stride > p.own_capacity ? p.stride : p.own_capacity;
  return SAELOOM_LAUNCH(AddPartsKernel, Grid(items, kThreads), kThreads, 0, stream, p);
}

Error Along(const AlongParams& p, void* stream) {
  if (p.latents < 0 || p.terms_count < 0 || p.terms_count > device::kMaxAlongTerms ||
      (p.latents > 0 && (p.norm2 == nullptr || p.along == nullptr)) ||
      (!p.unit && (p.norm_gradient == nullptr || p.where == nullptr))) {
    return Error::kInvalidArgument;
  }
  for (int t = 0; t < p.terms_count; ++t) {
    if (p.terms[t].index.indptr == nullptr) return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(AlongKernel, Grid(p.latents, kWarps), kThreads, 0, stream, p);
}

Error SumNormParts(const SumNormPartsParams& p, void* stream) {
  if (p.count < 0 || (p.count > 0 && (p.parts == nullptr || p.sums == nullptr)))
    return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(SumNormPartsKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

Error FinishColumns(const FinishColumnsParams& p, void* stream) {
  if (p.blocks < 1 || p.latents < 0 || p.width < 0 || p.w.hi == nullptr || p.w.lo == nullptr ||
      p.sums == nullptr || p.norm2 == nullptr) {
    return Error::kInvalidArgument;
  }
  const dim3 grid(Grid(p.latents, kWarps), static_cast<unsigned>(p.unit ? p.blocks : 1));
  return SAELOOM_LAUNCH(FinishColumnsKernel, grid, kThreads, 0, stream, p);
}

Error ShardNorms(const ShardNormsParams& p, void* stream) {
  if (p.count < 0 ||
      (p.count > 0 && (p.norm2 == nullptr || p.global_ids == nullptr || p.norms == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(ShardNormsKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
