// Numerics: gradient rows are sums in T, one fused multiply-add an entry where the processor has
// it. Norms and projections are float64 sums in 16 lanes (row_ops.h). A step without gradient is
// one function, AdvanceDecoder, whether it is taken at once or replayed later.
#include "sae/kernels/row_step.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

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

/// `moments`: room for 2 d values; used where moments are reduced, and then to be given back by
/// KeepMoments.
template <class T>
Row<T> EncoderRow(const RowParameters<T>& p, std::int64_t d, std::int64_t latent, T* moments) {
  T* const w = p.w_enc + latent * d;
  if (p.reduced == nullptr) return {w, p.w_enc_m + latent * d, p.w_enc_v + latent * d};
  LoadMoments(*p.reduced, MomentMatrix::kEncoder, latent, moments, moments + d);
  return {w, moments, moments + d};
}

template <class T>
Row<T> DecoderRow(const RowParameters<T>& p, std::int64_t d, std::int64_t latent, T* moments) {
  T* const w = p.w_dec + latent * d;
  if (p.reduced == nullptr) return {w, p.w_dec_m + latent * d, p.w_dec_v + latent * d};
  LoadMoments(*p.reduced, MomentMatrix::kDecoder, latent, moments, moments + d);
  return {w, moments, moments + d};
}

template <class T>
void KeepMoments(const RowParameters<T>& p, MomentMatrix matrix, std::int64_t latent,
                 std::int64_t t, const Row<T>& row) {
  if (p.reduced != nullptr) StoreMoments(*p.reduced, matrix, latent, t, row.m, row.v);
}

/// The decoder row's step with g = 0.
template <class T>
void AdvanceDecoder(DecoderRule rule, const Adam& adam, std::int64_t d, const Row<T>& row,
                    T* row_scale) {
  if (AllZero(d, row.m)) {
    DecayRow(d, adam, 1, row.v);
    return;
  }
  if (rule == DecoderRule::kUnitBefore && MovesWithoutGradient(d, adam, row.m)) {
    RenormaliseRow(d, row.w);
  }
  AdamRowWithoutGradient(d, adam, row.w, row.m, row.v);
  if (rule == DecoderRule::kFree || rule == DecoderRule::kUnitBefore || AllZero(d, row.m)) return;
  if (rule == DecoderRule::kUnit) RenormaliseRow(d, row.w);
  if (rule == DecoderRule::kOnTheFly) {
    *row_scale = static_cast<T>(InverseNorm(SumOfSquares(d, row.w)));
  }
}

template <class T>
void AdvanceEncoder(const Adam& adam, std::int64_t d, const Row<T>& row) {
  if (AllZero(d, row.m)) {
    DecayRow(d, adam, 1, row.v);
  } else {
    AdamRowWithoutGradient(d, adam, row.w, row.m, row.v);
  }
}

/// What the decoder's rule makes of gradient `g` at `w` (kUnitBefore: already renormalised).
template <class T>
RowStep<T> RuleStep(DecoderRule rule, std::int64_t d, const T* w, const T* row_scale, const T* g) {
  RowStep<T> step;
  if (rule == DecoderRule::kFree) return step;
  step.radial = static_cast<T>(RadialFactor(d, w, g));
  if (rule == DecoderRule::kOnTheFly) step.factor = *row_scale;
  step.measure_row = rule == DecoderRule::kUnit || rule == DecoderRule::kOnTheFly;
  return step;
}

