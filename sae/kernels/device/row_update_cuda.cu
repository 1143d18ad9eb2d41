// Two kernels. RegisterKernel (row_registers-inl.h) takes rows of whole quads of columns, but for
// latents with a long list. RowUpdateKernel takes those, and all latents of other widths: one block
// a latent, decoder row, then encoder row. Its shared memory holds the row w and an area of rows:
// the gradient (or one partial gradient a share of a long list), and with 8-bit moments m and v
// until their blocks are encoded. Outside of shares a thread owns columns j = thread, thread +
// kThreads, ... of every row, so that most of it needs no barrier.
#include "sae/kernels/device.h"
#include "sae/kernels/device/adam_element.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/row_registers-inl.h"
#include "sae/kernels/device/row_terms-inl.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/moment_format.h"

namespace sae::kernels::cuda {
namespace {

using device::MomentRows;
using device::RowRule;
using device::RowTerm;
using device::RowUpdateParams;
using Format = device::MomentFormat;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kColumns = 4;                      // in registers at once
constexpr int kTile = kThreads;                  // entries staged at once
constexpr std::int64_t kShareBytes = 48 * 1024;  // more shares only within these
constexpr std::int64_t kSharedBytes = 220 * 1024;

/// How shared memory is cut; made by the host.
struct Layout {
  std::int64_t width = 0;  ///< floats of a row
  int shares = 1;          ///< of a long list: a power of 2, at most kWarps
};

/// What all parts of one block know. (kCut below: rows are blocks of the decoder's columns.) Tiles
/// are staged in two halves in turns, so that one barrier a tile is enough.
struct Block {
  const RowUpdateParams& p;
  const AdamConstants& adam;
  BlockSum<2>& sums;
  Layout layout;
  std::int64_t latent;
  float gradient_scale;
  float* w;
  float* area;
  float* factors;
  std::int32_t* tokens;
  int turn;
  std::int64_t rested = 0;  ///< lazy: steps since the latent was touched last
};

/// One row of a matrix and its moments.
struct Row {
  device::MutableWeightRows w;
  MomentRows moments;
  std::int64_t d;
  RoundingKey key;
};

template <bool kDecoder>
SAELOOM_DEVICE const float* Factors(const RowTerm& term) {
  return kDecoder ? term.f : term.delta;
}

struct FloatSource {
  const float* rows;
  SAELOOM_DEVICE float operator()(std::int64_t at) const { return rows[at]; }
};

/// partial += the share's entries of the staged tile; zeros before where `fresh`.
template <class Source>
SAELOOM_DEVICE void AddTile(const Block& b, const Source& source, std::int64_t d, int group,
                            int from, int to, bool fresh, float* partial) {
  const float* const factors = b.factors + b.turn * kTile;
  const std::int32_t* const tokens = b.tokens + b.turn * kTile;
  for (std::int64_t j = threadIdx.x % group; j < d; j += kColumns * group) {
    float sums[kColumns];
    for (int c = 0; c < kColumns; ++c)
      sums[c] = fresh || j + c * group >= d ? 0.0F : partial[j + c * group];
    for (int q = from; q < to; ++q) {
      const std::int64_t row = tokens[q] * d;
      for (int c = 0; c < kColumns; ++c) {
        const std::int64_t column = j + c * group;
        if (column < d) sums[c] = __fmaf_rn(factors[q], source(row + column), sums[c]);
      }
    }
    for (int c = 0; c < kColumns; ++c) {
      if (j + c * group < d) partial[j + c * group] = sums[c];
    }
  }
}

/// The first row of the area becomes the sum over the terms' entries; whose column a thread owns it
/// has then written.
template <bool kDecoder>
SAELOOM_DEVICE void Accumulate(Block& b, std::int64_t d, std::int32_t entries) {
  const int shares = entries > kLongList ? b.layout.shares : 1;
  const int group = kThreads / shares;
  const int share = static_cast<int>(threadIdx.x) / group;
  bool fresh = true;
  for (int t = 0; t < b.p.terms_count; ++t) {
    const RowTerm& term = b.p.terms[t];
    const float* const factors = Factors<kDecoder>(term);
    if (factors == nullptr || !Holds(term, b.latent)) continue;
    const std::int32_t end = term.index.indptr[b.latent + 1];
    for (std::int32_t first = term.index.indptr[b.latent]; first < end; first += kTile) {
      const int count = end - first < kTile ? end - first : kTile;
      b.turn = 1 - b.turn;
      if (static_cast<int>(threadIdx.x) < count) {
        const std::int32_t e = term.index.entries[first + static_cast<int>(threadIdx.x)];
        b.factors[b.turn * kTile + threadIdx.x] = factors[e];
        b.tokens[b.turn * kTile + threadIdx.x] = term.rows[e];
      }
      SAELOOM_BARRIER(1);
      const int from = count * share / shares;
      const int to = count * (share + 1) / shares;
      float* const partial = b.area + share * b.layout.width;
      if (kDecoder) {
        AddTile(b, FloatSource{term.g}, d, group, from, to, fresh, partial);
      } else if (b.p.x != nullptr) {
        AddTile(b, FloatSource{b.p.x}, d, group, from, to, fresh, partial);
      } else {
        AddTile(b, HighWeights{b.p.x_bf16}, d, group, from, to, fresh, partial);
      }
      fresh = false;
    }
  }
  if (shares > 1) SAELOOM_BARRIER(2);
  for (std::int64_t j = threadIdx.x; j < d; j += kThreads) {
    float sum = fresh ? 0.0F : b.area[j];
    for (int s = 1; s < shares; ++s) sum += b.area[s * b.layout.width + j];
    b.area[j] = sum;
  }
}

SAELOOM_DEVICE float LoadMoment(const Row& row, std::int64_t latent, std::int64_t j,
                                Moment moment) {
  const MomentRows& r = row.moments;
  const std::int64_t at = latent * row.d + j;
  const void* const data = moment == Moment::kFirst ? r.m : r.v;
  if (r.format == Format::kF32) return static_cast<const float*>(data)[at];
  if (r.format == Format::kBf16) return DecodeBf16(static_cast<const std::uint16_t*>(data)[at]);
  const float* const scales = moment == Moment::kFirst ? r.m_scales : r.v_scales;
  return Decode8(static_cast<const std::uint8_t*>(data)[at],
                 scales[latent * MomentBlocks(row.d) + j / kMomentBlock], moment);
}

/// As it is before the step.
SAELOOM_DEVICE float LoadMoment(const Block& b, const Row& row, std::int64_t j, Moment moment) {
  if (b.rested <= 0) return LoadMoment(row, b.latent, j, moment);
  return moment == Moment::kFirst ? 0.0F
                                  : Decayed(b.adam, b.rested, LoadMoment(row, b.latent, j, moment));
}

/// 8 bits: into the area, for EncodeBlocks.
SAELOOM_DEVICE void StoreMoment(const Block& b, const Row& row, std::int64_t j, Moment moment,
                                float value) {
  const MomentRows& r = row.moments;
  const std::int64_t at = b.latent * row.d + j;
  void* const data = moment == Moment::kFirst ? r.m : r.v;
  if (r.format == Format::kF32) {
    static_cast<float*>(data)[at] = value;
  } else if (r.format == Format::kBf16) {
    static_cast<std::uint16_t*>(data)[at] = EncodeBf16(
        value,
        RandomOf(row.key, static_cast<std::uint32_t>(j), moment, MomentRounding::kStochastic));
  } else {
    b.area[(moment == Moment::kFirst ? 1 : 2) * b.layout.width + j] = value;
  }
}

SAELOOM_DEVICE void EncodeBlock(const Block& b, const Row& row, std::int64_t block, Moment moment) {
  const MomentRows& r = row.moments;
  const float* const values = b.area + (moment == Moment::kFirst ? 1 : 2) * b.layout.width;
  auto* const codes = static_cast<std::uint8_t*>(moment == Moment::kFirst ? r.m : r.v);
  const std::int64_t first = block * kMomentBlock + threadIdx.x % 32;
  std::uint32_t largest = 0;
  for (std::int64_t j = first; j < first + kMomentBlock && j < row.d; j += 32) {
    const std::uint32_t bits = MagnitudeBits(values[j]);
    largest = bits > largest ? bits : largest;
  }
  const float scale = BlockScale(__reduce_max_sync(kAllLanes, largest));
  const float inverse = InverseScale(scale);
  for (std::int64_t j = first; j < first + kMomentBlock && j < row.d; j += 32) {
    codes[b.latent * row.d + j] = Encode8(
        values[j], inverse, moment,
        RandomOf(row.key, static_cast<std::uint32_t>(j), moment, MomentRounding::kStochastic));
  }
  if (threadIdx.x % 32 == 0) {
    (moment == Moment::kFirst ? r.m_scales : r.v_scales)[b.latent * MomentBlocks(row.d) + block] =
        scale;
  }
}

/// After a barrier that shows the area. A lane's columns are 32 apart: two of a block of 64.
SAELOOM_DEVICE void EncodeBlocks(const Block& b, const Row& row, bool first_too) {
  if (row.moments.format != Format::kInt8) return;
  for (std::int64_t block = threadIdx.x / 32; block < MomentBlocks(row.d); block += kWarps) {
    if (first_too) EncodeBlock(b, row, block, Moment::kFirst);
    EncodeBlock(b, row, block, Moment::kSecond);
  }
  SAELOOM_BARRIER(3);  // the area is free again
}

SAELOOM_DEVICE void LoadWeights(const Block& b, const Row& row) {
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads)
    b.w[j] = Weight(row.w, b.latent * row.d + j);
}
SAELOOM_DEVICE void StoreWeights(const Block& b, const Row& row) {
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads)
    SetWeight(row.w, b.latent * row.d + j, b.w[j]);
}
SAELOOM_DEVICE void ScaleWeights(const Block& b, std::int64_t d, float by) {
  for (std::int64_t j = threadIdx.x; j < d; j += kThreads) b.w[j] = by * b.w[j];
}

