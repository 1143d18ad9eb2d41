#include "sae/model/reference.h"

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"
#include "sae/model/reference_internal.h"

namespace sae::model {
namespace reference {

double Dot(const double* a, const double* b, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = 0; j < d; ++j) sum += a[j] * b[j];
  return sum;
}

std::vector<double> Directions(const Pass& pass, std::span<const double> stored) {
  std::vector<double> rows(stored.begin(), stored.end());
  if (pass.o.decoder != DecoderMode::kOnTheFly) return rows;
  for (std::int64_t i = 0; i < pass.p.n; ++i) {
    double* row = &rows[At(i, pass.d_out, 0)];
    const double norm = std::max(std::sqrt(Dot(row, row, pass.d_out)), 0x1.0p-24);
    for (std::int64_t j = 0; j < pass.d_out; ++j) row[j] /= norm;
  }
  return rows;
}

std::vector<double> Decode(const Pass& pass, const std::vector<double>& f, std::int64_t prefix,
                           std::span<const double> rows, std::span<const double> bias,
                           std::span<const double> skip) {
  const ReferenceParameters& p = pass.p;
  std::vector<double> out(At(pass.rows * pass.d_out));
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t j = 0; j < pass.d_out; ++j) {
      double sum = bias[At(j)];
      for (std::int64_t i = 0; i < prefix; ++i)
        sum += f[At(b, p.n, i)] * rows[At(i, pass.d_out, j)];
      if (!skip.empty()) sum += Dot(&skip[At(j, p.d, 0)], &pass.x[At(b, p.d, 0)], p.d);
      out[At(b, pass.d_out, j)] = sum;
    }
  }
  return out;
}

std::vector<double> Along(const Pass& pass, const std::vector<double>& G) {
  const std::int64_t d = pass.d_out;
  std::vector<double> u(At(pass.rows * pass.p.n));
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < pass.p.n; ++i)
      u[At(b, pass.p.n, i)] = Dot(&pass.direction[At(i, d, 0)], &G[At(b, d, 0)], d);
  }
  return u;
}

void AddDecoderGradient(Pass& pass, const std::vector<double>& G, const std::vector<double>& f,
                        std::int64_t prefix) {
  ReferenceParameters& g = pass.r.gradient;
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t j = 0; j < pass.d_out; ++j) {
      const double G_bj = G[At(b, pass.d_out, j)];
      g.b_dec[At(j)] += G_bj;
      for (std::int64_t i = 0; i < prefix; ++i)
        g.w_dec[At(i, pass.d_out, j)] += f[At(b, pass.p.n, i)] * G_bj;
    }
  }
}

double AddReconstruction(Pass& pass, const std::vector<double>& f, std::int64_t prefix,
                         double weight, std::vector<double>* u) {
  const ReferenceParameters& p = pass.p;
  const std::vector<double> x_hat = Decode(pass, f, prefix, pass.direction, p.b_dec, p.w_skip);
  std::vector<double> G(x_hat.size());
  double loss = 0;
  for (std::size_t i = 0; i < x_hat.size(); ++i) {
    const double e = x_hat[i] - pass.y[i];
    loss += pass.r.rho * e * e;
    G[i] = 2 * weight * pass.r.rho * e;
  }
  AddDecoderGradient(pass, G, f, prefix);
  for (std::int64_t b = 0; b < pass.rows && !p.w_skip.empty(); ++b) {
    for (std::int64_t j = 0; j < pass.d_out; ++j) {
      for (std::int64_t c = 0; c < p.d; ++c)
        pass.r.gradient.w_skip[At(j, p.d, c)] += G[At(b, pass.d_out, j)] * pass.x[At(b, p.d, c)];
    }
  }
  *u = Along(pass, G);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = prefix; i < p.n; ++i) (*u)[At(b, p.n, i)] = 0;
  }
  return loss;
}

void AddNormGradient(Pass& pass, std::int64_t latent, double coefficient) {
  if (pass.norm[At(latent)] == 0) return;
  for (std::int64_t j = 0; j < pass.d_out; ++j) {
    pass.r.gradient.w_dec[At(latent, pass.d_out, j)] +=
        coefficient * pass.direction[At(latent, pass.d_out, j)] / pass.norm[At(latent)];
  }
}

