#pragma once
// The row update of a latent whose rows lie in its block's registers: rows of whole quads (4
// columns), lists that are not long. A thread owns quads thread, thread + threads, ... of the
// decoder's row, then of the encoder's, and reads and writes each in one access. What the row holds
// is asked for before its entries are looked up. The only barriers are those of the float64 sums.
// The order of these: columns of a thread ascending, then BlockSum. For kernels alone.
#include "sae/kernels/device.h"
#include "sae/kernels/device/adam_element.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/four-inl.h"
#include "sae/kernels/device/row_terms-inl.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/moment_format.h"

namespace sae::kernels::cuda::registers {

using device::RowRule;
using device::RowTerm;
using device::RowUpdateParams;
using Format = device::MomentFormat;

/// What all parts of one block know.
struct Job {
  const RowUpdateParams& p;
  const AdamConstants& adam;
  BlockSum<2>& sums;
  float gradient_scale;
};

/// What is known when the kernel is compiled. kWhole: every thread has all its quads. kLazy: rows
/// are, and have float32 moments. kColumns: rows are blocks of the decoder's, and so have they.
template <int kQuadsOf, bool kWholeOf, Format kFormatOf, bool kLazyOf = false,
          bool kColumnsOf = false>
struct Shape {
  static constexpr bool kLazy = kLazyOf;
  static constexpr bool kColumns = kColumnsOf;
  static constexpr int kQuads = kQuadsOf;
  static constexpr bool kWhole = kWholeOf;
  static constexpr Format kFormat = kFormatOf;
  static constexpr bool kDeferred = false;
};
/// Decoder rows without a gradient are left alone; float32 moments.
template <int kQuadsOf, bool kWholeOf>
struct DeferredShape : Shape<kQuadsOf, kWholeOf, Format::kF32> {
  static constexpr bool kDeferred = true;
};

/// One row of a matrix and its moments.
template <class S>
struct Row {
  device::MutableWeightRows w;
  device::MomentRows moments;
  std::int64_t latent;
  std::int64_t first;  ///< element of the matrix
  int d;
  bool decoder;
  RoundingKey key;  ///< unless moments are float32
  /// Whether the row has the quad.
  SAELOOM_DEVICE bool Has(int column) const { return S::kWhole || column < d; }
};

template <class S>
using Values = float[S::kQuads][4];

template <class S>
struct State {
  Values<S> g, w, m, v;
};

SAELOOM_DEVICE inline int ColumnOf(int quad) {
  return 4 * static_cast<int>(threadIdx.x + static_cast<unsigned>(quad) * blockDim.x);
}
/// visit(quad, first column) for the thread's quads of a row.
template <class S, class Visit>
SAELOOM_DEVICE inline void ForQuads(const Row<S>& row, const Visit& visit) {
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    const int column = ColumnOf(q);
    if (row.Has(column)) visit(q, column);
  }
}
/// visit(quad, place in the quad).
template <class S, class Visit>
SAELOOM_DEVICE inline void ForElements(const Row<S>& row, const Visit& visit) {
  ForQuads(row, [&](int q, int) {
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) visit(q, c);
  });
}
template <class S>
SAELOOM_DEVICE inline void Clear(Values<S>& values) {
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) values[q][c] = 0;
  }
}

/// Zeros beside the row. (What is set under a condition alone holds a register all the time.)
template <class S, class T>
SAELOOM_DEVICE inline void LoadQuads(const Row<S>& row, const T* from,
                                     Four<T> (&fours)[S::kQuads]) {
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    fours[q] = {};
    if (row.Has(ColumnOf(q))) fours[q] = LoadFourOnce(from + row.first + ColumnOf(q));
  }
}
/// values = convert(quad, element) of what LoadQuads has read.
template <class S, class T, class Convert>
SAELOOM_DEVICE inline void ConvertQuads(const Four<T> (&fours)[S::kQuads], Values<S>& values,
                                        const Convert& convert) {
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) values[q][c] = convert(q, fours[q].of[c]);
  }
}