/// sums = {x . w, w . w}.
SAELOOM_DEVICE void Products(const Block& b, std::int64_t d, const float* x, double (&sums)[2]) {
  sums[0] = sums[1] = 0;
  for (std::int64_t j = threadIdx.x; j < d; j += kThreads) {
    const auto w = static_cast<double>(b.w[j]);
    sums[0] = __fma_rn(static_cast<double>(x[j]), w, sums[0]);
    sums[1] = __fma_rn(w, w, sums[1]);
  }
  b.sums(sums);
}

SAELOOM_DEVICE void RenormaliseWeights(const Block& b, std::int64_t d) {
  double sums[2];
  Products(b, d, b.w, sums);
  ScaleWeights(b, d, InverseNorm(sums[1]));
}

/// After Adam: {any, |w|^2} as the decoder's rule needs them.
SAELOOM_DEVICE void FinishRow(const Block& b, const Row& row, bool unit, bool on_the_fly,
                              double norm2) {
  if (unit) ScaleWeights(b, row.d, InverseNorm(norm2));
  if (on_the_fly && threadIdx.x == 0) b.p.row_scale[b.latent] = InverseNorm(norm2);
  StoreWeights(b, row);
}

/// g' = factor (g + radial w), Adam with its scale. Returns |g'|^2.
template <bool kCut>
SAELOOM_DEVICE double StepRow(const Block& b, const Row& row, float radial, float factor, bool unit,
                              bool on_the_fly) {
  double sums[2] = {0, 0};
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads) {
    float w = b.w[j];
    const float g = factor * __fmaf_rn(radial, w, b.area[j]);
    sums[0] = __fma_rn(static_cast<double>(g), static_cast<double>(g), sums[0]);
    if (b.p.measure_only) continue;
    float m = LoadMoment(b, row, j, Moment::kFirst);
    float v = LoadMoment(b, row, j, Moment::kSecond);
    AdamElement(b.adam, b.gradient_scale * g, &w, &m, &v);
    StoreMoment(b, row, j, Moment::kFirst, m);
    StoreMoment(b, row, j, Moment::kSecond, v);
    b.w[j] = w;
    sums[1] = __fma_rn(static_cast<double>(w), static_cast<double>(w), sums[1]);
  }
  b.sums(sums);
  if (b.p.measure_only) return sums[0];
  if constexpr (kCut) {
    if (threadIdx.x == 0) StoreColumnNorm(b.p.columns, b.latent, sums[1], false);
  }
  EncodeBlocks(b, row, true);
  FinishRow(b, row, unit, on_the_fly, sums[1]);
  return sums[0];
}

