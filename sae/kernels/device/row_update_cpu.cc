// The CPU engine's operations on rows, latent by latent (as row_step.cc with dense rows), between
// reading and storing weights and moments in their formats.
#include <algorithm>
#include <cmath>
#include <vector>

#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/moment_format.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels::plain {
namespace {

using device::MomentRows;
using device::RowRule;
using device::RowTerm;
using device::RowUpdateParams;
using Format = device::MomentFormat;

/// One row of a matrix in float32.
struct Row {
  std::int64_t d = 0;
  std::vector<float> w, m, v, g;
};

std::vector<float> LoadMoment(const MomentRows& r, std::int64_t latent, std::int64_t d,
                              Moment moment) {
  std::vector<float> out(static_cast<std::size_t>(d));
  const void* data = moment == Moment::kFirst ? r.m : r.v;
  if (r.format == Format::kF32) {
    std::copy_n(static_cast<const float*>(data) + latent * d, d, out.data());
  } else if (r.format == Format::kBf16) {
    DecodeBf16Row(d, static_cast<const std::uint16_t*>(data) + latent * d, out.data());
  } else {
    const float* scales = moment == Moment::kFirst ? r.m_scales : r.v_scales;
    Decode8Row(d, static_cast<const std::uint8_t*>(data) + latent * d,
               scales + latent * MomentBlocks(d), moment, out.data());
  }
  return out;
}

void StoreMoment(const MomentRows& r, std::int64_t latent, const std::vector<float>& values,
                 RoundingKey key, Moment moment) {
  const auto d = static_cast<std::int64_t>(values.size());
  constexpr auto kRounding = MomentRounding::kStochastic;
  void* data = moment == Moment::kFirst ? r.m : r.v;
  if (r.format == Format::kF32) {
    std::copy(values.begin(), values.end(), static_cast<float*>(data) + latent * d);
  } else if (r.format == Format::kBf16) {
    EncodeBf16Row(0, d, values.data(), key, moment, kRounding,
                  static_cast<std::uint16_t*>(data) + latent * d);
  } else {
    float* scales = moment == Moment::kFirst ? r.m_scales : r.v_scales;
    Encode8Row(0, d, values.data(), key, moment, kRounding,
               static_cast<std::uint8_t*>(data) + latent * d, scales + latent * MomentBlocks(d));
  }
}

bool Holds(const RowTerm& term, std::int64_t latent) {
  return latent >= term.first_latent && latent < term.last_latent && IsOn(term.enabled);
}

/// Whether either of the latent's rows has a gradient, or its decoder row.
bool Touched(const RowUpdateParams& p, std::int64_t latent, bool decoder_alone) {
  bool any = (p.norm_gradient != nullptr && p.rule == RowRule::kFree) ||
             (p.dense_delta != nullptr && !decoder_alone);
  for (int t = 0; t < p.terms_count && !any; ++t) {
    const RowTerm& term = p.terms[t];
    const bool reaches = term.f != nullptr || (term.delta != nullptr && !decoder_alone);
    any =
        reaches && Holds(term, latent) && term.index.indptr[latent] < term.index.indptr[latent + 1];
  }
  return any;
}

/// `rested` steps without gradient and without momentum, of a row of float32 moments.
void Rest(std::int64_t d, double beta2, std::int64_t rested, float* m, float* v) {
  if (rested <= 0) return;
  Adam adam;
  adam.beta2 = beta2;
  std::fill_n(m, d, 0.0F);
  DecayRow(d, adam, rested, v);
}

/// g = the terms' sum. Returns whether there was an entry.
bool AddTerms(const RowUpdateParams& p, std::int64_t latent, bool decoder, std::vector<float>* g) {
  const auto d = static_cast<std::int64_t>(g->size());
  std::fill(g->begin(), g->end(), 0.0F);
  std::vector<float> x(g->size());
  bool any = false;
  for (int t = 0; t < p.terms_count; ++t) {
    const RowTerm& term = p.terms[t];
    const float* factors = decoder ? term.f : term.delta;
    if (factors == nullptr || !Holds(term, latent)) continue;
    for (std::int32_t q = term.index.indptr[latent]; q < term.index.indptr[latent + 1]; ++q) {
      const std::int32_t e = term.index.entries[q];
      const std::int64_t first = term.rows[e] * d;
      for (std::int64_t j = 0; j < d; ++j) {
        float& value = x[static_cast<std::size_t>(j)];
        if (decoder) {
          value = term.g[first + j];
        } else {
          value = p.x != nullptr ? p.x[first + j] : Bf16ToFloat(p.x_bf16[first + j]);
        }
      }
      Axpy(d, factors[e], x.data(), g->data());
      any = true;
    }
  }
  return any;
}

class LatentUpdate {
 public:
  LatentUpdate(const RowUpdateParams& p, std::int64_t latent)
      : p_(p), latent_(latent), adam_{p.adam->lr,      p.adam->beta1,       p.adam->beta2,
                                      p.adam->epsilon, p.adam->correction1, p.adam->correction2} {}

