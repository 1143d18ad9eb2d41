#pragma once
// The screen of `selection: certified`: approximate products of encoder rows and tokens, fast, and
// rigorous bounds on their distance from ReferenceDot. Where the processor has bf16 dot products
// both sides are rounded to bf16 and multiplied by oneDNN with float32 sums; elsewhere the screen
// is a float32 product, whose bounds are narrower. What is selected does not depend on which.
//   |screen - ReferenceDot| <= r_i X' + w_i R + gamma_s (w_i + r_i) X' + gamma_r w_i X + tiny
// with w_i = |w_i|, r_i = |w_i - bf16(w_i)|, X = |x|, R = |x - bf16(x)|, X' = X + R, gamma = m u /
// (1 - m u), u = 2^-23 (twice what rounding to nearest needs, for units that round less well),
// m = d for the screen, whatever its order of additions, and ReferenceDepth for the reference;
// tiny = d 2^-126 (w_i + r_i + X' + 4) covers operands and results that the unit flushes to 0. All
// norms come from float64 and are rounded up. Rows whose norms could overflow, or that hold NaN,
// are not screened (slope infinite). Sources: numerics 3; Higham 2002, section 3.1. Thread safety:
// Prepare and PrepareTokens alone; then any number of threads, each with its own `worker`.
// Ownership: w and x are borrowed until the next Prepare, PrepareTokens. Buffers are kept. Errors:
// sizes that cannot be right are bugs (SAE_CHECK).

#include <cstdint>
#include <memory>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/screen_bounds.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels {

class Bf16Product;

/// True where oneDNN has bf16 dot products on this processor (AVX512_BF16 or AMX).
bool HasBf16();

/// Tokens and latents of one product. They decide speed alone: bounds hold for every shape.
inline constexpr std::int64_t kScreenTokens = 512;
inline constexpr std::int64_t kScreenLatents = 512;

/// What a call needs beside products: m_ti = slope[t] q[i] + g[i] in units of z (screen_bounds.h).
/// c, q, g are padded to whole chunks; c with NaN, so that what lies behind the last latent is
/// never a candidate.
struct ScreenBounds {
  AlignedVector<float> c, q, g;
  std::vector<float> slope;  ///< tokens; infinite: decide by the reference
};

/// A bound on |row| and on |row - bf16(row)|.
struct ScreenNorms {
  double exact = 0, residual = 0;
};

/// The tokens' side of a screen: one serves every encoder of the same width. Rows are borrowed.
class ScreenTokens {
 public:
  /// x [tokens, d], raw units; rounded to bf16 rows of whole multiples of 32 where `bf16` holds.
  void Prepare(const float* x, std::int64_t tokens, std::int64_t d, bool bf16, ThreadPool& pool);

  const float* x() const { return x_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t d() const { return d_; }
  bool bf16() const { return bf16_; }
  const std::vector<ScreenNorms>& norms() const { return norms_; }
  /// Whole blocks of kScreenTokens rows; with bf16.
  const std::uint16_t* rounded() const { return rounded_.data(); }

 private:
  const float* x_ = nullptr;
  std::int64_t tokens_ = 0;
  std::int64_t d_ = 0;
  bool bf16_ = false;
  std::vector<ScreenNorms> norms_;
  AlignedVector<std::uint16_t> rounded_;
};

class Screen {
 public:
  /// `bf16` is a wish: without HasBf16() the screen is float32.
  Screen(std::int64_t latents, std::int64_t d, bool bf16);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// Each step, after the weights changed: w [latents, d].
  void Prepare(const float* w, ThreadPool& pool);
  /// Each batch: x [tokens, d], raw units.
  void PrepareTokens(const float* x, std::int64_t tokens, ThreadPool& pool);
  /// Or one that others use as well, prepared for this width and bf16(): borrowed until the next.
  void UseTokens(const ScreenTokens& tokens);

  bool bf16() const { return impl_ != nullptr; }
  std::int64_t latents() const { return latents_; }
  std::int64_t d() const { return d_; }
  std::int64_t tokens() const { return tokens_->tokens(); }
  const float* w() const { return w_; }
  const float* x() const { return tokens_->x(); }
  std::int64_t blocks() const { return (tokens() + kScreenTokens - 1) / kScreenTokens; }
  std::int64_t chunks() const { return (latents_ + kScreenLatents - 1) / kScreenLatents; }
  /// Threads that Product serves: the largest pool of a Prepare so far.
  int workers() const { return workers_; }

  /// z[t * kScreenLatents + j] = about x[block kScreenTokens + t] . w[chunk kScreenLatents + j]; z
  /// holds kScreenTokens x kScreenLatents, aligned. Behind the last token and latent it is
  /// undefined.
  void Product(std::int64_t block, std::int64_t chunk, int worker, float* z) const;

  /// For z = scale * dot + c.
  void Bounds(float scale, const float* c, ScreenBounds* out) const;

 private:
  using Norms = ScreenNorms;
  void RoundChunk(std::int64_t chunk, int worker);

  const std::int64_t latents_;
  const std::int64_t d_;
  int workers_ = 0;
  const float* w_ = nullptr;
  std::vector<Norms> latent_norms_;
  ScreenTokens own_tokens_;
  const ScreenTokens* tokens_ = &own_tokens_;
  std::unique_ptr<Bf16Product> impl_;  ///< null: float32
};

}  // namespace sae::kernels
