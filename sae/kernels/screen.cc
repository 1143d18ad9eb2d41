#include "sae/kernels/screen.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/base/check.h"
#include "sae/kernels/bf16_product.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {
namespace {

constexpr double kUp = 1 + 0x1p-20;  // covers what float64 sums and float32 bounds round away

double Gamma(std::int64_t m) {
  const double mu = static_cast<double>(m) * 0x1p-23;
  SAE_CHECK_MSG(mu < 0.5, "rows of %ld", static_cast<long>(m));
  return mu / (1 - mu);
}

/// Above v: kUp outweighs the rounding of a normal number, the last term that of a subnormal one.
float Up(double v) {
  const double bound = v * kUp + 0x1p-140;
  return bound < 0x1p126 ? static_cast<float>(bound) : std::numeric_limits<float>::infinity();
}

std::int64_t RoundedUp(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Length of a bf16 row.
std::int64_t Padded(std::int64_t d) { return RoundedUp(d, 32); }

}  // namespace

bool HasBf16() { return Bf16Product::Available(); }

Screen::Screen(std::int64_t latents, std::int64_t d, bool bf16) : latents_(latents), d_(d) {
  SAE_CHECK_MSG(latents > 0 && d > 0, "screen of %ld latents x %ld", static_cast<long>(latents),
                static_cast<long>(d));
  if (bf16 && HasBf16()) impl_ = std::make_unique<Bf16Product>(latents, d);
}

Screen::~Screen() = default;

void Screen::RoundChunk(std::int64_t chunk, int worker) {
  const std::int64_t first = chunk * kScreenLatents;
  const std::int64_t rows = std::min(kScreenLatents, latents_ - first);
  const std::int64_t padded = impl_->padded();
  std::uint16_t* rounded = impl_->Rows(worker);
  for (std::int64_t i = 0; i < rows; ++i) {
    const RoundedNorms squares = RoundRow(d_, w_ + (first + i) * d_, padded, rounded + i * padded);
    latent_norms_[static_cast<std::size_t>(first + i)] = {std::sqrt(squares.exact) * kUp,
                                                          std::sqrt(squares.residual) * kUp};
  }
  std::fill(rounded + rows * padded, rounded + kScreenLatents * padded, std::uint16_t{0});
  impl_->Pack(chunk, worker);
}

void Screen::Prepare(const float* w, ThreadPool& pool) {
  w_ = w;
  workers_ = std::max(workers_, pool.size());
  latent_norms_.resize(static_cast<std::size_t>(latents_));
  if (impl_ == nullptr) {
    pool.ParallelFor(latents_, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        latent_norms_[static_cast<std::size_t>(i)] = {std::sqrt(SumOfSquares(d_, w + i * d_)) * kUp,
                                                      0};
      }
    });
    return;
  }
  impl_->AddWorkers(workers_);
  pool.ParallelFor(chunks(), [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) RoundChunk(chunk, worker);
  });
}

void ScreenTokens::Prepare(const float* x, std::int64_t tokens, std::int64_t d, bool bf16,
                           ThreadPool& pool) {
  SAE_CHECK_MSG(tokens >= 0 && d > 0, "%ld tokens x %ld", static_cast<long>(tokens),
                static_cast<long>(d));
  x_ = x;
  tokens_ = tokens;
  d_ = d;
  bf16_ = bf16;
  norms_.resize(static_cast<std::size_t>(tokens));
  const std::int64_t padded = Padded(d);
  if (bf16) {
    const auto room = static_cast<std::size_t>(RoundedUp(tokens, kScreenTokens) * padded);
    if (rounded_.size() < room) rounded_.resize(room);
  }
  pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      RoundedNorms squares;
      if (bf16) {
        squares = RoundRow(d, x + t * d, padded, rounded_.data() + t * padded);
      } else {
        squares.exact = SumOfSquares(d, x + t * d);
      }
      norms_[static_cast<std::size_t>(t)] = {std::sqrt(squares.exact) * kUp,
                                             std::sqrt(squares.residual) * kUp};
    }
  });
}

