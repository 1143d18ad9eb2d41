#pragma once
// For tests: random SAEs of every kind, and what they compute as plain float64 loops over the
// definition.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "sae/base/random.h"
#include "sae/model/sae.h"

namespace sae::model {

struct TestSaeOptions {
  std::string architecture = "topk";
  std::int64_t d = 7;
  std::int64_t d_out = 0;
  std::int64_t latents = 19;
  std::int64_t k = 4;
  bool pre_bias = true;
  bool transcoder = false;
  bool skip = false;
  Normalisation normalisation = Normalisation::kNone;
  bool restore = true;
  std::uint64_t seed = 5;
};

inline std::vector<float> RandomValues(std::uint64_t seed, std::int64_t count, double scale = 1) {
  Random random(seed);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = static_cast<float>(scale * random.Normal());
  return out;
}

/// Rows of any norm, biases and thresholds that matter.
inline Sae RandomSae(const TestSaeOptions& o) {
  Sae sae;
  sae.architecture = o.architecture;
  sae.d = o.d;
  sae.d_out = o.d_out;
  sae.latents = o.latents;
  sae.k = o.architecture == "topk" ? o.k : 0;
  sae.pre_bias = o.pre_bias;
  sae.transcoder = o.transcoder;
  sae.normalisation = o.normalisation;
  sae.restore = o.restore;
  const double row = 1 / std::sqrt(static_cast<double>(o.d));
  sae.w_enc = RandomValues(o.seed, o.latents * o.d, row);
  sae.w_dec = RandomValues(o.seed + 1, o.latents * sae.width(), row);
  sae.b_enc = RandomValues(o.seed + 2, o.latents, 0.5);
  sae.b_dec = RandomValues(o.seed + 3, sae.width());
  const Activation activation = *ActivationOf(o.architecture);
  if (activation == Activation::kJumpRelu) {
    sae.threshold = RandomValues(o.seed + 4, o.latents, 0.5);
    for (float& t : sae.threshold) t = std::abs(t);
  }
  if (activation == Activation::kGated) {
    sae.b_mag = RandomValues(o.seed + 5, o.latents, 0.5);
    sae.r_mag = RandomValues(o.seed + 6, o.latents, 0.5);
  }
  if (o.skip) sae.w_skip = RandomValues(o.seed + 7, sae.width() * o.d, row);
  return sae;
}

struct ReferenceCodes {
  std::vector<double> f;       ///< [latents]
  std::vector<double> margin;  ///< [latents]: how far the latent is from switching on or off
};

struct ReferenceRow {
  std::vector<double> x;  ///< x'
  double mean = 0, out = 1;
};

inline ReferenceRow ReferenceNormalise(const Sae& sae, std::span<const float> x) {
  const double d = static_cast<double>(x.size());
  ReferenceRow row{.x = {x.begin(), x.end()}};
  double squares = 0;
  if (sae.normalisation == Normalisation::kLayerNorm) {
    for (const double v : row.x) row.mean += v / d;
    for (const double v : row.x) squares += (v - row.mean) * (v - row.mean);
    row.out = std::sqrt(squares / (d - 1));
    for (double& v : row.x) v = (v - row.mean) / (row.out + 1e-5);
  } else if (sae.normalisation == Normalisation::kConstantNorm) {
    for (const double v : row.x) squares += v * v;
    row.out = std::sqrt(squares) / std::sqrt(d);
    for (double& v : row.x) v /= row.out;
  }
  return row;
}

/// Codes of one raw row.
inline ReferenceCodes ReferenceEncode(const Sae& sae, std::span<const float> raw) {
  const std::vector<double> x = ReferenceNormalise(sae, raw).x;
  const Activation activation = *ActivationOf(sae.architecture);
  const auto n = static_cast<std::size_t>(sae.latents), d = static_cast<std::size_t>(sae.d);
  ReferenceCodes out{std::vector<double>(n), std::vector<double>(n)};
  std::vector<double> z(n);
  for (std::size_t i = 0; i < n; ++i) {
    double h = 0;
    for (std::size_t j = 0; j < d; ++j)
      h += sae.w_enc[i * d + j] * (x[j] - (sae.pre_bias ? sae.b_dec[j] : 0.0F));
    z[i] = h + sae.b_enc[i];
    if (activation == Activation::kRelu) {
      out.f[i] = std::max(z[i], 0.0);
      out.margin[i] = std::abs(z[i]);
    } else if (activation == Activation::kJumpRelu) {
      out.f[i] = z[i] > sae.threshold[i] ? std::max(z[i], 0.0) : 0;
      out.margin[i] = std::min(std::abs(z[i] - sae.threshold[i]), std::abs(z[i]));
    } else if (activation == Activation::kGated) {
      const double magnitude = std::exp(double{sae.r_mag[i]}) * h + sae.b_mag[i];
      out.f[i] = z[i] > 0 ? std::max(magnitude, 0.0) : 0;
      out.margin[i] = std::min(std::abs(z[i]), std::abs(magnitude));
    }
  }
  if (activation != Activation::kTopK) return out;
  std::vector<double> sorted = z;
  std::sort(sorted.rbegin(), sorted.rend());
  const auto k = static_cast<std::size_t>(sae.k);
  for (std::size_t i = 0; i < n; ++i) {
    const bool chosen = z[i] >= sorted[k - 1];
    out.f[i] = chosen ? std::max(z[i], 0.0) : 0;
    const double other =
        k == n ? -std::numeric_limits<double>::infinity() : sorted[chosen ? k : k - 1];
    out.margin[i] = std::min(std::abs(z[i] - other), std::abs(z[i]));
  }
  return out;
}

/// y of one raw row and its codes.
inline std::vector<double> ReferenceDecode(const Sae& sae, std::span<const float> raw,
                                           std::span<const double> f) {
  const ReferenceRow row = ReferenceNormalise(sae, raw);
  const auto n = static_cast<std::size_t>(sae.latents), d = static_cast<std::size_t>(sae.d),
             width = static_cast<std::size_t>(sae.width());
  std::vector<double> y(sae.b_dec.begin(), sae.b_dec.end());
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < width; ++j) y[j] += f[i] * sae.w_dec[i * width + j];
  }
  for (std::size_t j = 0; j < width && !sae.w_skip.empty(); ++j) {
    for (std::size_t e = 0; e < d; ++e)
      y[j] += sae.w_skip[j * d + e] * (sae.restore ? row.x[e] : double{raw[e]});
  }
  if (sae.normalisation != Normalisation::kNone && sae.restore) {
    for (double& v : y) v = v * row.out + row.mean;
  }
  return y;
}

/// Codes as a dense matrix, [tokens, latents].
inline std::vector<double> Dense(const kernels::Codes<float>& codes) {
  std::vector<double> f(static_cast<std::size_t>(codes.tokens * codes.latents));
  for (std::int64_t b = 0; b < codes.tokens; ++b) {
    for (auto e = static_cast<std::size_t>(codes.indptr[static_cast<std::size_t>(b)]);
         e < static_cast<std::size_t>(codes.indptr[static_cast<std::size_t>(b) + 1]); ++e) {
      f[static_cast<std::size_t>(b * codes.latents + codes.ids[e])] = double{codes.values[e]};
    }
  }
  return f;
}

}  // namespace sae::model
