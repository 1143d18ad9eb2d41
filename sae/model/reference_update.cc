// The update of one step in the order the options name, and the foldings after training.

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"
#include "sae/model/reference.h"
#include "sae/model/reference_internal.h"

namespace sae::model {
namespace {

using reference::At;
using reference::Dot;

constexpr double kNormFloor = 0x1.0p-24;

void Renormalise(ReferenceParameters& p, std::int64_t latent) {
  const std::int64_t d = p.out();
  double* row = &p.w_dec[At(latent, d, 0)];
  const double norm = std::max(std::sqrt(Dot(row, row, d)), kNormFloor);
  for (std::int64_t j = 0; j < d; ++j) row[j] /= norm;
}

bool AnyNonZero(const std::vector<double>& values, std::int64_t row, std::int64_t width) {
  const double* begin = &values[At(row, width, 0)];
  return std::any_of(begin, begin + width, [](double v) { return v != 0; });
}

double GlobalNorm(const ReferenceParameters& g) {
  double squares = 0;
  for (const auto member : kReferenceMembers) {
    for (const double v : g.*member) squares += v * v;
  }
  return std::sqrt(squares);
}

void AdamStep(const ReferenceAdam& a, double lr, std::int64_t t, const std::vector<double>& g,
              std::vector<double>& w, std::vector<double>& m, std::vector<double>& v) {
  const double c1 = 1 - std::pow(a.beta1, static_cast<double>(t));
  const double c2 = 1 - std::pow(a.beta2, static_cast<double>(t));
  for (std::size_t i = 0; i < w.size(); ++i) {
    m[i] = a.beta1 * m[i] + (1 - a.beta1) * g[i];
    v[i] = a.beta2 * v[i] + (1 - a.beta2) * g[i] * g[i];
    w[i] -= lr * (m[i] / c1) / (std::sqrt(v[i] / c2) + a.epsilon);
  }
}

}  // namespace

ReferenceState ReferenceStart(const ReferenceParameters& p) {
  return {p, ZerosLike(p), ZerosLike(p), ZerosLike(p)};
}

void ReferenceProject(const ReferenceParameters& p, std::vector<double>& g) {
  const std::int64_t d = p.out();
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double* row = &p.w_dec[At(i, d, 0)];
    const double squared = Dot(row, row, d);
    if (squared == 0) continue;
    const double along = Dot(&g[At(i, d, 0)], row, d) / squared;
    for (std::int64_t j = 0; j < d; ++j) g[At(i, d, j)] -= along * row[j];
  }
}

namespace {

// theta to and from what Adam and the mean see.
void ToParameter(const ReferenceUpdateOptions& o, std::vector<double>& theta) {
  if (o.threshold == ThresholdParameter::kRaw) return;
  for (double& v : theta) v = std::log(v);
}
void FromParameter(const ReferenceUpdateOptions& o, std::vector<double>& theta) {
  if (o.threshold == ThresholdParameter::kRaw) return;
  for (double& v : theta) v = std::exp(v);
}

void AddToMean(ReferenceState& s, double mu) {
  for (const auto member : kReferenceMembers) {
    for (std::size_t i = 0; i < (s.p.*member).size(); ++i)
      (s.ema.*member)[i] += (1 - mu) * ((s.p.*member)[i] - (s.ema.*member)[i]);
  }
  s.ema_weight += (1 - mu) * (1 - s.ema_weight);
}

}  // namespace

double ReferenceUpdate(ReferenceState& s, ReferenceParameters g, const ReferenceUpdateOptions& o) {
  const std::vector<double> raw = g.w_dec;
  if (o.threshold == ThresholdParameter::kLog) {
    for (std::size_t i = 0; i < g.threshold.size(); ++i) g.threshold[i] *= s.p.threshold[i];
  }
  for (std::int64_t i = 0; i < s.p.n && o.decoder == DecoderMode::kUnitBefore; ++i)
    Renormalise(s.p, i);
  if (o.decoder == DecoderMode::kUnit || o.decoder == DecoderMode::kUnitBefore)
    ReferenceProject(s.p, g.w_dec);
  const double norm = GlobalNorm(g);
  for (const auto member : kReferenceMembers) {
    for (double& v : g.*member) v *= o.clip > 0 ? o.clip / std::max(norm, o.clip) : 1;
  }
  ToParameter(o, s.p.threshold);
  if (o.ema > 0) AddToMean(s, o.ema);
  ++s.t;
  for (const auto member : kReferenceMembers) {
    const bool own_rate = member == &ReferenceParameters::threshold && o.threshold_lr > 0;
    AdamStep(o.adam, own_rate ? o.threshold_lr : o.adam.lr, s.t, g.*member, s.p.*member,
             s.m.*member, s.v.*member);
  }
  FromParameter(o, s.p.threshold);
  for (std::int64_t i = 0; i < s.p.n && o.decoder == DecoderMode::kUnit; ++i) {
    if (AnyNonZero(raw, i, s.p.out()) || AnyNonZero(s.m.w_dec, i, s.p.out())) Renormalise(s.p, i);
  }
  return norm;
}

void ReferenceUpdate(ReferenceParameters& p, ReferenceParameters gradient, ReferenceParameters& m,
                     ReferenceParameters& v, const ReferenceAdam& adam, std::int64_t t) {
  ReferenceState s{p, m, v, ZerosLike(p)};
  s.t = t - 1;
  ReferenceUpdateOptions o;
  o.adam = adam;
  ReferenceUpdate(s, std::move(gradient), o);
  p = std::move(s.p);
  m = std::move(s.m);
  v = std::move(s.v);
}

ReferenceParameters ReferenceFoldInputScale(const ReferenceParameters& p, double scale) {
  ReferenceParameters out = p;
  for (const auto member : {&ReferenceParameters::b_enc, &ReferenceParameters::b_dec,
                            &ReferenceParameters::b_mag, &ReferenceParameters::threshold}) {
    for (double& v : out.*member) v *= scale;
  }
  return out;
}

ReferenceParameters ReferenceFoldDecoderNorms(const ReferenceParameters& p) {
  ReferenceParameters out = p;
  const std::int64_t d_out = p.out();
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double* row = &p.w_dec[At(i, d_out, 0)];
    const double norm = std::sqrt(Dot(row, row, d_out));
    if (norm == 0) continue;
    for (std::int64_t j = 0; j < d_out; ++j) out.w_dec[At(i, d_out, j)] /= norm;
    for (std::int64_t j = 0; j < p.d; ++j) out.w_enc[At(i, p.d, j)] *= norm;
    for (const auto member : {&ReferenceParameters::b_enc, &ReferenceParameters::b_mag,
                              &ReferenceParameters::threshold}) {
      if (!(out.*member).empty()) (out.*member)[At(i)] *= norm;
    }
  }
  return out;
}

ReferenceParameters ReferenceGatedAsJumpRelu(const ReferenceParameters& p) {
  SAE_CHECK(p.b_mag.size() == At(p.n) && p.r_mag.size() == At(p.n));
  ReferenceParameters out = p;
  out.b_enc = p.b_mag;
  out.b_mag.clear();
  out.r_mag.clear();
  out.threshold.clear();
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double factor = std::exp(p.r_mag[At(i)]);
    for (std::int64_t j = 0; j < p.d; ++j) out.w_enc[At(i, p.d, j)] *= factor;
    out.threshold.push_back(std::max(0.0, p.b_mag[At(i)] - factor * p.b_enc[At(i)]));
  }
  return out;
}

}  // namespace sae::model