void Screen::PrepareTokens(const float* x, std::int64_t tokens, ThreadPool& pool) {
  own_tokens_.Prepare(x, tokens, d_, bf16(), pool);
  tokens_ = &own_tokens_;
}

void Screen::UseTokens(const ScreenTokens& tokens) {
  SAE_CHECK_MSG(tokens.d() == d_ && tokens.bf16() == bf16(),
                "tokens of width %ld for a screen of %ld", static_cast<long>(tokens.d()),
                static_cast<long>(d_));
  tokens_ = &tokens;
}

void Screen::Product(std::int64_t block, std::int64_t chunk, int worker, float* z) const {
  const std::int64_t token = block * kScreenTokens;
  const std::int64_t latent = chunk * kScreenLatents;
  if (impl_ == nullptr) {
    GemmTile(std::min(kScreenTokens, tokens() - token), std::min(kScreenLatents, latents_ - latent),
             d_, x() + token * d_, d_, w_ + latent * d_, d_, z, kScreenLatents);
    return;
  }
  impl_->Multiply(tokens_->rounded() + token * impl_->padded(), chunk, worker, z);
}

void Screen::Bounds(float scale, const float* c, ScreenBounds* out) const {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const double s = std::abs(static_cast<double>(scale));
  const double gamma_s = Gamma(d_);
  const double gamma_r = Gamma(ReferenceDepth(d_));
  const double flush = static_cast<double>(d_) * 0x1p-126;
  double most_w = 0;
  double most_c = 0;
  for (std::int64_t i = 0; i < latents_; ++i) {
    const Norms& n = latent_norms_[static_cast<std::size_t>(i)];
    const double w = n.exact + n.residual;
    const double bias = std::abs(static_cast<double>(c[i]));
    if (!(w <= most_w)) most_w = w;  // NaN stays
    if (!(bias <= most_c)) most_c = bias;
    if (std::isnan(w) || std::isnan(bias)) most_w = kInfinity;
  }
  // Coefficients of r_i and w_i; the last two terms cover both roundings of scale * dot + c.
  double ratio = 0;
  double most_x = 0;
  const std::vector<Norms>& token_norms = tokens_->norms();
  std::vector<double> of_w(token_norms.size());
  std::vector<double> of_r(token_norms.size());
  out->slope.resize(token_norms.size());
  for (std::size_t t = 0; t < token_norms.size(); ++t) {
    const Norms& n = token_norms[t];
    const double x = n.exact + n.residual;
    const double size = most_w * (x + 1) * (s + 1) + most_c;
    if (!(size < 0x1p100)) {
      out->slope[t] = kInfinity;
      continue;
    }
    out->slope[t] = 0;
    most_x = std::max(most_x, x);
    of_r[t] = s * (x * (1 + gamma_s + 0x1p-22) + flush);
    of_w[t] = s * (n.residual + (gamma_s + gamma_r + 0x1p-22) * x + flush);
    ratio = std::max(ratio, of_w[t] / of_r[t]);
  }
  // One coefficient a token: slope (r_i + ratio w_i), ratio the largest of the batch but no more
  // than a rounding to bf16 explains (tokens of subnormal values only exceed that).
  ratio = impl_ == nullptr ? 1 : std::min(ratio, 0x1p-7);
  for (std::size_t t = 0; t < out->slope.size(); ++t) {
    if (out->slope[t] != 0) continue;
    out->slope[t] = Up(impl_ == nullptr ? of_w[t] : std::max(of_r[t], of_w[t] / ratio));
  }
  const auto room = static_cast<std::size_t>(chunks() * kScreenLatents);
  out->c.assign(room, std::numeric_limits<float>::quiet_NaN());
  out->q.assign(room, 0.0F);
  out->g.assign(room, 0.0F);
  for (std::int64_t i = 0; i < latents_; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const Norms& n = latent_norms_[at];
    out->c[at] = c[i];
    out->q[at] = Up(n.residual + ratio * n.exact);
    out->g[at] =
        Up(std::abs(static_cast<double>(c[i])) * 0x1p-22 + s * flush * (most_x + 4) + 0x1p-140);
  }
}

}  // namespace sae::kernels
