// The architectures whose latents are chosen one by one: ReLU, Gated, JumpReLU, with their
// penalties.

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"
#include "sae/model/reference_internal.h"

namespace sae::model::reference {
namespace {

constexpr double kLpFloor = 1e-12;

void DecodeAll(Pass& pass) {
  pass.r.x_hat = Decode(pass, pass.r.codes, pass.p.n, pass.direction, pass.p.b_dec, pass.p.w_skip);
}

// The penalty's value and derivative at a code f > 0 of a latent whose decoder row has norm N.
struct Term {
  double value = 0;
  double by_code = 0;
  double by_norm = 0;
};

Term PenaltyOf(const ReferenceOptions& o, double f, double norm) {
  switch (o.penalty) {
    case Penalty::kL1:
      return {f, 1, 0};
    case Penalty::kL1Norm:
      return {f * norm, norm, f};
    case Penalty::kLp:
      return {std::pow(f, o.p), o.p * std::pow(f + kLpFloor, o.p - 1), 0};
    case Penalty::kTanh: {
      const double tau = std::tanh(o.tanh_scale * f * norm);
      const double slope = o.tanh_scale * (1 - tau * tau);
      return {tau, slope * norm, slope * f};
    }
    case Penalty::kL0:
    case Penalty::kL0Quadratic:
      break;
  }
  return {};
}

}  // namespace

// f = ReLU(z); L = R + lambda mean_b sum_i penalty(f_i, N_i).
void ForwardRelu(Pass& pass) {
  const ReferenceOptions& o = pass.o;
  SAE_CHECK(o.penalty == Penalty::kL1 || o.penalty == Penalty::kL1Norm ||
            o.penalty == Penalty::kLp);
  ReferenceResult& r = pass.r;
  r.codes = r.pre_activations;
  for (double& f : r.codes) f = std::max(f, 0.0);
  DecodeAll(pass);
  std::vector<double> u;
  r.main = AddReconstruction(pass, r.codes, pass.p.n, 1, &u);
  const double scale = o.coefficient / static_cast<double>(pass.rows);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < pass.p.n; ++i) {
      const std::size_t at = At(b, pass.p.n, i);
      if (!(r.codes[at] > 0)) continue;
      const Term t = PenaltyOf(o, r.codes[at], pass.norm[At(i)]);
      r.sparsity += scale * t.value;
      pass.delta[at] = u[at] + scale * t.by_code;
      AddNormGradient(pass, i, scale * t.by_norm);
    }
  }
}

// h = W_enc (x - s b_dec); pi = h + b_enc; m = exp(r) h + b_mag; f = 1[pi > 0] ReLU(m);
// p = ReLU(pi); x_hat_aux = sg(W_dec) p + sg(b_dec + W_skip x).
// L = R(x_hat - y) + lambda mean_b sum p + R(x_hat_aux - y).
void ForwardGated(Pass& pass) {
  const ReferenceOptions& o = pass.o;
  const ReferenceParameters& p = pass.p;
  SAE_CHECK(o.penalty == Penalty::kL1);
  ReferenceResult& r = pass.r;
  std::vector<double>& h = r.pre_activations;
  r.codes.assign(h.size(), 0.0);
  r.aux_codes.assign(h.size(), 0.0);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const std::size_t at = At(b, p.n, i);
      const double pi = h[at];
      h[at] = pi - p.b_enc[At(i)];
      const double m = std::exp(p.r_mag[At(i)]) * h[at] + p.b_mag[At(i)];
      if (pi > 0) r.codes[at] = std::max(m, 0.0);
      r.aux_codes[at] = std::max(pi, 0.0);
    }
  }
  DecodeAll(pass);
  std::vector<double> u;
  r.main = o.gated_main_weight * AddReconstruction(pass, r.codes, p.n, o.gated_main_weight, &u);

  const auto held = [](std::span<const double> frozen, const std::vector<double>& live) {
    return frozen.empty() ? std::span<const double>(live) : frozen;
  };
  const std::vector<double> directions = Directions(pass, held(o.frozen_w_dec, p.w_dec));
  const std::vector<double> auxiliary =
      Decode(pass, r.aux_codes, p.n, directions, held(o.frozen_b_dec, p.b_dec),
             held(o.frozen_w_skip, p.w_skip));
  std::vector<double> A(auxiliary.size());
  for (std::size_t i = 0; i < A.size(); ++i) {
    const double e = auxiliary[i] - pass.y[i];
    r.aux += o.gated_aux_weight * r.rho * e * e;
    A[i] = 2 * o.gated_aux_weight * r.rho * e;
  }
  const std::vector<double> v = Along(pass, A);
  const double scale = o.coefficient / static_cast<double>(pass.rows);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const std::size_t at = At(b, p.n, i);
      const double dm = r.codes[at] > 0 ? u[at] : 0;
      const double dpi = r.aux_codes[at] > 0 ? v[at] + scale : 0;
      r.sparsity += scale * r.aux_codes[at];
      r.gradient.b_enc[At(i)] += dpi;
      r.gradient.b_mag[At(i)] += dm;
      r.gradient.r_mag[At(i)] += dm * std::exp(p.r_mag[At(i)]) * h[at];
      pass.delta[at] = std::exp(p.r_mag[At(i)]) * dm + dpi;
    }
  }
}