template <class S>
SAELOOM_DEVICE inline void LoadWeights(const Row<S>& row, Values<S>& w) {
  Four<std::uint16_t> hi[S::kQuads];
  Four<std::int16_t> lo[S::kQuads] = {};
  LoadQuads<S>(row, row.w.hi, hi);
  if (row.w.lo != nullptr) LoadQuads<S>(row, row.w.lo, lo);
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) w[q][c] = Join(hi[q].of[c], lo[q].of[c]);  // lo 0: hi's value
  }
}
template <class S>
SAELOOM_DEVICE inline void StoreWeights(const Row<S>& row, const Values<S>& w) {
  ForQuads(row, [&](int q, int column) {
    Four<std::uint16_t> hi;
    Four<std::int16_t> lo;
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) {
      const SplitFloat split = Split(w[q][c]);
      hi.of[c] = split.hi;
      lo.of[c] = split.lo;
    }
    StoreFourOnce(row.w.hi + row.first + column, hi);
    if (row.w.lo != nullptr) StoreFourOnce(row.w.lo + row.first + column, lo);
  });
}

template <class S>
SAELOOM_DEVICE inline void LoadMoment(const Row<S>& row, Moment moment, Values<S>& values) {
  const device::MomentRows& r = row.moments;
  const bool first = moment == Moment::kFirst;
  const void* const data = first ? r.m : r.v;
  if constexpr (S::kFormat == Format::kF32) {
    Four<float> fours[S::kQuads];
    LoadQuads<S>(row, static_cast<const float*>(data), fours);
    ConvertQuads<S>(fours, values, [](int, float value) { return value; });
  } else if constexpr (S::kFormat == Format::kBf16) {
    Four<std::uint16_t> fours[S::kQuads];
    LoadQuads<S>(row, static_cast<const std::uint16_t*>(data), fours);
    ConvertQuads<S>(fours, values, [](int, std::uint16_t code) { return DecodeBf16(code); });
  } else {
    Four<std::uint8_t> fours[S::kQuads];
    float scales[S::kQuads] = {};
    LoadQuads<S>(row, static_cast<const std::uint8_t*>(data), fours);
    const float* const from = (first ? r.m_scales : r.v_scales) + row.latent * MomentBlocks(row.d);
    ForQuads(row, [&](int q, int column) { scales[q] = from[column / kMomentBlock]; });
    ConvertQuads<S>(fours, values,
                    [&](int q, std::uint8_t code) { return Decode8(code, scales[q], moment); });
  }
}

/// 16 neighbouring lanes hold a block of 64 columns. All lanes come.
template <class S>
SAELOOM_DEVICE inline void StoreBlocks(const Row<S>& row, Moment moment, const Values<S>& values) {
  const device::MomentRows& r = row.moments;
  const bool first = moment == Moment::kFirst;
  std::uint8_t* const codes = static_cast<std::uint8_t*>(first ? r.m : r.v) + row.first;
  float* const scales = (first ? r.m_scales : r.v_scales) + row.latent * MomentBlocks(row.d);
  SAELOOM_UNROLL
  for (int q = 0; q < S::kQuads; ++q) {
    const int column = ColumnOf(q);
    std::uint32_t largest = 0;
    if (row.Has(column)) {
      SAELOOM_UNROLL
      for (int c = 0; c < 4; ++c) {
        const std::uint32_t bits = MagnitudeBits(values[q][c]);
        largest = bits > largest ? bits : largest;
      }
    }
    SAELOOM_UNROLL
    for (int half = kMomentBlock / 8; half > 0; half /= 2) {
      const std::uint32_t other = __shfl_xor_sync(kAllLanes, largest, half);
      largest = other > largest ? other : largest;
    }
    if (!row.Has(column)) continue;
    const float scale = BlockScale(largest);
    const float inverse = InverseScale(scale);
    Four<std::uint8_t> out;
    SAELOOM_UNROLL
    for (int c = 0; c < 4; ++c) {
      out.of[c] = Encode8(values[q][c], inverse, moment,
                          RandomOf(row.key, static_cast<std::uint32_t>(column + c), moment,
                                   MomentRounding::kStochastic));
    }
    StoreFourOnce(codes + column, out);
    if (column % kMomentBlock == 0) scales[column / kMomentBlock] = scale;
  }
}
template <class S>
SAELOOM_DEVICE inline void StoreMoment(const Row<S>& row, Moment moment, const Values<S>& values) {
  const device::MomentRows& r = row.moments;
  void* const data = moment == Moment::kFirst ? r.m : r.v;
  if constexpr (S::kFormat == Format::kF32) {
    float* const to = static_cast<float*>(data) + row.first;
    ForQuads(row, [&](int q, int column) {
      Four<float> four;
      SAELOOM_UNROLL
      for (int c = 0; c < 4; ++c) four.of[c] = values[q][c];
      StoreFourOnce(to + column, four);
    });
  } else if constexpr (S::kFormat == Format::kBf16) {
    std::uint16_t* const to = static_cast<std::uint16_t*>(data) + row.first;
    ForQuads(row, [&](int q, int column) {
      Four<std::uint16_t> four;
      SAELOOM_UNROLL
      for (int c = 0; c < 4; ++c) {
        four.of[c] =
            EncodeBf16(values[q][c], RandomOf(row.key, static_cast<std::uint32_t>(column + c),
                                              moment, MomentRounding::kStochastic));
      }
      StoreFourOnce(to + column, four);
    });
  } else {
    StoreBlocks<S>(row, moment, values);
  }
}

