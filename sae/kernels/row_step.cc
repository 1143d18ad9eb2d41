// Numerics: gradient rows are sums in T, one fused multiply-add an entry where the processor has
// it. Norms and projections are float64 sums in 16 lanes (row_ops.h). A step without gradient is
// one function, AdvanceDecoder, whether it is taken at once or replayed later.
#include "sae/kernels/row_step.h"

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"

namespace sae::kernels {
inline namespace row_step {
namespace {

using Rows = RowUpdateOptions::Rows;

/// One row of a matrix and its moments.
template <class T>
struct Row {
  T* w;
  T* m;
  T* v;
};

template <class T>
Row<T> EncoderRow(const RowParameters<T>& p, std::int64_t d, std::int64_t latent) {
  return {p.w_enc + latent * d, p.w_enc_m + latent * d, p.w_enc_v + latent * d};
}

template <class T>
Row<T> DecoderRow(const RowParameters<T>& p, std::int64_t d, std::int64_t latent) {
  return {p.w_dec + latent * d, p.w_dec_m + latent * d, p.w_dec_v + latent * d};
}

template <class T>
T InverseNorm(std::int64_t d, const T* w) {
  constexpr double kFloor = 0x1.0p-24;
  return static_cast<T>(1 / std::max(std::sqrt(SumOfSquares(d, w)), kFloor));
}

/// The gradient as Adam sees it, but for gradient_scale. `w` as the gradient was taken at it;
/// kUnitBefore: already renormalised.
template <class T>
void ApplyRule(DecoderRule rule, std::int64_t d, const T* w, const T* row_scale, T* g) {
  if (rule == DecoderRule::kFree) return;
  ProjectRow(d, w, g);
  if (rule == DecoderRule::kOnTheFly) Scale(d, *row_scale, g);
}

/// The decoder row's step with g = 0.
template <class T>
void AdvanceDecoder(DecoderRule rule, const Adam& adam, std::int64_t d, const Row<T>& row,
                    T* row_scale) {
  if (rule == DecoderRule::kUnitBefore && MovesWithoutGradient(d, adam, row.m)) {
    RenormaliseRow(d, row.w);
  }
  AdamRowWithoutGradient(d, adam, row.w, row.m, row.v);
  if (rule == DecoderRule::kFree || rule == DecoderRule::kUnitBefore || AllZero(d, row.m)) return;
  if (rule == DecoderRule::kUnit) RenormaliseRow(d, row.w);
  if (rule == DecoderRule::kOnTheFly) *row_scale = InverseNorm(d, row.w);
}

/// The decoder row's step with gradient `g` (after its rule and gradient_scale).
template <class T>
void StepDecoder(DecoderRule rule, const Adam& adam, std::int64_t d, const T* g, const Row<T>& row,
                 T* row_scale) {
  AdamRow(d, adam, g, row.w, row.m, row.v);
  if (rule == DecoderRule::kUnit) RenormaliseRow(d, row.w);
  if (rule == DecoderRule::kOnTheFly) *row_scale = InverseNorm(d, row.w);
}

/// Constants of the steps that rows have to catch up with, made once a call.
class Replay {
 public:
  Replay(const RowUpdateOptions& options, std::int64_t from, std::int64_t to)
      : options_(options), from_(from) {
    if (options.rows != Rows::kDeferred) return;
    to = std::min(to, from + kTable);
    for (std::int64_t t = from; t <= to; ++t) table_.push_back(options.adam_at(t));
  }
  Adam At(std::int64_t t) const {
    const auto at = static_cast<std::size_t>(t - from_);
    return at < table_.size() ? table_[at] : options_.adam_at(t);
  }

 private:
  static constexpr std::int64_t kTable = 1 << 16;
  const RowUpdateOptions& options_;
  std::int64_t from_;
  std::vector<Adam> table_;
};

/// Steps last_step + 1 .. to of one latent, none of which has a gradient for the rows concerned.
template <class T>
void CatchUpRow(const RowUpdateOptions& options, const Replay& replay, std::int64_t d,
                std::int64_t d_out, const RowParameters<T>& p, std::int64_t latent,
                std::int64_t to) {
  std::int64_t t = p.last_step[latent];
  if (t >= to) return;
  p.last_step[latent] = to;
  const Row<T> dec = DecoderRow(p, d_out, latent);
  if (options.rows == Rows::kLazy) {
    const Row<T> enc = EncoderRow(p, d, latent);
    std::fill(dec.m, dec.m + d_out, T(0));
    std::fill(enc.m, enc.m + d, T(0));
    DecayRow(d_out, options.adam, to - t, dec.v);
    DecayRow(d, options.adam, to - t, enc.v);
    return;
  }
  T* const row_scale = p.row_scale == nullptr ? nullptr : p.row_scale + latent;
  for (bool moves = !AllZero(d_out, dec.m); t < to && moves; moves = !AllZero(d_out, dec.m)) {
    AdvanceDecoder(options.decoder, replay.At(++t), d_out, dec, row_scale);
  }
  DecayRow(d_out, options.adam, to - t, dec.v);
}

std::int64_t FirstStepToReplay(const std::int64_t* last_step, const std::int32_t* latents,
                               std::int64_t count, std::int64_t to) {
  std::int64_t first = to;
  for (std::int64_t i = 0; i < count; ++i) {
    first = std::min(first, last_step[latents == nullptr ? i : latents[i]]);
  }
  return first + 1;
}

template <class T>
bool Touched(const RowGradientInput<T>& input, std::int64_t latent, RowsWithGradient* rows) {
  rows->dec = input.norm_gradient != nullptr;
  rows->enc = input.dense_delta != nullptr;
  for (const GradientTerm<T>& term : input.terms) {
    if (latent < term.first_latent || latent >= term.last_latent || term.index->empty(latent)) {
      continue;
    }
    rows->dec = rows->dec || term.f != nullptr;
    rows->enc = rows->enc || term.delta != nullptr;
  }
  return rows->dec || rows->enc;
}

template <class T>
void Check(const RowGradientInput<T>& input, const RowParameters<T>& p,
           const RowUpdateOptions& options) {
  SAE_CHECK(input.b_dec == nullptr || input.delta_sums != nullptr);
  SAE_CHECK(input.dense_delta == nullptr || input.x_sum != nullptr);
  SAE_CHECK(options.decoder != DecoderRule::kOnTheFly || p.row_scale != nullptr);
  SAE_CHECK(options.rows == Rows::kDense || p.last_step != nullptr);
  SAE_CHECK(options.rows != Rows::kLazy || options.adam.beta1 == 0);
  SAE_CHECK(options.rows != Rows::kDeferred || options.adam_at != nullptr);
  SAE_CHECK_MSG(options.t >= 1, "step %lld", static_cast<long long>(options.t));
}

/// The other rules project the gradient of a row's norm out: all that it could leave is rounding,
/// which Adam would blow up to a whole step.
template <class T>
RowGradientInput<T> WithoutWhatIsProjectedOut(const RowGradientInput<T>& given, DecoderRule rule) {
  RowGradientInput<T> input = given;
  if (rule != DecoderRule::kFree) input.norm_gradient = nullptr;
  return input;
}

template <class T>
void Reserve(RowWorkspace<T>* workspace, const RowGradientInput<T>& input, int threads) {
  workspace->rows.resize(static_cast<std::size_t>((input.d + 2 * input.d_out) * threads));
  workspace->norms.assign(static_cast<std::size_t>(input.latents), 0.0);
}

double Total(const std::vector<double>& norms) {
  double sum = 0;
  for (const double norm : norms) sum += norm;
  return sum;
}

/// One latent's step. Returns the squared norm of its gradient.
template <class T>
double UpdateLatent(const RowGradientInput<T>& input, const RowUpdateOptions& options,
                    const Replay& replay, const RowParameters<T>& p, std::int64_t latent,
                    T* scratch) {
  const std::int64_t d = input.d;
  const std::int64_t d_out = input.d_out;
  RowsWithGradient with;
  const bool touched = Touched(input, latent, &with);
  const Row<T> enc = EncoderRow(p, d, latent);
  const Row<T> dec = DecoderRow(p, d_out, latent);
  if (!touched && options.rows == Rows::kLazy) return 0;
  if (options.rows == Rows::kLazy || (options.rows == Rows::kDeferred && with.dec)) {
    CatchUpRow(options, replay, d, d_out, p, latent, options.t - 1);
    p.last_step[latent] = options.t;
  }
  T* const g_dec = scratch;
  T* const g_enc = scratch + d_out;
  if (touched) RowGradient(input, p.w_dec, latent, g_dec, g_enc);
  T* const row_scale = p.row_scale == nullptr ? nullptr : p.row_scale + latent;
  const auto scale = static_cast<T>(options.gradient_scale);
  double norm2 = 0;
  if (with.dec) {
    if (options.decoder == DecoderRule::kUnitBefore) RenormaliseRow(d_out, dec.w);
    ApplyRule(options.decoder, d_out, dec.w, row_scale, g_dec);
    norm2 = SumOfSquares(d_out, g_dec);
    if (scale != T(1)) Scale(d_out, scale, g_dec);
    StepDecoder(options.decoder, options.adam, d_out, g_dec, dec, row_scale);
  } else if (options.rows != Rows::kDeferred) {
    AdvanceDecoder(options.decoder, options.adam, d_out, dec, row_scale);
  }
  if (with.enc) {
    norm2 += SumOfSquares(d, g_enc);
    if (scale != T(1)) Scale(d, scale, g_enc);
    AdamRow(d, options.adam, g_enc, enc.w, enc.m, enc.v);
  } else {
    AdamRowWithoutGradient(d, options.adam, enc.w, enc.m, enc.v);
  }
  return norm2;
}

}  // namespace

template <class T>
RowsWithGradient RowGradient(const RowGradientInput<T>& input, const T* w_dec, std::int64_t latent,
                             T* g_dec, T* g_enc) {
  const std::int64_t d = input.d;
  const std::int64_t d_out = input.d_out;
  const auto i = static_cast<std::size_t>(latent);
  std::fill(g_dec, g_dec + d_out, T(0));
  std::fill(g_enc, g_enc + d, T(0));
  RowsWithGradient with;
  if (!Touched(input, latent, &with)) return with;
  for (const GradientTerm<T>& term : input.terms) {
    if (latent < term.first_latent || latent >= term.last_latent) continue;
    for (std::int64_t q = term.index->indptr[i]; q < term.index->indptr[i + 1]; ++q) {
      const std::int64_t entry = term.index->entries[static_cast<std::size_t>(q)];
      const std::int64_t token = term.index->tokens[static_cast<std::size_t>(q)];
      if (term.f != nullptr) Axpy(d_out, term.f[entry], term.g + token * d_out, g_dec);
      if (term.delta != nullptr) Axpy(d, term.delta[entry], input.x + token * d, g_enc);
    }
  }
  if (input.norm_gradient != nullptr) {
    const T* w = w_dec + latent * d_out;
    const double norm = std::sqrt(SumOfSquares(d_out, w));
    const auto a = static_cast<double>(input.norm_gradient[i]);
    if (norm > 0) Axpy(d_out, static_cast<T>(a / norm), w, g_dec);
  }
  if (!with.enc) return with;
  if (input.dense_delta != nullptr) Axpy(d, input.dense_delta[i], input.x_sum, g_enc);
  if (input.scale != T(1)) Scale(d, input.scale, g_enc);
  if (input.b_dec != nullptr) Axpy(d, -input.delta_sums[i], input.b_dec, g_enc);
  return with;
}

template <class T>
double RowGradientSquaredNorm(const RowGradientInput<T>& given, const RowParameters<T>& parameters,
                              const RowUpdateOptions& options, RowWorkspace<T>* workspace,
                              ThreadPool& pool) {
  Check(given, parameters, options);
  const RowGradientInput<T> input = WithoutWhatIsProjectedOut(given, options.decoder);
  Reserve(workspace, input, pool.size());
  const std::int64_t d_out = input.d_out;
  pool.ParallelFor(input.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* const g_dec = workspace->rows.data() + (input.d + 2 * d_out) * worker;
    T* const g_enc = g_dec + d_out;
    T* const unit = g_enc + input.d;
    for (std::int64_t i = begin; i < end; ++i) {
      const RowsWithGradient with = RowGradient(input, parameters.w_dec, i, g_dec, g_enc);
      double norm2 = 0;
      if (with.dec) {
        const T* w = parameters.w_dec + i * d_out;
        if (options.decoder == DecoderRule::kUnitBefore) {
          std::copy(w, w + d_out, unit);
          RenormaliseRow(d_out, unit);
          w = unit;
        }
        const T* scale = parameters.row_scale == nullptr ? nullptr : parameters.row_scale + i;
        ApplyRule(options.decoder, d_out, w, scale, g_dec);
        norm2 = SumOfSquares(d_out, g_dec);
      }
      if (with.enc) norm2 += SumOfSquares(input.d, g_enc);
      workspace->norms[static_cast<std::size_t>(i)] = norm2;
    }
  });
  return Total(workspace->norms);
}

template <class T>
double RowUpdate(const RowGradientInput<T>& given, const RowUpdateOptions& options,
                 const RowParameters<T>& parameters, RowWorkspace<T>* workspace, ThreadPool& pool) {
  Check(given, parameters, options);
  const RowGradientInput<T> input = WithoutWhatIsProjectedOut(given, options.decoder);
  Reserve(workspace, input, pool.size());
  // Rows with a gradient are current as a rule: constants of other steps are made when asked for.
  const Replay replay(options, options.t, options.t - 1);
  pool.ParallelFor(input.latents, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* const scratch = workspace->rows.data() + (input.d + 2 * input.d_out) * worker;
    for (std::int64_t i = begin; i < end; ++i) {
      workspace->norms[static_cast<std::size_t>(i)] =
          UpdateLatent(input, options, replay, parameters, i, scratch);
    }
  });
  return Total(workspace->norms);
}