  /// The squared norm of both rows' gradients.
  double Run() {
    if (p_.columns.along != nullptr) return Columns();
    const double dec = Decoder();
    return dec + Encoder();
  }

 private:
  Row Load(const device::MutableWeightRows& w, const MomentRows& moments, std::int64_t d) const {
    Row row;
    row.d = d;
    row.w.resize(static_cast<std::size_t>(d));
    row.g.resize(row.w.size());
    for (std::int64_t j = 0; j < d; ++j)
      row.w[static_cast<std::size_t>(j)] = Weight(Read(w), latent_ * d + j);
    if (p_.measure_only) return row;
    row.m = LoadMoment(moments, latent_, d, Moment::kFirst);
    row.v = LoadMoment(moments, latent_, d, Moment::kSecond);
    if (p_.last_step != nullptr) {
      Rest(d, adam_.beta2, p_.adam->t - 1 - p_.last_step[latent_], row.m.data(), row.v.data());
    }
    return row;
  }

  void Store(const Row& row, const device::MutableWeightRows& w, const MomentRows& moments,
             MomentMatrix matrix, bool rests) const {
    const std::int64_t global =
        p_.global_ids == nullptr ? p_.first_global + latent_ : p_.global_ids[latent_];
    const RoundingKey key = RoundingKeyOf(p_.seed, static_cast<std::uint64_t>(p_.adam->t),
                                          static_cast<std::uint64_t>(global), matrix);
    StoreMoment(moments, latent_, row.v, key, Moment::kSecond);
    if (!rests || p_.last_step != nullptr)
      StoreMoment(moments, latent_, row.m, key, Moment::kFirst);
    if (rests) return;
    for (std::int64_t j = 0; j < row.d; ++j)
      SetWeight(w, latent_ * row.d + j, row.w[static_cast<std::size_t>(j)]);
  }

  /// Returns the squared norm of the gradient that Adam gets before gradient_scale.
  double Step(RowStep<float> step, Row* row) const {
    if (p_.measure_only) {
      Axpy(row->d, step.radial, row->w.data(), row->g.data());
      kernels::Scale(row->d, step.factor, row->g.data());
      return SumOfSquares(row->d, row->g.data());
    }
    step.scale = p_.gradient_scale == nullptr ? 1.0F : static_cast<float>(*p_.gradient_scale);
    const RowNorms norms =
        StepRow(row->d, step, adam_, row->g.data(), row->w.data(), row->m.data(), row->v.data(), 0);
    const auto inverse = static_cast<float>(InverseNorm(norms.row2));
    if (step.measure_row && p_.rule == RowRule::kUnit)
      kernels::Scale(row->d, inverse, row->w.data());
    if (step.measure_row && p_.rule == RowRule::kOnTheFly) p_.row_scale[latent_] = inverse;
    return norms.gradient2;
  }

  /// The step with g = 0. True where only v decays.
  bool Advance(RowRule rule, Row* row) const {
    const std::int64_t d = row->d;
    if (AllZero(d, row->m.data())) {
      DecayRow(d, adam_, 1, row->v.data());
      return true;
    }
    if (rule == RowRule::kUnitBefore && MovesWithoutGradient(d, adam_, row->m.data()))
      RenormaliseRow(d, row->w.data());
    AdamRowWithoutGradient(d, adam_, row->w.data(), row->m.data(), row->v.data());
    if (AllZero(d, row->m.data())) return false;
    if (rule == RowRule::kUnit) RenormaliseRow(d, row->w.data());
    if (rule == RowRule::kOnTheFly)
      p_.row_scale[latent_] = static_cast<float>(InverseNorm(SumOfSquares(d, row->w.data())));
    return false;
  }