/// The row's step with g = 0 (row_step.h); `rule` is kFree for the encoder.
template <bool kCut>
SAELOOM_DEVICE void AdvanceRow(const Block& b, const Row& row, RowRule rule) {
  double any[2] = {0, 0};  // m not 0; beta1 m not 0
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads) {
    const float m = LoadMoment(b, row, j, Moment::kFirst);
    if (m != 0) any[0] = 1;
    if (!(fabsf(b.adam.beta1 * m) < kSmallestNormal)) any[1] = 1;
  }
  b.sums(any);
  const bool rests = any[0] == 0;
  if (kCut && rests) LoadWeights(b, row);
  if (!rests) {
    LoadWeights(b, row);
    if (rule == RowRule::kUnitBefore && any[1] != 0) RenormaliseWeights(b, row.d);
  }
  double sums[2] = {0, 0};  // m not 0; |w|^2
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads) {
    float v = LoadMoment(b, row, j, Moment::kSecond);
    if (rests) {
      if (b.rested > 0) StoreMoment(b, row, j, Moment::kFirst, 0);
      StoreMoment(b, row, j, Moment::kSecond, Flush(b.adam.beta2 * v));
      if (kCut)
        sums[1] = __fma_rn(static_cast<double>(b.w[j]), static_cast<double>(b.w[j]), sums[1]);
      continue;
    }
    float m = LoadMoment(b, row, j, Moment::kFirst);
    AdamElementWithoutGradient(b.adam, b.w + j, &m, &v);
    StoreMoment(b, row, j, Moment::kFirst, m);
    StoreMoment(b, row, j, Moment::kSecond, v);
    if (m != 0) sums[0] = 1;
    sums[1] = __fma_rn(static_cast<double>(b.w[j]), static_cast<double>(b.w[j]), sums[1]);
  }
  b.sums(sums);
  if constexpr (kCut) {
    if (threadIdx.x == 0) StoreColumnNorm(b.p.columns, b.latent, sums[1], rests || sums[0] == 0);
  }
  EncodeBlocks(b, row, !rests);
  if (rests) return;
  const bool moves = sums[0] != 0;
  FinishRow(b, row, moves && rule == RowRule::kUnit, moves && rule == RowRule::kOnTheFly, sums[1]);
}