template <class T>
void CatchUp(const std::int32_t* latents, std::int64_t count, std::int64_t d, std::int64_t d_out,
             const RowUpdateOptions& options, const RowParameters<T>& parameters,
             ThreadPool& pool) {
  if (options.rows == Rows::kDense) return;
  SAE_CHECK(parameters.last_step != nullptr);
  SAE_CHECK(options.rows != Rows::kLazy || options.adam.beta1 == 0);
  SAE_CHECK(options.rows != Rows::kDeferred || options.adam_at != nullptr);
  const Replay replay(options,
                      FirstStepToReplay(parameters.last_step, latents, count, options.t),
                      options.t);
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t i = latents == nullptr ? at : latents[at];
      CatchUpRow(options, replay, d, d_out, parameters, i, options.t);
    }
  });
}

#define SAE_INSTANTIATE(T)                                                                         \
  template RowsWithGradient RowGradient(const RowGradientInput<T>&, const T*, std::int64_t, T*,    \
                                        T*);                                                       \
  template double RowGradientSquaredNorm(const RowGradientInput<T>&, const RowParameters<T>&,      \
                                         const RowUpdateOptions&, RowWorkspace<T>*, ThreadPool&);  \
  template double RowUpdate(const RowGradientInput<T>&, const RowUpdateOptions&,                   \
                            const RowParameters<T>&, RowWorkspace<T>*, ThreadPool&);               \
  template void CatchUp(const std::int32_t*, std::int64_t, std::int64_t, std::int64_t,             \
                        const RowUpdateOptions&, const RowParameters<T>&, ThreadPool&);
SAE_INSTANTIATE(float)
SAE_INSTANTIATE(double)
#undef SAE_INSTANTIATE

}  // namespace row_step

template <class T>
void SumByLatent(const LatentIndex& index, const T* values, T* out, ThreadPool& pool) {
  pool.ParallelFor(index.latents, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t last = index.indptr[static_cast<std::size_t>(i) + 1];
      double sum = 0;
      for (std::int64_t q = index.indptr[static_cast<std::size_t>(i)]; q < last; ++q) {
        sum += static_cast<double>(values[index.entries[static_cast<std::size_t>(q)]]);
      }
      out[i] = static_cast<T>(sum);
    }
  });
}

template void SumByLatent(const LatentIndex&, const float*, float*, ThreadPool&);
template void SumByLatent(const LatentIndex&, const double*, double*, ThreadPool&);

}  // namespace sae::kernels