SAELOOM_DEVICE inline float ToFloat(float value) { return value; }
SAELOOM_DEVICE inline float ToFloat(std::uint16_t bf16) { return Bf16ToFloat(bf16); }

/// g += factor times row of its token, for `count` entries, one a lane, in lane order. Rows of
/// several entries are asked for before the first is added.
template <class S, class T>
SAELOOM_DEVICE inline void AddRows(const Row<S>& row, const T* rows, int count, std::int32_t token,
                                   float factor, Values<S>& g) {
  constexpr int kRegisters = 16;
  constexpr int kWords = S::kQuads * static_cast<int>(sizeof(T));
  constexpr int kTogether = kWords < kRegisters ? kRegisters / kWords : 1;
  static_assert(32 % kTogether == 0, "a lane for every entry asked for");
  SAELOOM_NO_UNROLL
  for (int begin = 0; begin < count; begin += kTogether) {
    Four<T> fours[kTogether][S::kQuads];
    SAELOOM_UNROLL
    for (int u = 0; u < kTogether; ++u) {
      const std::int64_t of = __shfl_sync(kAllLanes, token, begin + u);
      SAELOOM_UNROLL
      for (int q = 0; q < S::kQuads; ++q) {
        fours[u][q] = {};
        if (begin + u < count && row.Has(ColumnOf(q)))
          fours[u][q] = LoadFour(rows + of * row.d + ColumnOf(q));
      }
    }
    SAELOOM_UNROLL
    for (int u = 0; u < kTogether; ++u) {
      const float by = __shfl_sync(kAllLanes, factor, begin + u);
      if (begin + u >= count) continue;
      ForElements(
          row, [&](int q, int c) { g[q][c] = __fmaf_rn(by, ToFloat(fours[u][q].of[c]), g[q][c]); });
    }
  }
}

/// g += the sum over the terms' entries, in order.
template <class S>
SAELOOM_DEVICE inline void Accumulate(const RowUpdateParams& p, const Row<S>& row, Values<S>& g) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  SAELOOM_NO_UNROLL
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    const float* const factors = row.decoder ? term.f : term.delta;
    if (factors == nullptr || !Holds(term, row.latent)) continue;
    const std::int32_t end = term.index.indptr[row.latent + 1];
    for (std::int32_t first = term.index.indptr[row.latent]; first < end; first += 32) {
      const int count = end - first < 32 ? end - first : 32;
      std::int32_t token = 0;
      float factor = 0;
      if (lane < count) {
        const std::int32_t e = term.index.entries[first + lane];
        token = term.rows[e];
        factor = factors[e];
      }
      if (row.decoder || p.x != nullptr) {
        AddRows<S>(row, row.decoder ? term.g : p.x, count, token, factor, g);
      } else {
        AddRows<S>(row, p.x_bf16, count, token, factor, g);
      }
    }
  }
}