/// Returns the squared norm of the row's gradient.
template <bool kCut>
SAELOOM_DEVICE double UpdateDecoder(Block& b, const Row& row) {
  const RowUpdateParams& p = b.p;
  const std::int32_t entries = LengthsOf(p, b.latent).decoder;
  if (!DecoderTouched(p, entries)) {
    const bool advances = kCut || p.decoder_step == nullptr;
    if (advances && !p.measure_only) AdvanceRow<kCut>(b, row, p.rule);
    return 0;
  }
  Accumulate<true>(b, row.d, entries);
  LoadWeights(b, row);
  if (p.rule == RowRule::kUnitBefore) RenormaliseWeights(b, row.d);
  float radial = 0;
  if constexpr (kCut) {
    radial = p.columns.along[b.latent];
  } else if (p.rule != RowRule::kFree || p.norm_gradient != nullptr) {
    double sums[2];
    Products(b, row.d, b.area, sums);
    if (p.rule != RowRule::kFree) {
      radial = sums[1] > 0 ? static_cast<float>(-sums[0] / sums[1]) : 0.0F;
    } else if (sums[1] > 0) {
      const auto a =
          static_cast<float>(static_cast<double>(p.norm_gradient[b.latent]) / sqrt(sums[1]));
      for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads)
        b.area[j] = __fmaf_rn(a, b.w[j], b.area[j]);
    }
  }
  const bool on_the_fly = p.rule == RowRule::kOnTheFly;
  return StepRow<kCut>(b, row, radial, on_the_fly ? p.row_scale[b.latent] : 1.0F,
                       p.rule == RowRule::kUnit, on_the_fly);
}