namespace {

void CheckSizes(const ReferenceParameters& p, std::span<const double> x, std::span<const double> y,
                const ReferenceOptions& o) {
  const std::size_t n = At(p.n), d = At(p.d), out = At(p.out());
  SAE_CHECK(p.n > 0 && p.d > 0 && x.size() % d == 0 && y.size() == x.size() / d * out);
  SAE_CHECK(p.w_enc.size() == n * d && p.b_enc.size() == n);
  SAE_CHECK(p.w_dec.size() == n * out && p.b_dec.size() == out);
  SAE_CHECK(p.w_skip.empty() || p.w_skip.size() == out * d);
  SAE_CHECK_MSG(!o.pre_bias || out == d, "pre_bias needs d_out %zu = d %zu", out, d);
  if (o.architecture == Architecture::kGated) SAE_CHECK(p.b_mag.size() == n && p.r_mag.size() == n);
  if (o.architecture == Architecture::kJumpRelu) SAE_CHECK(p.threshold.size() == n);
}

// delta = dL/dz: what it gives W_enc, and b_dec by the pre-bias. b_enc: Gated has its own rule.
void AddEncoderGradient(Pass& pass) {
  const ReferenceParameters& p = pass.p;
  ReferenceParameters& g = pass.r.gradient;
  const double s = pass.o.pre_bias ? 1 : 0;
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const double delta = pass.delta[At(b, p.n, i)];
      if (pass.o.architecture != Architecture::kGated) g.b_enc[At(i)] += delta;
      for (std::int64_t j = 0; j < p.d; ++j) {
        const double shift = pass.o.pre_bias ? p.b_dec[At(j)] : 0;
        g.w_enc[At(i, p.d, j)] += delta * (pass.x[At(b, p.d, j)] - shift);
        if (pass.o.pre_bias) g.b_dec[At(j)] -= s * delta * p.w_enc[At(i, p.d, j)];
      }
    }
  }
}

// From the gradient of d_i = v_i / |v_i| to that of v_i: (g - (g . d) d) / |v|.
void ThroughNormalisation(Pass& pass) {
  for (std::int64_t i = 0; i < pass.p.n; ++i) {
    const std::size_t at = At(i, pass.d_out, 0);
    const double* v = &pass.p.w_dec[at];
    const double* dir = &pass.direction[at];
    double* g = &pass.r.gradient.w_dec[at];
    const double norm = std::max(std::sqrt(Dot(v, v, pass.d_out)), 0x1.0p-24);
    const double along = Dot(g, dir, pass.d_out);
    for (std::int64_t j = 0; j < pass.d_out; ++j) g[j] = (g[j] - along * dir[j]) / norm;
  }
}

double MeanL0(const Pass& pass) {
  const auto positive =
      std::count_if(pass.r.codes.begin(), pass.r.codes.end(), [](double f) { return f > 0; });
  return static_cast<double>(positive) / static_cast<double>(pass.rows);
}

}  // namespace
}  // namespace reference

ReferenceResult ReferenceForwardBackward(const ReferenceParameters& p, std::span<const double> x,
                                         std::span<const double> y, const ReferenceOptions& o) {
  using namespace reference;  // NOLINT: the steps of this very definition
  CheckSizes(p, x, y, o);
  Pass pass{p, o, x, y};
  pass.rows = static_cast<std::int64_t>(x.size()) / p.d;
  pass.d_out = p.out();
  pass.direction = Directions(pass, p.w_dec);
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double* row = &pass.direction[At(i, pass.d_out, 0)];
    pass.norm.push_back(std::sqrt(Dot(row, row, pass.d_out)));
  }
  pass.delta.assign(At(pass.rows * p.n), 0.0);
  pass.r.gradient = ZerosLike(p);
  pass.r.rho = o.rho > 0 ? o.rho : ReferenceRho(o.loss, y, pass.d_out, o.sample_variance);
  pass.r.pre_activations = ReferencePreActivations(p, x, o.pre_bias);
  switch (o.architecture) {
    case Architecture::kReluL1:
      ForwardRelu(pass);
      break;
    case Architecture::kTopK:
    case Architecture::kBatchTopK:
    case Architecture::kMatryoshka:
      ForwardRanked(pass);
      break;
    case Architecture::kGated:
      ForwardGated(pass);
      break;
    case Architecture::kJumpRelu:
      ForwardJumpRelu(pass);
      break;
  }
  AddEncoderGradient(pass);
  if (o.decoder == DecoderMode::kOnTheFly) ThroughNormalisation(pass);
  ReferenceResult& r = pass.r;
  r.l0 = MeanL0(pass);
  r.loss = r.main + r.multi + r.sparsity + r.pre_act + r.frequency + r.aux;
  return std::move(pass.r);
}