  double Decoder() const {
    Row row = Load(p_.w_dec, p_.dec_moments, p_.d_out);
    const bool has_norm = p_.norm_gradient != nullptr && p_.rule == RowRule::kFree;
    double norm2 = 0;
    bool rests = false;
    if (AddTerms(p_, latent_, true, &row.g) || has_norm) {
      if (p_.rule == RowRule::kUnitBefore) RenormaliseRow(row.d, row.w.data());
      if (has_norm) {
        const double norm = std::sqrt(SumOfSquares(row.d, row.w.data()));
        const auto a = static_cast<double>(p_.norm_gradient[latent_]);
        if (norm > 0) Axpy(row.d, static_cast<float>(a / norm), row.w.data(), row.g.data());
      }
      RowStep<float> step;
      if (p_.rule != RowRule::kFree)
        step.radial = static_cast<float>(RadialFactor(row.d, row.w.data(), row.g.data()));
      if (p_.rule == RowRule::kOnTheFly) step.factor = p_.row_scale[latent_];
      step.measure_row = p_.rule == RowRule::kUnit || p_.rule == RowRule::kOnTheFly;
      norm2 = Step(step, &row);
    } else if (p_.decoder_step != nullptr) {
      return 0;
    } else if (!p_.measure_only) {
      rests = Advance(p_.rule, &row);
    }
    if (!p_.measure_only) Store(row, p_.w_dec, p_.dec_moments, MomentMatrix::kDecoder, rests);
    return norm2;
  }

  /// A block of the decoder's columns.
  double Columns() const {
    Row row = Load(p_.w_dec, p_.dec_moments, p_.d_out);
    const bool touched = AddTerms(p_, latent_, true, &row.g) || p_.norm_gradient != nullptr;
    double norm2 = 0;
    bool rests = false;
    if (touched) {
      RowStep<float> step;
      step.radial = p_.columns.along[latent_];
      norm2 = Step(step, &row);
    } else if (!p_.measure_only) {
      rests = Advance(RowRule::kFree, &row);
    }
    if (p_.measure_only) return norm2;
    Store(row, p_.w_dec, p_.dec_moments, MomentMatrix::kDecoder, rests);
    if (p_.columns.norm2 == nullptr) return norm2;
    const auto part = static_cast<float>(SumOfSquares(row.d, row.w.data()));
    const std::int64_t chunk = p_.columns.chunk;
    p_.columns.norm2[latent_ / chunk * p_.columns.stride + latent_ % chunk] =
        !touched && AllZero(row.d, row.m.data()) ? -part : part;
    return norm2;
  }

  double Encoder() const {
    Row row = Load(p_.w_enc, p_.enc_moments, p_.d);
    double norm2 = 0;
    bool rests = false;
    if (AddTerms(p_, latent_, false, &row.g) || p_.dense_delta != nullptr) {
      if (p_.dense_delta != nullptr) Axpy(row.d, p_.dense_delta[latent_], p_.x_sum, row.g.data());
      if (p_.scale != 1.0F) kernels::Scale(row.d, p_.scale, row.g.data());
      if (p_.b_dec != nullptr) Axpy(row.d, -p_.delta_sums[latent_], p_.b_dec, row.g.data());
      norm2 = Step({}, &row);
    } else if (!p_.measure_only) {
      rests = Advance(RowRule::kFree, &row);
    }
    if (!p_.measure_only) Store(row, p_.w_enc, p_.enc_moments, MomentMatrix::kEncoder, rests);
    return norm2;
  }

  const RowUpdateParams& p_;
  std::int64_t latent_;
  Adam adam_;
};

}  // namespace

void RowUpdate(const RowUpdateParams& p) {
  for (std::int64_t i = 0; i < p.latents && IsOn(p.go); ++i) {
    const bool left_alone = p.last_step != nullptr && !Touched(p, i, false);
    const double norm2 = left_alone ? 0 : LatentUpdate(p, i).Run();
    if (p.norms != nullptr) p.norms[i] = norm2;
    if (p.measure_only) continue;
    if (p.last_step != nullptr && !left_alone) p.last_step[i] = p.adam->t;
    if (p.decoder_step != nullptr && Touched(p, i, true)) p.decoder_step[i] = p.adam->t;
  }
}

void CatchUpRows(const device::CatchUpRowsParams& p) {
  const auto rest = [&](const MomentRows& r, std::int64_t d, std::int64_t i) {
    Rest(d, p.beta2, p.t - p.last_step[i], static_cast<float*>(r.m) + i * d,
         static_cast<float*>(r.v) + i * d);
  };
  for (std::int64_t i = 0; i < p.latents; ++i) {
    rest(p.enc_moments, p.d, i);
    rest(p.dec_moments, p.d_out, i);
  }
}

}  // namespace sae::kernels::plain