SAELOOM_DEVICE double UpdateEncoder(Block& b, const Row& row) {
  const RowUpdateParams& p = b.p;
  const std::int32_t entries = LengthsOf(p, b.latent).encoder;
  if (!EncoderTouched(p, entries)) {
    if (!p.measure_only) AdvanceRow<false>(b, row, RowRule::kFree);
    return 0;
  }
  Accumulate<false>(b, row.d, entries);
  LoadWeights(b, row);
  for (std::int64_t j = threadIdx.x; j < row.d; j += kThreads) {
    float g = b.area[j];
    if (p.dense_delta != nullptr) g = __fmaf_rn(p.dense_delta[b.latent], p.x_sum[j], g);
    if (p.scale != 1.0F) g *= p.scale;
    if (p.b_dec != nullptr) g = __fmaf_rn(-p.delta_sums[b.latent], p.b_dec[j], g);
    b.area[j] = g;
  }
  return StepRow<false>(b, row, 0, 1, false, false);
}

SAELOOM_DEVICE void UpdateColumns(Block& b) {
  const RowUpdateParams& p = b.p;
  b.rested = 0;
  const double norm2 = UpdateDecoder<true>(b, {p.w_dec, p.dec_moments, p.d_out, {}});
  if (threadIdx.x == 0 && p.norms != nullptr) p.norms[b.latent] = norm2;
}

SAELOOM_DEVICE void UpdateLatent(Block& b) {
  const RowUpdateParams& p = b.p;
  const auto global = static_cast<std::uint64_t>(p.global_ids == nullptr ? p.first_global + b.latent
                                                                         : p.global_ids[b.latent]);
  const auto t = static_cast<std::uint64_t>(p.adam->t);
  const bool lazy = p.last_step != nullptr && !p.measure_only;
  b.rested = lazy ? p.adam->t - 1 - p.last_step[b.latent] : 0;
  const double dec = UpdateDecoder<false>(
      b,
      {p.w_dec, p.dec_moments, p.d_out, RoundingKeyOf(p.seed, t, global, MomentMatrix::kDecoder)});
  const double enc = UpdateEncoder(
      b, {p.w_enc, p.enc_moments, p.d, RoundingKeyOf(p.seed, t, global, MomentMatrix::kEncoder)});
  if (threadIdx.x == 0 && p.norms != nullptr) p.norms[b.latent] = dec + enc;
}

SAELOOM_DEVICE bool Wanted(const RowUpdateParams& p, std::int64_t latent, bool long_only) {
  const bool lazy = p.last_step != nullptr;
  if (!long_only && !lazy) return true;
  const ListLengths lengths = LengthsOf(p, latent);
  if (long_only) return lengths.AnyLong();
  const bool touched = Touched(p, lengths);
  if (!touched && threadIdx.x < 32 && p.norms != nullptr) p.norms[latent] = 0;
  return touched;
}

/// Latents blockIdx.x, blockIdx.x + gridDim.x, ...; of these `long_only`, or all. Neighbours are
/// often long together: so they come to different blocks.
template <bool kCut>
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kThreads, 4)
    RowUpdateKernel(RowUpdateParams p, Layout layout, bool long_only) {
  SAELOOM_DYNAMIC_SHARED(float, rows);
  SAELOOM_SHARED(double, sums_shared, 2 * 2 * kMaxWarps);
  SAELOOM_SHARED(float, factors, 2 * kTile);
  SAELOOM_SHARED(std::int32_t, tokens, 2 * kTile);
  if (p.go != nullptr && *p.go == 0) return;
  const AdamConstants adam(*p.adam, p.adam->lr);
  BlockSum<2> sums(sums_shared);
  const float gradient_scale =
      p.gradient_scale == nullptr ? 1.0F : static_cast<float>(*p.gradient_scale);
  Block b{p, adam, sums, layout, 0, gradient_scale, rows, rows + layout.width, factors, tokens, 0};
  const std::int64_t stride = gridDim.x;
  for (std::int64_t first = blockIdx.x; first < p.latents; first += 32 * stride) {
    const std::int64_t mine = first + static_cast<std::int64_t>(threadIdx.x % 32) * stride;
    const bool wanted = mine < p.latents && Wanted(p, mine, long_only);
    for (unsigned left = __ballot_sync(kAllLanes, wanted ? 1 : 0); left != 0; left &= left - 1) {
      b.latent = first + (__ffs(static_cast<int>(left)) - 1) * stride;
      if constexpr (kCut) {
        UpdateColumns(b);
      } else {
        UpdateLatent(b);
      }
    }
  }
}