double ReferenceRho(LossReduction loss, std::span<const double> y, std::int64_t d_out,
                    double sample_variance) {
  const std::int64_t rows = static_cast<std::int64_t>(y.size()) / d_out;
  const auto tokens = static_cast<double>(rows);
  switch (loss) {
    case LossReduction::kSum:
      return 1 / tokens;
    case LossReduction::kMean:
      return 1 / (tokens * static_cast<double>(d_out));
    case LossReduction::kOpenAi:
      SAE_CHECK_MSG(sample_variance > 0, "openai: sample_variance is %g", sample_variance);
      return 1 / (tokens * sample_variance);
    case LossReduction::kFvu:
      break;
  }
  double total = 0;
  for (std::int64_t j = 0; j < d_out; ++j) {
    double mean = 0;
    for (std::int64_t b = 0; b < rows; ++b) mean += y[reference::At(b, d_out, j)] / tokens;
    for (std::int64_t b = 0; b < rows; ++b) {
      const double c = y[reference::At(b, d_out, j)] - mean;
      total += c * c;
    }
  }
  return 1 / total;
}

double ReferenceAuxScale(double alpha, LossReduction loss, std::int64_t rows, std::int64_t d_out,
                         double sample_variance) {
  const double mean = alpha / static_cast<double>(rows * d_out);
  switch (loss) {
    case LossReduction::kSum:
      return mean * sample_variance;
    case LossReduction::kMean:
      return mean * sample_variance / static_cast<double>(d_out);
    case LossReduction::kOpenAi:
    case LossReduction::kFvu:
      break;
  }
  return mean;
}

ReferenceOptions ReferenceOptionsOf(const config::TrialConfig& resolved) {
  const Options options = OptionsOf(resolved);
  const config::SaeConfig& sae = resolved.sae;
  ReferenceOptions o;
  o.architecture = options.architecture;
  o.penalty = options.penalty;
  o.decoder = options.decoder;
  o.pre_bias = options.pre_bias;
  o.loss = options.loss;
  const bool jump = options.architecture == Architecture::kJumpRelu;
  o.coefficient = jump ? sae.l0_coefficient : sae.l1_coefficient;
  o.l0_target = sae.target_l0;
  o.tanh_scale = sae.tanh_scale;
  o.pre_act_coefficient = sae.pre_act_coefficient;
  o.frequency_coefficient = jump ? sae.frequency_coefficient : 0;
  o.bandwidth = sae.bandwidth.value_or(0);
  if (!options.ranked()) return o;
  o.k = sae.k;
  o.multi_topk = sae.multi_topk;
  o.aux_k = sae.aux_k.value_or(0);
  if (options.architecture != Architecture::kMatryoshka) return o;
  o.prefixes = options.prefixes;
  o.prefix_weights = options.prefix_weights;
  o.bias_weight = options.bias_weight;
  return o;
}

ReferenceParameters ZerosLike(const ReferenceParameters& p) {
  ReferenceParameters zeros = p;
  for (const auto member : kReferenceMembers)
    std::fill((zeros.*member).begin(), (zeros.*member).end(), 0.0);
  return zeros;
}

ReferenceResult ReferenceReluL1(const ReferenceParameters& p, std::span<const double> x,
                                double lambda) {
  ReferenceOptions o;
  o.architecture = Architecture::kReluL1;
  o.coefficient = lambda;
  return ReferenceForwardBackward(p, x, x, o);
}

ReferenceResult ReferenceTopKAux(const ReferenceParameters& p, std::span<const double> x,
                                 const ReferenceTopKOptions& options) {
  ReferenceOptions o;
  o.k = options.k;
  o.aux_k = options.aux_k;
  o.dead = options.dead;
  o.rho = options.main_scale;
  o.aux_scale = options.aux_scale;
  o.frozen_x_hat = options.frozen_x_hat;
  o.frozen_b_dec = options.frozen_b_dec;
  return ReferenceForwardBackward(p, x, x, o);
}

}  // namespace sae::model