template <class S>
SAELOOM_DEVICE inline void Scale(const Row<S>& row, float by, Values<S>& values) {
  ForElements(row, [&](int q, int c) { values[q][c] = by * values[q][c]; });
}
template <class S>
SAELOOM_DEVICE inline double Dot(const Row<S>& row, const Values<S>& a, const Values<S>& b) {
  double sum = 0;
  ForElements(row, [&](int q, int c) {
    sum = __fma_rn(static_cast<double>(a[q][c]), static_cast<double>(b[q][c]), sum);
  });
  return sum;
}
template <class S>
SAELOOM_DEVICE inline void Renormalise(const Job& job, const Row<S>& row, Values<S>& w) {
  double sums[2] = {Dot<S>(row, w, w), 0};
  job.sums(sums);
  Scale<S>(row, InverseNorm(sums[0]), w);
}

/// g becomes factor (g + radial w) or, with norms, g + a w: what the decoder's rule makes of it.
template <class S>
SAELOOM_DEVICE inline void ApplyRule(const Job& job, const Row<S>& row, State<S>& s) {
  const RowUpdateParams& p = job.p;
  float along = 0;
  if constexpr (S::kColumns) {
    along = p.columns.along[row.latent];
  } else if (p.rule != RowRule::kFree || p.norm_gradient != nullptr) {
    double sums[2] = {Dot<S>(row, s.g, s.w), Dot<S>(row, s.w, s.w)};
    job.sums(sums);
    if (sums[1] > 0) {
      along = static_cast<float>(p.rule != RowRule::kFree
                                     ? -sums[0] / sums[1]
                                     : static_cast<double>(p.norm_gradient[row.latent]) /
                                           sqrt(sums[1]));
    }
  }
  const float factor = p.rule == RowRule::kOnTheFly ? p.row_scale[row.latent] : 1.0F;
  ForElements(row,
              [&](int q, int c) { s.g[q][c] = factor * __fmaf_rn(along, s.w[q][c], s.g[q][c]); });
}

/// What the encoder's gradient has beside its entries.
template <class S>
SAELOOM_DEVICE inline void FinishEncoderGradient(const RowUpdateParams& p, const Row<S>& row,
                                                 Values<S>& g) {
  if (p.dense_delta != nullptr) {
    const float by = p.dense_delta[row.latent];
    ForQuads(row, [&](int q, int column) {
      const Four<float> sum = LoadFour(p.x_sum + column);
      SAELOOM_UNROLL
      for (int c = 0; c < 4; ++c) g[q][c] = __fmaf_rn(by, sum.of[c], g[q][c]);
    });
  }
  if (p.scale != 1.0F) {
    ForElements(row, [&](int q, int c) { g[q][c] *= p.scale; });
  }
  if (p.b_dec != nullptr) {
    const float by = -p.delta_sums[row.latent];
    ForQuads(row, [&](int q, int column) {
      const Four<float> bias = LoadFour(p.b_dec + column);
      SAELOOM_UNROLL
      for (int c = 0; c < 4; ++c) g[q][c] = __fmaf_rn(by, bias.of[c], g[q][c]);
    });
  }
}

/// Whether m is not 0 anywhere, and whether beta1 m is not.
struct Motion {
  bool any, lasting;
};
template <class S>
SAELOOM_DEVICE inline Motion MotionOf(const Job& job, const Row<S>& row, const Values<S>& m) {
  double any[2] = {0, 0};
  ForElements(row, [&](int q, int c) {
    if (m[q][c] != 0) any[0] = 1;
    if (!(fabsf(job.adam.beta1 * m[q][c]) < kSmallestNormal)) any[1] = 1;
  });
  job.sums(any);
  return {any[0] != 0, any[1] != 0};
}

/// |row|^2 for whoever adds the blocks' parts.
template <class S>
SAELOOM_DEVICE inline void StoreNorm(const RowUpdateParams& p, const Row<S>& row, double norm2,
                                     bool rests) {
  if (threadIdx.x == 0) StoreColumnNorm(p.columns, row.latent, norm2, rests);
}