/// Of RegisterKernel: threads of a block at most, and blocks that a multiprocessor must have
/// registers for, so that enough rows are on their way at once.
template <class S>
inline constexpr int kMostThreads = S::kQuads == 4 ? 512 : 256;
template <class S>
inline constexpr int kBlocksAtOnce =
    S::kQuads == 4                                              ? 1
    : S::kQuads == 2 && S::kWhole&& S::kFormat != Format::kInt8 ? 3
                                                                : 2;

/// A block takes `latents` latents, one after the other.
template <class S>
SAELOOM_KERNEL void SAELOOM_LAUNCH_BOUNDS(kMostThreads<S>, kBlocksAtOnce<S>)
    RegisterKernel(RowUpdateParams p, int latents) {
  SAELOOM_SHARED(double, sums_shared, 2 * 2 * kMaxWarps);
  if (p.go != nullptr && *p.go == 0) return;
  const AdamConstants adam(*p.adam, p.adam->lr);
  BlockSum<2> sums(sums_shared);
  const float gradient_scale =
      p.gradient_scale == nullptr ? 1.0F : static_cast<float>(*p.gradient_scale);
  const registers::Job job{p, adam, sums, gradient_scale};
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * latents;
  if constexpr (S::kColumns) {
    registers::UpdateColumns<S>(job, first, latents);
  } else if constexpr (S::kLazy) {
    registers::UpdateTouched<S>(job, first, latents);
  } else {
    registers::UpdateLatents<S>(job, first, latents);
  }
}

/// After a lazy or a deferred step, when nobody reads the steps any more.
SAELOOM_KERNEL void MarkRowsKernel(RowUpdateParams p) {
  const std::int64_t latent = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (latent >= p.latents || (p.go != nullptr && *p.go == 0)) return;
  const ListLengths lengths = LengthsOf(p, latent);
  if (p.last_step != nullptr) {
    if (Touched(p, lengths)) p.last_step[latent] = p.adam->t;
  } else if (DecoderTouched(p, lengths.decoder)) {
    p.decoder_step[latent] = p.adam->t;
  }
}

SAELOOM_DEVICE void Rest(const MomentRows& r, std::int64_t d, const AdamConstants& adam,
                         std::int64_t latent, std::int64_t rested) {
  float* const m = static_cast<float*>(r.m) + latent * d;
  float* const v = static_cast<float*>(r.v) + latent * d;
  for (std::int64_t j = threadIdx.x; j < d; j += kThreads) {
    m[j] = 0;
    v[j] = Decayed(adam, rested, v[j]);
  }
}

/// Latents blockIdx.x, blockIdx.x + gridDim.x, ...
SAELOOM_KERNEL void CatchUpRowsKernel(device::CatchUpRowsParams p) {
  const AdamConstants adam({0, 0, p.beta2, 0, 1, 1, p.t}, 0);
  for (std::int64_t i = blockIdx.x; i < p.latents; i += gridDim.x) {
    const std::int64_t rested = p.t - p.last_step[i];
    if (rested <= 0) continue;
    Rest(p.enc_moments, p.d, adam, i, rested);
    Rest(p.dec_moments, p.d_out, adam, i, rested);
  }
}

bool Valid(const MomentRows& r) {
  return r.m != nullptr && r.v != nullptr &&
         (r.format != Format::kInt8 || (r.m_scales != nullptr && r.v_scales != nullptr));
}

/// Blocks of columns, and what they go without.
bool ColumnsFit(const RowUpdateParams& p) {
  return p.d == 0 && p.rule == RowRule::kFree && p.dec_moments.format == Format::kF32 &&
         p.last_step == nullptr && p.dense_delta == nullptr && p.columns.chunk > 0;
}

