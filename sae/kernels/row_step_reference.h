#pragma once
// For the tests of row_step.h: random terms and parameters, and the same step written as plain
// dense float64 loops over tokens, latents and columns (sae algorithms 0.2-0.4, numerics 4). The
// encoder's and the decoder's rows have different widths.

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/row_step.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels::row_step_reference {

inline constexpr std::int64_t kTokens = 50;
inline constexpr std::int64_t kLatents = 40;
inline constexpr std::int64_t kIn = 33;
inline constexpr std::int64_t kOut = 49;
inline constexpr double kInputScale = 0.5;

/// One batch. With `extras`: pre-bias, a second full term, one term without f and one without
/// delta, ranges of latents, norm_gradient and a dense delta. Latents [0, 3) have no entry ever.
template <class T>
class Batch {
 public:
  struct Part {
    Codes<T> codes;
    LatentIndex index;
    std::vector<T> delta, g;
    bool has_f, has_delta;
    std::int64_t first, last;
  };
  std::vector<T> x, b_dec, delta_sums, norm_gradient, dense_delta, x_sum;
  std::vector<std::unique_ptr<Part>> parts;
  std::vector<GradientTerm<T>> terms;
  bool extras;

  Batch(std::uint64_t seed, double density, bool with_extras, bool dense_parts = true)
      : x(testing::Normal<T>(seed + 9, kTokens * kIn)), extras(with_extras) {
    Add(seed, density, true, true, 0, kLatents + 5);
    if (extras) {
      b_dec = testing::Normal<T>(seed + 1, kIn);
      Add(seed + 20, 0.1, true, true, 5, kLatents);
      Add(seed + 30, 0.1, false, true, 0, 30);
      Add(seed + 40, 0.1, true, false, 10, 20);
      if (dense_parts) {
        norm_gradient = testing::Normal<T>(seed + 2, kLatents, 0.1);
        dense_delta = testing::Normal<T>(seed + 3, kLatents, 0.1);
      }
      SumUp();
    }
  }

  RowGradientInput<T> input() const {
    RowGradientInput<T> in;
    in.latents = kLatents;
    in.d = kIn;
    in.d_out = kOut;
    in.x = x.data();
    in.scale = static_cast<T>(kInputScale);
    in.terms = terms;
    if (!extras) return in;
    in.b_dec = b_dec.data();
    in.delta_sums = delta_sums.data();
    if (norm_gradient.empty()) return in;
    in.norm_gradient = norm_gradient.data();
    in.dense_delta = dense_delta.data();
    in.x_sum = x_sum.data();
    return in;
  }

 private:
  void Add(std::uint64_t seed, double density, bool f, bool delta, std::int64_t first,
           std::int64_t last) {
    auto part = std::make_unique<Part>();
    part->codes = testing::RandomCodes<T>(seed, kTokens, kLatents, density);
    RemoveFirstLatents(&part->codes);
    BuildLatentIndex(part->codes, &part->index);
    part->delta = testing::Normal<T>(seed + 1, part->codes.nnz());
    part->g = testing::Normal<T>(seed + 2, kTokens * kOut);
    part->has_f = f;
    part->has_delta = delta;
    part->first = first;
    part->last = last;
    terms.push_back({&part->index, f ? part->codes.values.data() : nullptr,
                     delta ? part->delta.data() : nullptr, part->g.data(), first, last});
    parts.push_back(std::move(part));
  }

  static void RemoveFirstLatents(Codes<T>* codes) {
    Codes<T> kept;
    kept.Clear(codes->tokens, codes->latents);
    for (std::size_t b = 0; b < kTokens; ++b) {
      for (std::int64_t e = codes->indptr[b]; e < codes->indptr[b + 1]; ++e) {
        if (codes->ids[static_cast<std::size_t>(e)] < 3) continue;
        kept.ids.push_back(codes->ids[static_cast<std::size_t>(e)]);
        kept.values.push_back(codes->values[static_cast<std::size_t>(e)]);
      }
      kept.indptr[b + 1] = static_cast<std::int64_t>(kept.ids.size());
    }
    *codes = kept;
  }

  void SumUp() {
    std::vector<double> sums(kLatents, 0.0);
    for (const auto& part : parts) {
      for (std::size_t e = 0; part->has_delta && e < part->codes.ids.size(); ++e) {
        const std::int32_t i = part->codes.ids[e];
        if (i >= part->first && i < part->last)
          sums[static_cast<std::size_t>(i)] += static_cast<double>(part->delta[e]);
      }
    }
    for (std::size_t i = 0; i < kLatents && !dense_delta.empty(); ++i)
      sums[i] += static_cast<double>(kTokens) * static_cast<double>(dense_delta[i]);
    delta_sums.assign(sums.begin(), sums.end());
    x_sum.assign(kIn, T(0));
    for (std::size_t at = 0; at < x.size(); ++at) x_sum[at % kIn] += x[at];
  }
};

template <class T>
struct State {
  std::vector<T> w_enc, w_dec, w_enc_m, w_enc_v, w_dec_m, w_dec_v, row_scale;
  std::vector<std::int64_t> last_step;

  explicit State(DecoderRule rule)
      : w_enc(testing::Normal<T>(11, kLatents * kIn)),
        w_dec(testing::Normal<T>(12, kLatents * kOut)),
        w_enc_m(w_enc.size(), T(0)),
        w_enc_v(w_enc_m),
        w_dec_m(w_dec.size(), T(0)),
        w_dec_v(w_dec_m),
        row_scale(kLatents, T(1)),
        last_step(kLatents, 0) {
    for (std::int64_t i = 0; i < kLatents; ++i) {
      T* w = w_dec.data() + i * kOut;
      if (rule == DecoderRule::kUnit || rule == DecoderRule::kUnitBefore) RenormaliseRow(kOut, w);
      if (rule == DecoderRule::kOnTheFly)
        row_scale[static_cast<std::size_t>(i)] =
            static_cast<T>(1 / std::sqrt(SumOfSquares(kOut, w)));
    }
  }
  RowParameters<T> view() {
    return {w_enc.data(),   w_dec.data(),   w_enc_m.data(),   w_enc_v.data(),
            w_dec_m.data(), w_dec_v.data(), row_scale.data(), last_step.data()};
  }
  bool operator==(const State&) const = default;
};

struct Gradient {
  std::vector<double> dec = std::vector<double>(kLatents * kOut, 0.0);
  std::vector<double> enc = std::vector<double>(kLatents * kIn, 0.0);
  std::vector<char> has_dec = std::vector<char>(kLatents, 0);
  std::vector<char> has_enc = std::vector<char>(kLatents, 0);
};

inline double Norm(const double* row) {
  double sum = 0;
  for (std::int64_t j = 0; j < kOut; ++j) sum += row[j] * row[j];
  return std::sqrt(sum);
}

/// The formulas in the centred form: dW_enc = sum over tokens of delta (scale x - b_dec).
template <class T, class W>
Gradient PlainGradient(const Batch<T>& batch, const std::vector<W>& w_dec, bool with_norms = true) {
  Gradient out;
  const auto centred = [&](std::size_t b, std::size_t j) {
    const double centre = batch.extras ? static_cast<double>(batch.b_dec[j]) : 0;
    return kInputScale * static_cast<double>(batch.x[b * kIn + j]) - centre;
  };
  for (std::size_t b = 0; b < kTokens; ++b) {
    for (const auto& part : batch.parts) {
      for (auto e = static_cast<std::size_t>(part->codes.indptr[b]);
           e < static_cast<std::size_t>(part->codes.indptr[b + 1]); ++e) {
        const auto i = static_cast<std::size_t>(part->codes.ids[e]);
        if (part->codes.ids[e] < part->first || part->codes.ids[e] >= part->last) continue;
        if (part->has_f) out.has_dec[i] = 1;
        if (part->has_delta) out.has_enc[i] = 1;
        for (std::size_t j = 0; part->has_f && j < kOut; ++j)
          out.dec[i * kOut + j] += static_cast<double>(part->codes.values[e]) *
                                   static_cast<double>(part->g[b * kOut + j]);
        for (std::size_t j = 0; part->has_delta && j < kIn; ++j)
          out.enc[i * kIn + j] += static_cast<double>(part->delta[e]) * centred(b, j);
      }
    }
    for (std::size_t i = 0; i < kLatents && !batch.dense_delta.empty(); ++i) {
      out.has_enc[i] = 1;
      for (std::size_t j = 0; j < kIn; ++j)
        out.enc[i * kIn + j] += static_cast<double>(batch.dense_delta[i]) * centred(b, j);
    }
  }
  for (std::size_t i = 0; i < kLatents && with_norms && !batch.norm_gradient.empty(); ++i) {
    const std::vector<double> w(w_dec.begin() + static_cast<std::ptrdiff_t>(i) * kOut,
                                w_dec.begin() + static_cast<std::ptrdiff_t>(i + 1) * kOut);
    out.has_dec[i] = 1;
    for (std::size_t j = 0; j < kOut; ++j)
      out.dec[i * kOut + j] += static_cast<double>(batch.norm_gradient[i]) * w[j] / Norm(w.data());
  }
  return out;
}

/// Dense float64 optimizer over all latents.
class Reference {
 public:
  template <class T>
  explicit Reference(const State<T>& s)
      : w_enc_(s.w_enc.begin(), s.w_enc.end()),
        w_dec_(s.w_dec.begin(), s.w_dec.end()),
        em_(w_enc_.size(), 0.0),
        ev_(em_),
        dm_(w_dec_.size(), 0.0),
        dv_(dm_) {}

  /// Returns the squared norm of all gradients after the decoder's rule.
  template <class T>
  double Step(const Batch<T>& batch, const RowUpdateOptions& options) {
    Gradient g = PlainGradient(batch, w_dec_, options.decoder == DecoderRule::kFree);
    double norm2 = 0;
    for (std::size_t i = 0; i < kLatents; ++i) {
      double* w = w_dec_.data() + i * kOut;
      double* grad = g.dec.data() + i * kOut;
      bool moves = g.has_dec[i] != 0;
      for (std::size_t j = 0; j < kOut; ++j)
        moves = moves || options.adam.beta1 * dm_[i * kOut + j] != 0;
      if (options.decoder == DecoderRule::kUnitBefore && moves) Divide(w, Norm(w));
      Rule(options.decoder, w, grad);
      for (std::size_t j = 0; j < kOut; ++j) {
        norm2 += grad[j] * grad[j];
        Adam1(options.gradient_scale * grad[j], options.adam, w[j], dm_[i * kOut + j],
              dv_[i * kOut + j]);
      }
      if (options.decoder == DecoderRule::kUnit && moves) Divide(w, Norm(w));
      for (std::size_t at = i * kIn; at < (i + 1) * kIn; ++at) {
        norm2 += g.enc[at] * g.enc[at];
        Adam1(options.gradient_scale * g.enc[at], options.adam, w_enc_[at], em_[at], ev_[at]);
      }
    }
    return norm2;
  }

  template <class T>
  void ExpectNear(const State<T>& s, double tolerance) const {
    Near(s.w_enc, w_enc_, tolerance, "w_enc");
    Near(s.w_dec, w_dec_, tolerance, "w_dec");
    Near(s.w_enc_m, em_, tolerance, "w_enc_m");
    Near(s.w_enc_v, ev_, tolerance, "w_enc_v");
    Near(s.w_dec_m, dm_, tolerance, "w_dec_m");
    Near(s.w_dec_v, dv_, tolerance, "w_dec_v");
  }

 private:
  static void Divide(double* w, double by) {
    for (std::int64_t j = 0; j < kOut; ++j) w[j] /= by;
  }
  static void Rule(DecoderRule rule, const double* w, double* g) {
    if (rule == DecoderRule::kFree) return;
    const double norm = Norm(w);
    double radial = 0;
    for (std::int64_t j = 0; j < kOut; ++j) radial += g[j] * w[j] / norm;
    for (std::int64_t j = 0; j < kOut; ++j) g[j] -= radial * w[j] / norm;
    if (rule == DecoderRule::kOnTheFly) Divide(g, norm);
  }
  static void Adam1(double g, const Adam& adam, double& p, double& m, double& v) {
    m = adam.beta1 * m + (1 - adam.beta1) * g;
    v = adam.beta2 * v + (1 - adam.beta2) * g * g;
    p -= adam.lr * (m / adam.correction1) / (std::sqrt(v / adam.correction2) + adam.epsilon);
  }
  template <class T>
  static void Near(const std::vector<T>& actual, const std::vector<double>& expected,
                   double tolerance, const char* name) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i)
      ASSERT_NEAR(actual[i], expected[i], tolerance * std::max(1.0, std::abs(expected[i])))
          << name << " " << i;
  }

  std::vector<double> w_enc_, w_dec_, em_, ev_, dm_, dv_;
};

}  // namespace sae::kernels::row_step_reference