/// Adam with g, which is 0 for a row that nothing `touched`, and the decoder's rule after it.
/// Returns |g|^2 where someone wants it. (With g = 0 it is AdamElementWithoutGradient to the bit.)
template <class S>
SAELOOM_DEVICE inline double StepRow(const Job& job, const Row<S>& row, bool touched, State<S>& s) {
  const RowUpdateParams& p = job.p;
  const bool unit = row.decoder && p.rule == RowRule::kUnit;
  const bool on_the_fly = row.decoder && p.rule == RowRule::kOnTheFly;
  double sums[2] = {0, 0};  // |g|^2, or without touch whether m is not 0; |w|^2
  if (touched && p.norms != nullptr) sums[0] = Dot<S>(row, s.g, s.g);
  if (!p.measure_only) {
    const float scale = touched ? job.gradient_scale : 0.0F;
    ForElements(row, [&](int q, int c) {
      AdamElement(job.adam, scale * s.g[q][c], &s.w[q][c], &s.m[q][c], &s.v[q][c]);
    });
    StoreMoment<S>(row, Moment::kFirst, s.m);
    StoreMoment<S>(row, Moment::kSecond, s.v);
    if (!touched) {
      ForElements(row, [&](int q, int c) {
        if (s.m[q][c] != 0) sums[0] = 1;
      });
    }
    if (S::kColumns || unit || on_the_fly) sums[1] = Dot<S>(row, s.w, s.w);
  }
  if (S::kColumns || (touched && p.norms != nullptr) || unit || on_the_fly) job.sums(sums);
  if constexpr (S::kColumns) {
    if (!p.measure_only) StoreNorm<S>(p, row, sums[1], !touched && sums[0] == 0);
  }
  if (!p.measure_only) {
    if (touched || sums[0] != 0) {
      if (unit) Scale<S>(row, InverseNorm(sums[1]), s.w);
      if (on_the_fly && threadIdx.x == 0) p.row_scale[row.latent] = InverseNorm(sums[1]);
    }
    StoreWeights<S>(row, s.w);
  }
  return touched ? sums[0] : 0;
}

/// Before step t: what the steps that the latent has rested for did to the row's moments.
template <class S>
SAELOOM_DEVICE inline void CatchUp(const Job& job, const Row<S>& row, State<S>& s) {
  const std::int64_t rested = job.p.adam->t - 1 - job.p.last_step[row.latent];
  if (rested <= 0) return;
  ForElements(row, [&](int q, int c) {
    s.m[q][c] = 0;
    s.v[q][c] = Decayed(job.adam, rested, s.v[q][c]);
  });
}

/// False: the latent has a long list, and nothing was changed. *norm2: of the row's gradient.
template <class S>
SAELOOM_DEVICE inline bool UpdateRow(const Job& job, const Row<S>& row, double* norm2) {
  const RowUpdateParams& p = job.p;
  if constexpr (S::kDeferred) {
    const ListLengths lengths = LengthsOf(p, row.latent);
    if (row.decoder && !lengths.AnyLong() && !DecoderTouched(p, lengths.decoder)) {
      *norm2 = 0;
      return true;
    }
  }
  State<S> s;
  if (!p.measure_only) {
    LoadMoment<S>(row, Moment::kFirst, s.m);
    LoadMoment<S>(row, Moment::kSecond, s.v);
  }
  const ListLengths lengths = LengthsOf(p, row.latent);
  if (lengths.AnyLong()) return false;
  if constexpr (S::kLazy) {
    if (!p.measure_only) CatchUp<S>(job, row, s);
  }
  const bool touched =
      row.decoder ? DecoderTouched(p, lengths.decoder) : EncoderTouched(p, lengths.encoder);
  *norm2 = 0;
  bool renormalise = row.decoder && p.rule == RowRule::kUnitBefore;
  if (!touched) {
    if (p.measure_only) return true;
    const Motion motion = MotionOf<S>(job, row, s.m);
    if (!motion.any) {
      ForElements(row, [&](int q, int c) { s.v[q][c] = Flush(job.adam.beta2 * s.v[q][c]); });
      if constexpr (S::kLazy) StoreMoment<S>(row, Moment::kFirst, s.m);
      StoreMoment<S>(row, Moment::kSecond, s.v);
      if constexpr (S::kColumns) {
        LoadWeights<S>(row, s.w);
        double sums[2] = {Dot<S>(row, s.w, s.w), 0};
        job.sums(sums);
        StoreNorm<S>(p, row, sums[0], true);
      }
      return true;
    }
    renormalise = renormalise && motion.lasting;
  }
  LoadWeights<S>(row, s.w);
  Clear<S>(s.g);
  if (touched) Accumulate<S>(p, row, s.g);
  if (renormalise) Renormalise<S>(job, row, s.w);
  if (touched && row.decoder) ApplyRule<S>(job, row, s);
  if (touched && !row.decoder) FinishEncoderGradient<S>(p, row, s.g);
  *norm2 = StepRow<S>(job, row, touched, s);
  return true;
}