namespace {

// lambda of a step function whose mean number of steps is `l0`: value and factor of theta's
// gradient.
struct StepPenalty {
  double value = 0;
  double factor = 0;
};

StepPenalty StepPenaltyOf(const ReferenceOptions& o, double l0) {
  if (o.penalty == Penalty::kL0) return {o.coefficient * l0, o.coefficient};
  if (o.penalty != Penalty::kL0Quadratic) return {};
  SAE_CHECK_MSG(o.l0_target > 0, "l0_quadratic: l0_target is %g", o.l0_target);
  const double excess = l0 / o.l0_target - 1;
  return {o.coefficient * excess * excess, 2 * o.coefficient * excess / o.l0_target};
}

// lambda_d sum_i ReLU(frequency_i - limit): its value, and which latents are above the limit.
std::vector<bool> AddFrequencyPenalty(Pass& pass) {
  std::vector<bool> above(At(pass.p.n), false);
  for (std::int64_t i = 0; i < pass.p.n; ++i) {
    double frequency = 0;
    for (std::int64_t b = 0; b < pass.rows; ++b)
      frequency += (pass.r.codes[At(b, pass.p.n, i)] > 0 ? 1 : 0) / static_cast<double>(pass.rows);
    above[At(i)] = frequency > pass.o.frequency_limit;
    if (above[At(i)])
      pass.r.frequency += pass.o.frequency_coefficient * (frequency - pass.o.frequency_limit);
  }
  return above;
}

// ReLU(theta - z) N_i, lambda_P / B times, on pre-activations: the one term that reaches silent
// ones.
void AddPreActivationLoss(Pass& pass) {
  const ReferenceParameters& p = pass.p;
  const double scale = pass.o.pre_act_coefficient / static_cast<double>(pass.rows);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const std::size_t at = At(b, p.n, i);
      const double below = p.threshold[At(i)] - pass.r.pre_activations[at];
      if (!(below > 0)) continue;
      pass.r.pre_act += scale * below * pass.norm[At(i)];
      pass.delta[at] -= scale * pass.norm[At(i)];
      pass.r.gradient.threshold[At(i)] += scale * pass.norm[At(i)];
      AddNormGradient(pass, i, scale * below);
    }
  }
}

}  // namespace

// f = z 1[z > theta]. Theta's pseudo-gradient: in the window |z - theta| < eps/2, z > 0,
// df/dtheta := -theta/eps and d1[z > theta]/dtheta := -1/eps.
void ForwardJumpRelu(Pass& pass) {
  const ReferenceOptions& o = pass.o;
  const ReferenceParameters& p = pass.p;
  ReferenceResult& r = pass.r;
  SAE_CHECK_MSG(o.bandwidth > 0, "jumprelu: bandwidth is %g", o.bandwidth);
  SAE_CHECK(o.penalty == Penalty::kL0 || o.penalty == Penalty::kL0Quadratic ||
            o.penalty == Penalty::kTanh);
  r.codes.assign(r.pre_activations.size(), 0.0);
  r.window.assign(r.pre_activations.size(), false);
  double steps = 0;
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const std::size_t at = At(b, p.n, i);
      const double z = r.pre_activations[at];
      const double theta = p.threshold[At(i)];
      if (z > theta) r.codes[at] = z;
      if (z > theta) steps += 1;
      r.window[at] = z > 0 && std::abs(z - theta) < o.bandwidth / 2;
    }
  }
  DecodeAll(pass);
  std::vector<double> u;
  r.main = AddReconstruction(pass, r.codes, p.n, 1, &u);
  const auto rows = static_cast<double>(pass.rows);
  const StepPenalty step = StepPenaltyOf(o, steps / rows);
  r.sparsity = step.value;
  const std::vector<bool> frequent = AddFrequencyPenalty(pass);
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const std::size_t at = At(b, p.n, i);
      const Term t = PenaltyOf(o, r.codes[at], pass.norm[At(i)]);
      const double scale = o.penalty == Penalty::kTanh ? o.coefficient / rows : 0;
      const double by_code = u[at] + scale * t.by_code;
      r.sparsity += scale * t.value;
      AddNormGradient(pass, i, scale * t.by_norm);
      if (r.pre_activations[at] > p.threshold[At(i)]) pass.delta[at] = by_code;
      if (!r.window[at]) continue;
      const double by_step = (step.factor + (frequent[At(i)] ? o.frequency_coefficient : 0)) / rows;
      r.gradient.threshold[At(i)] -= (p.threshold[At(i)] * by_code + by_step) / o.bandwidth;
    }
  }
  if (o.penalty == Penalty::kTanh) AddPreActivationLoss(pass);
}

}  // namespace sae::model::reference