/// The decoder row's step with gradient `g` before its rule. Returns the gradient's squared norm
/// after it.
template <class T>
double StepDecoder(const RowUpdateOptions& options, std::int64_t d, const T* g, const Row<T>& row,
                   T* row_scale, std::int64_t ahead) {
  if (options.decoder == DecoderRule::kUnitBefore) RenormaliseRow(d, row.w);
  RowStep<T> step = RuleStep(options.decoder, d, row.w, row_scale, g);
  step.scale = static_cast<T>(options.gradient_scale);
  const RowNorms norms = StepRow(d, step, options.adam, g, row.w, row.m, row.v, ahead);
  if (step.measure_row) {
    const auto inverse = static_cast<T>(InverseNorm(norms.row2));
    if (options.decoder == DecoderRule::kUnit) Scale(d, inverse, row.w);
    if (options.decoder == DecoderRule::kOnTheFly) *row_scale = inverse;
  }
  return norms.gradient2;
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
  const Row<T> dec = DecoderRow<T>(p, d_out, latent, nullptr);
  if (options.rows == Rows::kLazy) {
    const Row<T> enc = EncoderRow<T>(p, d, latent, nullptr);
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
  SAE_CHECK(options.rows == Rows::kDense || p.reduced == nullptr);
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

/// At most so many entries has a latent.
template <class T>
std::size_t LongestList(const RowGradientInput<T>& input) {
  std::int64_t sum = 0;
  for (const GradientTerm<T>& term : input.terms) {
    std::int64_t longest = 0;
    for (std::size_t i = 0; i + 1 < term.index->indptr.size(); ++i)
      longest = std::max(longest, term.index->indptr[i + 1] - term.index->indptr[i]);
    sum += longest;
  }
  return static_cast<std::size_t>(sum);
}

/// Room for whatever falls to a worker, so that how latents are dealt allocates nothing.
template <class T>
void Reserve(RowWorkspace<T>* workspace, const RowGradientInput<T>& input, bool reduced,
             int threads) {
  workspace->workers.resize(static_cast<std::size_t>(threads));
  const std::size_t longest = LongestList(input);
  for (auto& worker : workspace->workers) {
    const std::int64_t moments = reduced ? 2 * std::max(input.d, input.d_out) : 0;
    worker.rows.resize(static_cast<std::size_t>(input.d + 2 * input.d_out + moments));
    worker.collected = -1;
    for (auto& sources : worker.sources) sources.Reserve(longest);
  }
  workspace->norms.assign(static_cast<std::size_t>(input.latents), 0.0);
}

double Total(const std::vector<double>& norms) {
  double sum = 0;
  for (const double norm : norms) sum += norm;
  return sum;
}

template <class T>
using Sources = typename RowWorkspace<T>::Sources;

/// The latent's entries over all terms, in order. f and delta lie in the order of tokens, so what
/// the latents after this one will read of them is fetched early.
template <class T>
void Collect(const RowGradientInput<T>& input, std::int64_t latent, Sources<T>* out) {
  constexpr std::int64_t kSoon = 24;  // entries
  out->Clear();
  const auto i = static_cast<std::size_t>(latent);
  for (const GradientTerm<T>& term : input.terms) {
    if (latent < term.first_latent || latent >= term.last_latent) continue;
    const std::int64_t* const entries = term.index->entries.data();
    const std::int32_t* const tokens = term.index->tokens.data();
    const std::int64_t first = term.index->indptr[i];
    const std::int64_t last = term.index->indptr[i + 1];
    const std::int64_t fetched = std::min(last + kSoon, term.index->indptr.back());
    if (term.f != nullptr) {
      for (std::int64_t q = first; q < last; ++q) {
        out->f.push_back(term.f[entries[q]]);
        out->g.push_back(term.g + tokens[q] * input.d_out);
      }
      for (std::int64_t q = std::min(first + kSoon, fetched); q < fetched; ++q)
        __builtin_prefetch(term.f + entries[q]);
    }
    if (term.delta != nullptr) {
      for (std::int64_t q = first; q < last; ++q) {
        out->delta.push_back(term.delta[entries[q]]);
        out->x.push_back(input.x + tokens[q] * input.d);
      }
      for (std::int64_t q = std::min(first + kSoon, fetched); q < fetched; ++q)
        __builtin_prefetch(term.delta + entries[q]);
    }
  }
}

template <class T>
RowList<T> List(const std::vector<T>& a, const std::vector<const T*>& rows,
                std::size_t limit = std::numeric_limits<std::size_t>::max()) {
  return {static_cast<std::int64_t>(std::min(limit, a.size())), a.data(), rows.data()};
}

constexpr std::size_t kFetched = 32;  // rows of the next latent that are fetched early, at most

template <class T>
void DecoderGradient(const RowGradientInput<T>& input, const Sources<T>& sources,
                     const Sources<T>& next, const T* w_dec, std::int64_t latent, T* g) {
  const std::int64_t d = input.d_out;
  std::fill(g, g + d, T(0));
  AddRows(d, List(sources.f, sources.g), List(next.f, next.g, kFetched), g);
  if (input.norm_gradient == nullptr) return;
  const T* w = w_dec + latent * d;
  const double norm = std::sqrt(SumOfSquares(d, w));
  const auto a = static_cast<double>(input.norm_gradient[latent]);
  if (norm > 0) Axpy(d, static_cast<T>(a / norm), w, g);
}

template <class T>
void EncoderGradient(const RowGradientInput<T>& input, const Sources<T>& sources,
                     const Sources<T>& next, std::int64_t latent, T* g) {
  const std::int64_t d = input.d;
  std::fill(g, g + d, T(0));
  AddRows(d, List(sources.delta, sources.x), List(next.delta, next.x, kFetched), g);
  if (input.dense_delta != nullptr) Axpy(d, input.dense_delta[latent], input.x_sum, g);
  if (input.scale != T(1)) Scale(d, input.scale, g);
  if (input.b_dec != nullptr) Axpy(d, -input.delta_sums[latent], input.b_dec, g);
}

/// Latents that a step visits: all, or those with a gradient. Blocks of them go to whoever is free.
template <class T>
class Visits {
 public:
  static constexpr std::int64_t kBlock = 32;
  Visits(const RowGradientInput<T>& input, bool touched_only)
      : input_(input), touched_only_(touched_only) {}

  /// body(latent, with, next latent or -1, its with) for all of a block, in order.
  template <class Body>
  void Block(std::int64_t block, const Body& body) const {
    const std::int64_t end = std::min(input_.latents, (block + 1) * kBlock);
    RowsWithGradient with;
    std::int64_t i = Next(block * kBlock, end, &with);
    while (i >= 0) {
      RowsWithGradient next_with;
      const std::int64_t next = Next(i + 1, end, &next_with);
      body(i, with, next, next_with);
      i = next;
      with = next_with;
    }
  }
  /// The same for all blocks, by all threads: body(worker, ...).
  template <class Body>
  void All(ThreadPool& pool, const Body& body) const {
    std::atomic<std::int64_t> taken{0};
    const std::int64_t blocks = (input_.latents + kBlock - 1) / kBlock;
    pool.ParallelFor(pool.size(), [&](std::int64_t, std::int64_t, int worker) {
      for (std::int64_t block = taken++; block < blocks; block = taken++) {
        Block(block,
              [&](std::int64_t latent, RowsWithGradient with, std::int64_t next,
                  RowsWithGradient next_with) { body(worker, latent, with, next, next_with); });
      }
    });
  }

 private:
  std::int64_t Next(std::int64_t i, std::int64_t end, RowsWithGradient* with) const {
    for (; i < end; ++i) {
      if (Touched(input_, i, with) || !touched_only_) return i;
    }
    return -1;
  }
  const RowGradientInput<T>& input_;
  bool touched_only_;
};

/// One step of one shard: what UpdateLatent needs to know.
template <class T>
struct Update {
  const RowGradientInput<T>& input;
  const RowUpdateOptions& options;
  const RowParameters<T>& p;
  const Replay& replay;

  /// Returns the squared norm of the latent's gradient.
  double Latent(std::int64_t latent, RowsWithGradient with, std::int64_t next,
                RowsWithGradient next_with, const Sources<T>& sources,
                const Sources<T>& next_sources, T* scratch) const {
    const std::int64_t d = input.d;
    const std::int64_t d_out = input.d_out;
    const Rows rows = options.rows;
    if (rows == Rows::kLazy || (rows == Rows::kDeferred && with.dec)) {
      CatchUpRow(options, replay, d, d_out, p, latent, options.t - 1);
      p.last_step[latent] = options.t;
    }
    const std::int64_t ahead = next < 0 || p.reduced != nullptr ? 0 : next - latent;
    T* const moments = scratch + d + 2 * d_out;
    T* const row_scale = p.row_scale == nullptr ? nullptr : p.row_scale + latent;
    double norm2 = 0;
    const Row<T> dec = DecoderRow(p, d_out, latent, moments);
    if (with.dec) {
      DecoderGradient(input, sources, next_sources, p.w_dec, latent, scratch);
      norm2 = StepDecoder(options, d_out, scratch, dec, row_scale,
                          rows == Rows::kDeferred && !next_with.dec ? 0 : ahead * d_out);
    } else if (rows != Rows::kDeferred) {
      AdvanceDecoder(options.decoder, options.adam, d_out, dec, row_scale);
    }
    KeepMoments(p, MomentMatrix::kDecoder, latent, options.t, dec);
    const Row<T> enc = EncoderRow(p, d, latent, moments);
    if (with.enc) {
      EncoderGradient(input, sources, next_sources, latent, scratch);
      RowStep<T> step;
      step.scale = static_cast<T>(options.gradient_scale);
      norm2 += StepRow(d, step, options.adam, scratch, enc.w, enc.m, enc.v, ahead * d).gradient2;
    } else {
      AdvanceEncoder(options.adam, d, enc);
    }
    KeepMoments(p, MomentMatrix::kEncoder, latent, options.t, enc);
    return norm2;
  }
};

/// Squared norm of one latent's gradient, as Update::Latent measures it. scratch: 2 d_out + d.
template <class T>
double MeasureLatent(const RowGradientInput<T>& input, const RowParameters<T>& p, DecoderRule rule,
                     std::int64_t latent, RowsWithGradient with, const Sources<T>& sources,
                     const Sources<T>& next, T* scratch) {
  const std::int64_t d_out = input.d_out;
  double norm2 = 0;
  if (with.dec) {
    DecoderGradient(input, sources, next, p.w_dec, latent, scratch);
    const T* w = p.w_dec + latent * d_out;
    if (rule == DecoderRule::kUnitBefore) {
      T* const unit = scratch + d_out;
      std::copy(w, w + d_out, unit);
      RenormaliseRow(d_out, unit);
      w = unit;
    }
    const T* row_scale = p.row_scale == nullptr ? nullptr : p.row_scale + latent;
    const RowStep<T> step = RuleStep(rule, d_out, w, row_scale, scratch);
    Axpy(d_out, step.radial, w, scratch);
    Scale(d_out, step.factor, scratch);
    norm2 = SumOfSquares(d_out, scratch);
  }
  if (with.enc) {
    EncoderGradient(input, sources, next, latent, scratch);
    norm2 += SumOfSquares(input.d, scratch);
  }
  return norm2;
}

/// Keeps the sources of the next latent, which were collected to be fetched early.
template <class T>
std::pair<const Sources<T>*, const Sources<T>*> Advance(const RowGradientInput<T>& input,
                                                        std::int64_t latent, std::int64_t next,
                                                        typename RowWorkspace<T>::Worker* worker) {
  if (worker->collected != latent)
    Collect(input, latent, &worker->sources[0]);
  else
    std::swap(worker->sources[0], worker->sources[1]);
  worker->collected = next;
  if (next >= 0) {
    Collect(input, next, &worker->sources[1]);
  } else {
    worker->sources[1].Clear();
  }
  return {&worker->sources[0], &worker->sources[1]};
}

}  // namespace

template <class T>
RowsWithGradient RowGradient(const RowGradientInput<T>& input, const T* w_dec, std::int64_t latent,
                             T* g_dec, T* g_enc) {
  std::fill(g_dec, g_dec + input.d_out, T(0));
  std::fill(g_enc, g_enc + input.d, T(0));
  RowsWithGradient with;
  if (!Touched(input, latent, &with)) return with;
  Sources<T> sources;
  Collect(input, latent, &sources);
  if (with.dec) DecoderGradient(input, sources, {}, w_dec, latent, g_dec);
  if (with.enc) EncoderGradient(input, sources, {}, latent, g_enc);
  return with;
}

template <class T>
double RowGradientSquaredNorm(const RowGradientInput<T>& given, const RowParameters<T>& parameters,
                              const RowUpdateOptions& options, RowWorkspace<T>* workspace,
                              ThreadPool& pool) {
  Check(given, parameters, options);
  const RowGradientInput<T> input = WithoutWhatIsProjectedOut(given, options.decoder);
  Reserve(workspace, input, parameters.reduced != nullptr, pool.size());
  Visits<T>(input, true)
      .All(pool, [&](int thread, std::int64_t latent, RowsWithGradient with, std::int64_t next,
                     RowsWithGradient) {
        auto& worker = workspace->workers[static_cast<std::size_t>(thread)];
        const auto [sources, ahead] = Advance(input, latent, next, &worker);
        workspace->norms[static_cast<std::size_t>(latent)] = MeasureLatent(
            input, parameters, options.decoder, latent, with, *sources, *ahead, worker.rows.data());
      });
  return Total(workspace->norms);
}

template <class T>
double RowUpdate(const RowGradientInput<T>& given, const RowUpdateOptions& options,
                 const RowParameters<T>& parameters, RowWorkspace<T>* workspace, ThreadPool& pool) {
  Check(given, parameters, options);
  const RowGradientInput<T> input = WithoutWhatIsProjectedOut(given, options.decoder);
  Reserve(workspace, input, parameters.reduced != nullptr, pool.size());
  // Rows with a gradient are current as a rule: constants of other steps are made when asked for.
  const Replay replay(options, options.t, options.t - 1);
  const Update<T> update{input, options, parameters, replay};
  Visits<T>(input, options.rows == Rows::kLazy)
      .All(pool, [&](int thread, std::int64_t latent, RowsWithGradient with, std::int64_t next,
                     RowsWithGradient next_with) {
        auto& worker = workspace->workers[static_cast<std::size_t>(thread)];
        const auto [sources, ahead] = Advance(input, latent, next, &worker);
        workspace->norms[static_cast<std::size_t>(latent)] =
            update.Latent(latent, with, next, next_with, *sources, *ahead, worker.rows.data());
      });
  return Total(workspace->norms);
}

template <class T>
void CatchUp(const std::int32_t* latents, std::int64_t count, std::int64_t d, std::int64_t d_out,
             const RowUpdateOptions& options, const RowParameters<T>& parameters,
             ThreadPool& pool) {
  if (options.rows == Rows::kDense) return;
  SAE_CHECK(parameters.last_step != nullptr && parameters.reduced == nullptr);
  SAE_CHECK(options.rows != Rows::kLazy || options.adam.beta1 == 0);
  SAE_CHECK(options.rows != Rows::kDeferred || options.adam_at != nullptr);
  const Replay replay(options, FirstStepToReplay(parameters.last_step, latents, count, options.t),
                      options.t);
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t i = latents == nullptr ? at : latents[at];
      CatchUpRow(options, replay, d, d_out, parameters, i, options.t);
    }
  });
}

#define SAE_INSTANTIATE(T)                                                                        \
  template RowsWithGradient RowGradient(const RowGradientInput<T>&, const T*, std::int64_t, T*,   \
                                        T*);                                                      \
  template double RowGradientSquaredNorm(const RowGradientInput<T>&, const RowParameters<T>&,     \
                                         const RowUpdateOptions&, RowWorkspace<T>*, ThreadPool&); \
  template double RowUpdate(const RowGradientInput<T>&, const RowUpdateOptions&,                  \
                            const RowParameters<T>&, RowWorkspace<T>*, ThreadPool&);              \
  template void CatchUp(const std::int32_t*, std::int64_t, std::int64_t, std::int64_t,            \
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