/// Row 2 i is latent first + i's of the decoder, row 2 i + 1 that of the encoder; without a key.
template <class S>
SAELOOM_DEVICE inline Row<S> RowAt(const RowUpdateParams& p, std::int64_t first, int step) {
  const bool decoder = step % 2 == 0;
  const std::int64_t latent = first + step / 2;
  const std::int64_t d = decoder ? p.d_out : p.d;
  return {decoder ? p.w_dec : p.w_enc,
          decoder ? p.dec_moments : p.enc_moments,
          latent,
          latent * d,
          static_cast<int>(d),
          decoder,
          {}};
}

/// The decoder's row of a latent, then the encoder's, for `latents` latents from `first` on.
template <class S>
SAELOOM_DEVICE inline void UpdateLatents(const Job& job, std::int64_t first, int latents) {
  const RowUpdateParams& p = job.p;
  const std::int64_t left = p.latents - first;
  const int steps = 2 * (left < latents ? static_cast<int>(left) : latents);
  double decoder_norm2 = 0;
  SAELOOM_NO_UNROLL
  for (int step = 0; step < steps; ++step) {
    Row<S> row = RowAt<S>(p, first, step);
    if (S::kFormat != Format::kF32 && !p.measure_only) {
      const std::int64_t global =
          p.global_ids == nullptr ? p.first_global + row.latent : p.global_ids[row.latent];
      row.key = RoundingKeyOf(p.seed, static_cast<std::uint64_t>(p.adam->t),
                              static_cast<std::uint64_t>(global),
                              row.decoder ? MomentMatrix::kDecoder : MomentMatrix::kEncoder);
    }
    double norm2 = 0;
    if (!UpdateRow<S>(job, row, &norm2)) continue;
    if (row.decoder) {
      decoder_norm2 = norm2;
    } else if (threadIdx.x == 0 && p.norms != nullptr) {
      p.norms[row.latent] = decoder_norm2 + norm2;
    }
  }
}

/// The blocks' rows of `latents` latents from `first` on.
template <class S>
SAELOOM_DEVICE inline void UpdateColumns(const Job& job, std::int64_t first, int latents) {
  const RowUpdateParams& p = job.p;
  const std::int64_t left = p.latents - first;
  const int count = left < latents ? static_cast<int>(left) : latents;
  SAELOOM_NO_UNROLL
  for (int i = 0; i < count; ++i) {
    const Row<S> row = RowAt<S>(p, first, 2 * i);
    double norm2 = 0;
    if (!UpdateRow<S>(job, row, &norm2)) continue;
    if (threadIdx.x == 0 && p.norms != nullptr) p.norms[row.latent] = norm2;
  }
}

/// Those of `latents` latents from `first` on, at most one a lane, that have a gradient and no long
/// list, in turn.
template <class S>
SAELOOM_DEVICE inline void UpdateTouched(const Job& job, std::int64_t first, int latents) {
  const RowUpdateParams& p = job.p;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t mine = first + lane;
  bool wanted = false;
  if (lane < latents && mine < p.latents) {
    const ListLengths lengths = LengthsOf(p, mine);
    const bool touched = Touched(p, lengths);
    wanted = touched && !lengths.AnyLong();
    if (!touched && threadIdx.x < 32 && p.norms != nullptr) p.norms[mine] = 0;
  }
  for (unsigned left = __ballot_sync(kAllLanes, wanted ? 1 : 0); left != 0; left &= left - 1)
    UpdateLatents<S>(job, first + __ffs(static_cast<int>(left)) - 1, 1);
}

}  // namespace sae::kernels::cuda::registers
