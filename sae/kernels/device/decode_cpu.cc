// The plainest loops that are right: the definition of what decode_cuda.cu computes.
#include <array>
#include <cmath>

#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/plain_rows.h"

namespace sae::kernels::plain {
namespace {

using device::DecodeParams;
using device::Groups;

int GroupOf(const Groups& groups, std::int32_t id) {
  int g = 0;
  while (g < groups.count - 1 && id >= groups.last[g]) ++g;
  return g;
}

double Square(float e) { return static_cast<double>(e) * static_cast<double>(e); }

float Dot(std::int64_t d, const device::WeightRows& w, std::int64_t row, const float* h) {
  const device::TokenShape shape = device::ShapeOfToken(d, w.lo != nullptr);
  std::array<float, device::kMostTokenThreads> chains{};
  for (std::int64_t j = 0; j < d; ++j) {
    float& chain = chains[static_cast<std::size_t>(j / shape.columns % shape.threads)];
    chain = std::fma(Weight(w, row + j), h[j], chain);
  }
  for (std::size_t half = 16; half > 0; half /= 2) {
    for (std::size_t c = 0; c < chains.size(); ++c) {
      if (c % 32 < half) chains[c] += chains[c + half];
    }
  }
  float sum = chains[0];
  for (std::size_t c = 32; c < static_cast<std::size_t>(shape.threads); c += 32) sum += chains[c];
  return sum;
}

}  // namespace

void Decode(const DecodeParams& p) {
  const std::int64_t size = p.codes.tokens * p.d;
  for (std::int64_t t = 0; t < p.codes.tokens; ++t) {
    for (int g = 0; g < p.groups.count; ++g) {
      for (std::int64_t j = 0; j < p.d; ++j)
        p.parts[g * size + t * p.d + j] = g == 0 && p.bias != nullptr ? p.bias[j] : 0.0F;
    }
    for (std::int32_t e = p.codes.indptr[t]; e < p.codes.indptr[t + 1]; ++e) {
      const std::int32_t id = p.codes.ids[e];
      const float a = p.row_scale == nullptr ? p.f[e] : p.f[e] * p.row_scale[id];
      float* const out = p.parts + GroupOf(p.groups, id) * size + t * p.d;
      for (std::int64_t j = 0; j < p.d; ++j)
        out[j] = std::fma(a, Weight(p.w, id * p.d + j), out[j]);
    }
  }
}

void PrefixResidual(const device::PrefixResidualParams& p) {
  const std::int64_t size = p.tokens * p.d;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    p.squares[t] = 0;
    for (std::int64_t at = t * p.d; at < (t + 1) * p.d; ++at) {
      float x = p.parts[at];
      for (int g = 0; g < p.groups.count; ++g) {
        if (g > 0) x += p.parts[g * size + at];
        const double weight = p.groups.weight[g];
        const float e = std::fma(-p.target_scale, p.target[at], x);
        p.squares[t] += weight * Square(e);
        p.parts[g * size + at] = static_cast<float>(2 * (*p.rho * weight)) * e;
      }
      p.x_hat[at] = x;
      for (int g = p.groups.count - 1; g > 0; --g)
        p.parts[(g - 1) * size + at] += p.parts[g * size + at];
    }
  }
}

void LatentGradient(const device::LatentGradientParams& p) {
  for (std::int64_t t = 0; t < p.codes.tokens; ++t) {
    for (std::int32_t e = p.codes.indptr[t]; e < p.codes.indptr[t + 1]; ++e) {
      const std::int32_t id = p.codes.ids[e];
      const float* h = p.h + (GroupOf(p.groups, id) * p.codes.tokens + t) * p.d;
      p.u[e] = Dot(p.d, p.w, id * p.d, h) * (p.row_scale == nullptr ? 1.0F : p.row_scale[id]);
    }
  }
}

void TokenPass(const device::TokenPassParams& p) {
  const DecodeParams& decode = p.decode;
  Decode(decode);
  PrefixResidual({decode.parts, p.target, p.target_scale, p.rho, decode.groups, p.x_hat, p.squares,
                  decode.codes.tokens, decode.d});
  LatentGradient(
      {decode.codes, decode.w, decode.row_scale, decode.groups, decode.parts, p.u, decode.d});
}

void AuxResidual(const device::AuxResidualParams& p) {
  const auto factor = static_cast<float>(*p.factor);
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    p.squares[t] = 0;
    for (std::int64_t at = t * p.d; at < (t + 1) * p.d; ++at) {
      const float e =
          IsOn(p.enabled) ? p.out[at] + (p.x_hat[at] - p.target_scale * p.target[at]) : 0.0F;
      p.squares[t] += Square(e);
      p.out[at] = IsOn(p.enabled) ? factor * e : 0.0F;
    }
  }
}

void ResidualVariance(const device::ResidualVarianceParams& p) {
  const auto error = [&](std::int64_t at) {
    return static_cast<double>(p.x_hat[at] - p.target_scale * p.target[at]);
  };
  for (std::int64_t j = 0; j < p.d; ++j) {
    p.column_means[j] = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) p.column_means[j] += error(t * p.d + j);
    p.column_means[j] /= static_cast<double>(p.tokens);
  }
  double sum = 0;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    p.partial[t] = 0;
    for (std::int64_t j = 0; j < p.d; ++j) {
      const double e = error(t * p.d + j) - p.column_means[j];
      p.partial[t] += e * e;
    }
    sum += p.partial[t];
  }
  *p.variance = sum / static_cast<double>(p.tokens * p.d);
}

void AuxScale(const device::AuxScaleParams& p) {
  const double v = *p.variance;
  const bool on = (p.dead == nullptr || *p.dead > 0) && v > 0 && std::isfinite(v);
  const double share = on ? p.alpha_variance / (static_cast<double>(p.tokens * p.d) * v) : 0;
  if (p.share != nullptr) *p.share = share;
  *p.factor = 2 * share;
  *p.enabled = on ? 1 : 0;
}

}  // namespace sae::kernels::plain