bool Valid(const RowUpdateParams& p) {
  const bool columns = p.columns.along != nullptr;
  if (p.latents < 0 || p.d < 0 || p.d_out < 0 || p.terms_count < 0 ||
      p.terms_count > device::kMaxTerms || p.adam == nullptr ||
      (p.w_enc.hi == nullptr && !columns) || p.w_dec.hi == nullptr) {
    return false;
  }
  if (columns && !ColumnsFit(p)) return false;
  if (p.measure_only ? p.norms == nullptr
                     : (!Valid(p.enc_moments) && !columns) || !Valid(p.dec_moments)) {
    return false;
  }
  if ((p.b_dec != nullptr && p.delta_sums == nullptr) ||
      (p.dense_delta != nullptr && p.x_sum == nullptr) ||
      (p.rule == RowRule::kOnTheFly && p.row_scale == nullptr)) {
    return false;
  }
  if ((p.last_step != nullptr || p.decoder_step != nullptr) &&
      (p.enc_moments.format != Format::kF32 || p.dec_moments.format != Format::kF32)) {
    return false;
  }
  if (p.decoder_step != nullptr &&
      (p.last_step != nullptr || (p.rule != RowRule::kUnit && p.rule != RowRule::kFree))) {
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

bool FourAtOnce(const device::MutableWeightRows& w, const MomentRows& r) {
  const std::uintptr_t moment = r.format == Format::kF32 ? 16 : r.format == Format::kBf16 ? 8 : 4;
  return Aligned(w.hi, 8) && Aligned(w.lo, 8) && Aligned(r.m, moment) && Aligned(r.v, moment);
}
/// Whether every row is whole quads of columns that can be read in one access each.
bool FourAtOnce(const RowUpdateParams& p) {
  bool yes = p.enc_moments.format == p.dec_moments.format && p.d % 4 == 0 && p.d_out % 4 == 0 &&
             FourAtOnce(p.w_enc, p.enc_moments) && FourAtOnce(p.w_dec, p.dec_moments) &&
             Aligned(p.x, 16) && Aligned(p.x_bf16, 8) && Aligned(p.b_dec, 16) &&
             Aligned(p.x_sum, 16);
  for (int t = 0; t < p.terms_count; ++t) yes = yes && Aligned(p.terms[t].g, 16);
  return yes;
}

constexpr std::int64_t kLatentsInTurn = 4;  // of one block, so that what all share is made once
constexpr std::int64_t kManyBlocks = 8192;
constexpr std::int64_t kLongListBlocks = 2048;

/// Lazy: a lane looks at each, so there may be a warp of them.
template <class S>
std::int64_t LatentsInTurn(const RowUpdateParams& p) {
  const std::int64_t asked = p.tuning.latents;
  if (!S::kLazy && asked > 0) return asked;
  if (!S::kLazy) return p.latents >= kManyBlocks * kLatentsInTurn ? kLatentsInTurn : 1;
  const std::int64_t share = asked > 0 ? asked : p.latents / kManyBlocks;
  return share < 1 ? 1 : share < 32 ? share : 32;
}

template <class S>
Error LaunchShape(const RowUpdateParams& p, std::int64_t width, void* stream) {
  const std::int64_t each = LatentsInTurn<S>(p);
  const std::int64_t warps = (width + 128 * S::kQuads - 1) / (128 * S::kQuads);
  return SAELOOM_LAUNCH((RegisterKernel<S>), static_cast<unsigned>((p.latents + each - 1) / each),
                        static_cast<unsigned>(32 * (warps > 0 ? warps : 1)), 0, stream, p,
                        static_cast<int>(each));
}
Error LaunchColumns(const RowUpdateParams& p, std::int64_t width, void* stream) {
  return width % 256 == 0
             ? LaunchShape<registers::Shape<2, true, Format::kF32, false, true>>(p, width, stream)
             : LaunchShape<registers::Shape<2, false, Format::kF32, false, true>>(p, width, stream);
}
template <int kQuads, bool kWhole>
Error LaunchRegisters(const RowUpdateParams& p, std::int64_t width, void* stream) {
  if (p.last_step != nullptr)
    return LaunchShape<registers::Shape<kQuads, kWhole, Format::kF32, true>>(p, width, stream);
  if (p.decoder_step != nullptr)
    return LaunchShape<registers::DeferredShape<kQuads, kWhole>>(p, width, stream);
  switch (p.enc_moments.format) {
    case Format::kF32:
      return LaunchShape<registers::Shape<kQuads, kWhole, Format::kF32>>(p, width, stream);
    case Format::kBf16:
      return LaunchShape<registers::Shape<kQuads, kWhole, Format::kBf16>>(p, width, stream);
    case Format::kInt8:
      return LaunchShape<registers::Shape<kQuads, kWhole, Format::kInt8>>(p, width, stream);
  }
  return Error::kInvalidArgument;
}

/// Quads of a thread in RegisterKernel; 0: not for it. More quads are more bytes on their way, but
/// registers for fewer warps. Of 2, 3 and 4 one that leaves no thread without work is best.
constexpr std::int64_t kWidest[] = {0, 0, 2048, 3072, 8192};  // with so many quads
bool Whole(const RowUpdateParams& p, int quads) {
  return p.d == p.d_out && p.d > 0 && p.d % (128 * quads) == 0 && p.d <= kWidest[quads];
}
int QuadsOf(const RowUpdateParams& p, std::int64_t width) {
  if (p.tuning.quads < 0 || width > kWidest[4] || !FourAtOnce(p)) return 0;
  if (p.columns.along != nullptr) return width <= kWidest[2] ? 2 : 0;
  if (p.tuning.quads >= 2 && p.tuning.quads <= 4 && Whole(p, p.tuning.quads)) return p.tuning.quads;
  for (const int quads : {2, 3, 4}) {
    if (Whole(p, quads)) return quads;
  }
  return width <= kWidest[2] ? 2 : 4;
}
Error LaunchRegisters(const RowUpdateParams& p, std::int64_t width, int quads, void* stream) {
  if (p.columns.along != nullptr) return LaunchColumns(p, width, stream);
  const bool whole = Whole(p, quads);
  if (quads == 2) {
    return whole ? LaunchRegisters<2, true>(p, width, stream)
                 : LaunchRegisters<2, false>(p, width, stream);
  }
  if (quads == 3) return LaunchRegisters<3, true>(p, width, stream);
  return whole ? LaunchRegisters<4, true>(p, width, stream)
               : LaunchRegisters<4, false>(p, width, stream);
}

Error UpdateRows(const RowUpdateParams& p, void* stream) {
  Layout layout;
  layout.width = ((p.d > p.d_out ? p.d : p.d_out) + 3) / 4 * 4;
  const std::int64_t row = layout.width * 4;
  while (layout.shares < kWarps && (1 + 2 * layout.shares) * row <= kShareBytes) layout.shares *= 2;
  const bool coded = p.enc_moments.format == Format::kInt8 || p.dec_moments.format == Format::kInt8;
  const std::int64_t area = coded && layout.shares < 3 ? 3 : layout.shares;
  const std::int64_t bytes = (1 + area) * row;
  if (bytes > kSharedBytes) return Error::kInvalidArgument;
  const auto rest = [&](std::int64_t blocks, bool long_only) {
    const auto grid = static_cast<unsigned>(blocks);
    const auto shared = static_cast<std::size_t>(bytes);
    return p.columns.along != nullptr ? SAELOOM_LAUNCH((RowUpdateKernel<true>), grid, kThreads,
                                                       shared, stream, p, layout, long_only)
                                      : SAELOOM_LAUNCH((RowUpdateKernel<false>), grid, kThreads,
                                                       shared, stream, p, layout, long_only);
  };
  const int quads = QuadsOf(p, layout.width);
  if (quads == 0) return rest(p.latents, false);
  const Error error = LaunchRegisters(p, layout.width, quads, stream);
  if (error != Error::kOk) return error;
  const std::int64_t blocks = p.tuning.long_blocks > 0 ? p.tuning.long_blocks : kLongListBlocks;
  return rest(p.latents < blocks ? p.latents : blocks, true);
}

}  // namespace

Error RowUpdate(const RowUpdateParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  const Error error = UpdateRows(p, stream);
  const bool rows_rest = p.last_step != nullptr || p.decoder_step != nullptr;
  if (error != Error::kOk || !rows_rest || p.measure_only) return error;
  const auto grid = static_cast<unsigned>((p.latents + kThreads - 1) / kThreads);
  return SAELOOM_LAUNCH(MarkRowsKernel, grid, kThreads, 0, stream, p);
}

Error CatchUpRows(const device::CatchUpRowsParams& p, void* stream) {
  if (p.latents < 0 || p.d < 0 || p.d_out < 0 || p.last_step == nullptr || !Valid(p.enc_moments) ||
      !Valid(p.dec_moments) || p.enc_moments.format != Format::kF32 ||
      p.dec_moments.format != Format::kF32) {
    return Error::kInvalidArgument;
  }
  const std::int64_t grid = p.latents < kLongListBlocks ? p.latents : kLongListBlocks;
  return SAELOOM_LAUNCH(CatchUpRowsKernel, static_cast<unsigned>(grid), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
