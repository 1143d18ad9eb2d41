// Entries of a latent in token order, one after the other: the definition of what latents_cuda.cu
// computes.
#include <algorithm>
#include <cmath>

#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/plain_rows.h"

namespace sae::kernels::plain {
namespace {

using device::LatentRule;
using device::LatentRuleParams;

double Wide(float value) { return static_cast<double>(value); }

std::int32_t Entries(const device::DeviceCodes& codes) { return codes.indptr[codes.tokens]; }

void SetSums(const LatentRuleParams& p, std::int64_t i, double delta, double b_enc) {
  const auto put = [&](float* out, double sum) {
    if (out != nullptr) out[i] = (p.add_sums ? out[i] : 0.0F) + static_cast<float>(sum);
  };
  put(p.delta_sums, delta);
  put(p.b_enc, b_enc);
}
void SetPenalty(const LatentRuleParams& p, std::int64_t i, double penalty) {
  if (p.penalty != nullptr) p.penalty[i] = penalty;
}

/// Calls body(e) for the entries of latent i.
template <class Body>
void ForEntries(const LatentRuleParams& p, std::int64_t i, const Body& body) {
  for (std::int32_t q = p.index.indptr[i]; q < p.index.indptr[i + 1]; ++q) body(p.index.entries[q]);
}

void PassThrough(const LatentRuleParams& p, std::int64_t i) {
  double sum = 0;
  ForEntries(p, i, [&](std::int32_t e) {
    sum += Wide(p.u[e]);
    if (p.delta != nullptr) p.delta[e] = p.u[e];
  });
  SetSums(p, i, sum, sum);
  SetPenalty(p, i, 0);
}

void Relu(const LatentRuleParams& p, std::int64_t i) {
  const double share = *p.lambda / static_cast<double>(p.codes.tokens);
  const double power = p.power_now == nullptr ? p.power : *p.power_now;
  const double norm = p.norms == nullptr ? 1 : Wide(p.norms[i]);
  double delta_sum = 0, sum = 0, powers = 0, next = 0;
  ForEntries(p, i, [&](std::int32_t e) {
    const double f = Wide(p.codes.values[e]);
    const double slope = power != 1 ? power * std::pow(f + 1e-12, power - 1) : norm;
    p.delta[e] = p.u[e] + static_cast<float>(share * slope);
    delta_sum += Wide(p.delta[e]);
    sum += f;
    powers += std::pow(f, power);
    if (p.power_next != nullptr) next += std::pow(f, *p.power_next);
  });
  SetSums(p, i, delta_sum, delta_sum);
  if (p.norm != nullptr) p.norm[i] = static_cast<float>(share * Wide(static_cast<float>(sum)));
  SetPenalty(p, i, share * powers * (power != 1 ? 1 : norm));
  if (p.powers != nullptr) p.powers[i] = powers;
  if (p.next_powers != nullptr) p.next_powers[i] = next;
}

void JumpRelu(const LatentRuleParams& p, std::int64_t i) {
  const double theta = Wide(p.theta[i]);
  const auto tokens = static_cast<double>(p.codes.tokens);
  double delta_sum = 0, above = 0, window = 0, window_u = 0;
  ForEntries(p, i, [&](std::int32_t e) {
    if (2 * std::abs(Wide(p.codes.values[e]) - theta) < p.bandwidth) {
      window += 1;
      window_u += Wide(p.u[e]);
    }
    p.delta[e] = p.f[e] > 0 ? p.u[e] : 0.0F;
    above += p.f[e] > 0 ? 1 : 0;
    delta_sum += Wide(p.delta[e]);
  });
  const double excess = std::max(0.0, above / tokens - 0.1);
  const double coefficient = *p.lambda + (excess > 0 ? p.frequency_coefficient : 0);
  const double slope = -(theta * window_u + coefficient * window / tokens) / p.bandwidth;
  p.threshold[i] = static_cast<float>(p.log_threshold ? theta * slope : slope);
  SetSums(p, i, delta_sum, delta_sum);
  SetPenalty(
      p, i, p.frequency_coefficient * excess + (p.penalty_counts ? *p.lambda * above / tokens : 0));
}

void JumpTanh(const LatentRuleParams& p, std::int64_t i) {
  const double theta = Wide(p.theta[i]), norm = p.norms == nullptr ? 1 : Wide(p.norms[i]);
  const auto tokens = static_cast<double>(p.codes.tokens);
  const double c = p.tanh_scale, share = *p.lambda / tokens;
  const double pre = p.pre_act_coefficient * norm / tokens;
  double delta_sum = 0, above = 0, window = 0, window_u = 0;
  double reached = 0, excess = 0, sum_tanh = 0, sum_norm = 0;  // z >= theta; z - theta over those
  ForEntries(p, i, [&](std::int32_t e) {
    const double z = Wide(p.codes.values[e]), f = Wide(p.f[e]);
    const double tau = std::tanh(c * f * norm);
    const double u = Wide(p.u[e]) + share * c * norm * (1 - tau * tau);
    sum_tanh += tau;
    sum_norm += share * c * f * (1 - tau * tau);
    if (2 * std::abs(z - theta) < p.bandwidth) {
      window += 1;
      window_u += u;
    }
    above += f > 0 ? 1 : 0;
    reached += z >= theta ? 1 : 0;
    excess += z >= theta ? z - theta : 0;
    p.delta[e] = static_cast<float>((f > 0 ? u : 0) + (z >= theta ? pre : 0));
    delta_sum += Wide(p.delta[e]);
  });
  const double often = std::max(0.0, above / tokens - 0.1);
  const double coefficient = often > 0 ? p.frequency_coefficient : 0;
  const double slope =
      pre * (tokens - reached) - (theta * window_u + coefficient * window / tokens) / p.bandwidth;
  const double below = p.below[i] + excess;  // sum over all tokens of ReLU(theta - z)
  p.threshold[i] = static_cast<float>(p.log_threshold ? theta * slope : slope);
  p.dense_delta[i] = static_cast<float>(-pre);
  if (p.norm != nullptr)
    p.norm[i] = static_cast<float>(sum_norm + p.pre_act_coefficient / tokens * below);
  SetSums(p, i, delta_sum - pre * tokens, delta_sum - pre * tokens);
  SetPenalty(p, i, p.frequency_coefficient * often + share * sum_tanh + pre * below);
}

void Gated(const LatentRuleParams& p, std::int64_t i) {
  const auto tokens = static_cast<double>(p.codes.tokens);
  const auto share = static_cast<float>(*p.lambda / tokens);
  double d_gate = 0, d_mag = 0, d_scale = 0, d_h = 0, gate = 0;
  ForEntries(p, i, [&](std::int32_t e) {
    const float dm = p.f[e] > 0 ? p.u[e] : 0.0F;
    const float dpi = p.v[e] + share;
    p.delta[e] = p.scale[i] * dm + dpi;
    d_gate += Wide(dpi);
    d_mag += Wide(dm);
    d_scale += Wide(dm) * Wide(p.scale[i] * p.codes.values[e]);
    d_h += Wide(p.delta[e]);
    if (p.gate != nullptr) gate += Wide(p.gate[e]);
  });
  SetSums(p, i, d_h, d_gate);
  p.b_mag[i] = static_cast<float>(d_mag);
  p.r_mag[i] = static_cast<float>(d_scale);
  SetPenalty(p, i, *p.lambda * gate / tokens);
}

}  // namespace

void BuildIndex(const device::BuildIndexParams& p) {
  std::int32_t place = 0;
  std::fill_n(p.out.indptr, p.out.latents + 1, 0);
  for (std::int32_t e = 0; e < Entries(p.codes); ++e) ++p.out.indptr[p.codes.ids[e]];
  for (std::int64_t i = 0; i <= p.out.latents; ++i) {
    const std::int32_t count = i < p.out.latents ? p.out.indptr[i] : 0;
    p.out.indptr[i] = place;
    place += count;
  }
  // indptr[i] runs to the end of latent i, and is then the start of the next one.
  for (std::int32_t e = 0; e < Entries(p.codes); ++e)
    p.out.entries[p.out.indptr[p.codes.ids[e]]++] = e;
  for (std::int64_t i = p.out.latents; i > 0; --i) p.out.indptr[i] = p.out.indptr[i - 1];
  p.out.indptr[0] = 0;
}

void LatentRuleBackward(const LatentRuleParams& p) {
  for (std::int64_t i = 0; i < p.index.latents && IsOn(p.enabled); ++i) {
    switch (p.rule) {
      case LatentRule::kPassThrough:
        PassThrough(p, i);
        break;
      case LatentRule::kRelu:
        Relu(p, i);
        break;
      case LatentRule::kJumpRelu:
        p.tanh_scale > 0 ? JumpTanh(p, i) : JumpRelu(p, i);
        break;
      case LatentRule::kGated:
        Gated(p, i);
        break;
    }
  }
}

void CodeWeights(const device::CodeWeightsParams& p) {
  for (std::int32_t e = 0; e < Entries(p.codes); ++e) {
    const std::int32_t i = p.codes.ids[e];
    const float z = p.codes.values[e];
    if (p.rule == LatentRule::kJumpRelu) {
      p.f[e] = z > p.theta[i] ? z : 0.0F;
    } else {
      p.gate[e] = z + p.b_gate[i];
      p.f[e] = std::max(0.0F, p.scale[i] * z + p.b_mag[i]);
    }
  }
}

void LatentConstants(const device::LatentConstantsParams& p) {
  const auto exponential = [](float v) { return static_cast<float>(std::exp(Wide(v))); };
  for (std::int64_t i = 0; i < p.latents; ++i) {
    if (p.rule == LatentRule::kJumpRelu) {
      p.theta[i] = p.log_threshold ? exponential(p.threshold[i]) : p.threshold[i];
      p.lower[i] = std::max(0.0F, p.theta[i] - p.half);
    } else {
      p.lower[i] = -p.b_gate[i];
      p.scale[i] = exponential(p.r_mag[i]);
    }
  }
}

void SinceFired(const device::SinceFiredParams& p) {
  const std::int64_t latents = p.index.latents;
  std::fill_n(p.scratch, latents, 0);
  std::int64_t active = 0;
  for (std::int32_t e = 0; e < Entries(p.codes); ++e) {
    if (!(p.f[e] > 0)) continue;
    ++active;
    p.scratch[p.codes.ids[e]] = 1;
  }
  if (p.active != nullptr) *p.active = active;
  *p.dead = 0;
  for (std::int64_t i = 0; i < latents; ++i) {
    const std::int64_t before = p.since_before == nullptr ? p.since[i] : p.since_before[i];
    p.since[i] = p.scratch[i] != 0 ? 0 : before + p.tokens;
    if (p.since[i] < p.dead_after) continue;
    if (p.ids != nullptr) p.ids[*p.dead] = static_cast<std::int32_t>(i);
    ++*p.dead;
  }
}

}  // namespace sae::kernels::plain
