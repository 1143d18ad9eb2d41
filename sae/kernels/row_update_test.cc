#include "sae/kernels/row_update.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"
#include "sae/kernels/vector_ops.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kTokens = 50;
constexpr std::int64_t kLatents = 40;
constexpr std::int64_t kD = 33;

/// Codes, their gradient and everything else of one term.
template <class T>
struct Term {
  Codes<T> codes;
  LatentIndex index;
  std::vector<T> delta, g;

  explicit Term(std::uint64_t seed, double density)
      : codes(testing::RandomCodes<T>(seed, kTokens, kLatents, density)) {
    BuildLatentIndex(codes, &index);
    delta = testing::Normal<T>(seed + 1, codes.nnz());
    g = testing::Normal<T>(seed + 2, kTokens * kD);
  }
  GradientTerm<T> view() const { return {&index, codes.values.data(), delta.data(), g.data()}; }
};

template <class T>
struct Parameters {
  std::vector<T> w_enc, w_dec, b_enc, w_enc_m, w_enc_v, w_dec_m, w_dec_v, b_enc_m, b_enc_v;

  Parameters()
      : w_enc(testing::Normal<T>(11, kLatents * kD)),
        w_dec(testing::Normal<T>(12, kLatents * kD)),
        b_enc(testing::Normal<T>(13, kLatents)),
        w_enc_m(w_enc.size(), T(0)),
        w_enc_v(w_enc_m),
        w_dec_m(w_enc_m),
        w_dec_v(w_enc_m),
        b_enc_m(b_enc.size(), T(0)),
        b_enc_v(b_enc_m) {
    for (std::int64_t i = 0; i < kLatents; ++i) RenormaliseRow(kD, w_dec.data() + i * kD);
  }
  RowParameters<T> view() {
    return {w_enc.data(),   w_dec.data(),   b_enc.data(),   w_enc_m.data(), w_enc_v.data(),
            w_dec_m.data(), w_dec_v.data(), b_enc_m.data(), b_enc_v.data()};
  }
  bool operator==(const Parameters&) const = default;
};

struct Plain {
  std::vector<double> g_dec = std::vector<double>(kLatents * kD, 0.0);
  std::vector<double> g_enc = g_dec;
  std::vector<double> g_bias = std::vector<double>(kLatents, 0.0);
  std::vector<char> any = std::vector<char>(kLatents, 0);
  double norm2 = 0;
};

/// The formulas of algorithms 0.2 and 0.3, dense, by entry.
template <class T>
Plain PlainGradient(const std::vector<const Term<T>*>& terms, const std::vector<T>& x, double scale,
                    const std::vector<T>* b_dec, const std::vector<T>* w_dec) {
  Plain out;
  for (const Term<T>* term : terms) {
    for (std::size_t b = 0; b < kTokens; ++b) {
      for (auto e = static_cast<std::size_t>(term->codes.indptr[b]);
           e < static_cast<std::size_t>(term->codes.indptr[b + 1]); ++e) {
        const auto i = static_cast<std::size_t>(term->codes.ids[e]);
        out.any[i] = 1;
        out.g_bias[i] += static_cast<double>(term->delta[e]);
        for (std::size_t j = 0; j < kD; ++j) {
          out.g_dec[i * kD + j] +=
              static_cast<double>(term->codes.values[e]) * static_cast<double>(term->g[b * kD + j]);
          const double centre = b_dec == nullptr ? 0 : static_cast<double>((*b_dec)[j]);
          out.g_enc[i * kD + j] += static_cast<double>(term->delta[e]) *
                                   (scale * static_cast<double>(x[b * kD + j]) - centre);
        }
      }
    }
  }
  for (std::size_t i = 0; i < kLatents; ++i) {
    double radial = 0;
    double norm2 = 0;
    for (std::size_t j = 0; w_dec != nullptr && j < kD; ++j) {
      const auto w = static_cast<double>((*w_dec)[i * kD + j]);
      radial += out.g_dec[i * kD + j] * w;
      norm2 += w * w;
    }
    for (std::size_t j = 0; j < kD; ++j) {
      if (w_dec != nullptr)
        out.g_dec[i * kD + j] -= radial / norm2 * static_cast<double>((*w_dec)[i * kD + j]);
      out.norm2 += out.g_dec[i * kD + j] * out.g_dec[i * kD + j] +
                   out.g_enc[i * kD + j] * out.g_enc[i * kD + j];
    }
    out.norm2 += out.g_bias[i] * out.g_bias[i];
  }
  return out;
}

void PlainAdam(double g, const Adam& adam, double& p, double& m, double& v) {
  m = adam.beta1 * m + (1 - adam.beta1) * g;
  v = adam.beta2 * v + (1 - adam.beta2) * g * g;
  p -= adam.lr * (m / adam.correction1) / (std::sqrt(v / adam.correction2) + adam.epsilon);
}

/// Dense float64 optimizer over all latents, for as many steps as it is called.
struct PlainOptimizer {
  std::vector<double> w_enc, w_dec, b_enc, em, ev, dm, dv, bm, bv;
  template <class T>
  explicit PlainOptimizer(const Parameters<T>& p)
      : w_enc(p.w_enc.begin(), p.w_enc.end()),
        w_dec(p.w_dec.begin(), p.w_dec.end()),
        b_enc(p.b_enc.begin(), p.b_enc.end()),
        em(w_enc.size(), 0.0),
        ev(em),
        dm(em),
        dv(em),
        bm(b_enc.size(), 0.0),
        bv(bm) {}

  void Step(const Plain& g, const Adam& adam, double clip, bool unit_norm) {
    for (std::size_t i = 0; i < kLatents; ++i) {
      bool moves = g.any[i] != 0;
      for (std::size_t j = 0; j < kD; ++j) moves = moves || dm[i * kD + j] != 0;
      double norm2 = 0;
      for (std::size_t at = i * kD; at < (i + 1) * kD; ++at) {
        PlainAdam(clip * g.g_dec[at], adam, w_dec[at], dm[at], dv[at]);
        PlainAdam(clip * g.g_enc[at], adam, w_enc[at], em[at], ev[at]);
        norm2 += w_dec[at] * w_dec[at];
      }
      PlainAdam(clip * g.g_bias[i], adam, b_enc[i], bm[i], bv[i]);
      if (!moves || !unit_norm) continue;
      for (std::size_t at = i * kD; at < (i + 1) * kD; ++at) w_dec[at] /= std::sqrt(norm2);
    }
  }
};

template <class T>
void Near(const std::vector<T>& actual, const std::vector<double>& expected, double tolerance,
          const char* name) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance) << name << " " << i;
}

template <class T>
class RowUpdateTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowUpdateTest, Types);

TYPED_TEST(RowUpdateTest, SixStepsMatchTheDenseOptimizer) {
  using T = TypeParam;
  const auto x = testing::Normal<T>(1, kTokens * kD);
  const auto b_dec = testing::Normal<T>(2, kD);
  for (const bool unit_norm : {true, false}) {
    for (const bool pre_bias : {true, false}) {
      Parameters<T> parameters;
      PlainOptimizer reference(parameters);
      RowWorkspace<T> workspace;
      ThreadPool pool(2);
      for (int t = 1; t <= 6; ++t) {
        // Fewer entries each step: some latents get a gradient no more but still have momentum; two
        // terms at odd t.
        const Term<T> main(static_cast<std::uint64_t>(100 * t), 0.4 / t);
        const Term<T> aux(static_cast<std::uint64_t>(100 * t + 50), 0.1);
        std::vector<GradientTerm<T>> terms = {main.view()};
        std::vector<const Term<T>*> plain_terms = {&main};
        if (t % 2 == 1) {
          terms.push_back(aux.view());
          plain_terms.push_back(&aux);
        }
        RowGradientInput<T> input{kLatents, kD, x.data(), T(0.5), pre_bias ? b_dec.data() : nullptr,
                                  terms};
        const Plain plain = PlainGradient(plain_terms, x, 0.5, pre_bias ? &b_dec : nullptr,
                                          unit_norm ? &parameters.w_dec : nullptr);
        RowUpdateOptions options;
        options.adam = Adam::At(t, 0.003, 0.9, 0.999, 1e-8);
        options.unit_norm_decoder = unit_norm;
        options.gradient_scale = t == 3 ? 0.25 : 1;
        const double measured =
            RowGradientSquaredNorm(input, parameters.w_dec.data(), unit_norm, &workspace, pool);
        EXPECT_NEAR(measured / plain.norm2, 1, this->kTolerance);
        const double norm2 = RowUpdate(input, options, parameters.view(), &workspace, pool);
        EXPECT_EQ(norm2, measured);
        reference.Step(plain, options.adam, options.gradient_scale, unit_norm);
        Near(parameters.w_dec, reference.w_dec, this->kTolerance, "w_dec");
        Near(parameters.w_enc, reference.w_enc, this->kTolerance, "w_enc");
        Near(parameters.b_enc, reference.b_enc, this->kTolerance, "b_enc");
        Near(parameters.w_dec_m, reference.dm, this->kTolerance, "w_dec_m");
        Near(parameters.w_enc_v, reference.ev, this->kTolerance, "w_enc_v");
      }
    }
  }
}

TYPED_TEST(RowUpdateTest, GradientsMatchTheFormulas) {
  using T = TypeParam;
  const auto x = testing::Normal<T>(1, kTokens * kD);
  const auto b_dec = testing::Normal<T>(2, kD);
  const Term<T> main(7, 0.3);
  const Term<T> aux(77, 0.2);
  const std::vector<GradientTerm<T>> terms = {main.view(), aux.view()};
  const RowGradientInput<T> input{kLatents, kD, x.data(), T(2), b_dec.data(), terms};
  const Plain plain = PlainGradient<T>({&main, &aux}, x, 2, &b_dec, nullptr);
  ThreadPool pool(3);
  std::vector<T> bias(kLatents, T(5));
  BiasGradient(input, bias.data(), pool);
  Near(bias, plain.g_bias, this->kTolerance, "bias");
  for (std::int64_t i = 0; i < kLatents; ++i) {
    std::vector<T> g_dec(kD, T(9));
    std::vector<T> g_enc(kD, T(9));
    T g_bias = T(9);
    EXPECT_EQ(RowGradient(input, i, g_dec.data(), g_enc.data(), &g_bias),
              plain.any[static_cast<std::size_t>(i)] != 0);
    EXPECT_EQ(g_bias, bias[static_cast<std::size_t>(i)]);
    for (std::int64_t j = 0; j < kD; ++j) {
      const auto at = static_cast<std::size_t>(i * kD + j);
      EXPECT_NEAR(g_dec[static_cast<std::size_t>(j)], plain.g_dec[at], this->kTolerance);
      EXPECT_NEAR(g_enc[static_cast<std::size_t>(j)], plain.g_enc[at], 2 * this->kTolerance);
    }
  }
}

TYPED_TEST(RowUpdateTest, BitsDoNotDependOnThreads) {
  using T = TypeParam;
  const auto x = testing::Normal<T>(1, kTokens * kD);
  const Term<T> main(7, 0.3);
  const std::vector<GradientTerm<T>> terms = {main.view()};
  const RowGradientInput<T> input{kLatents, kD, x.data(), T(1), nullptr, terms};
  RowUpdateOptions options;
  Parameters<T> first;
  double first_norm = 0;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    Parameters<T> parameters;
    RowWorkspace<T> workspace;
    double norm = 0;
    for (int t = 1; t <= 3; ++t) {
      options.adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
      norm = RowUpdate(input, options, parameters.view(), &workspace, pool);
    }
    if (threads == 1) {
      first = parameters;
      first_norm = norm;
    }
    EXPECT_TRUE(parameters == first) << threads << " threads";
    EXPECT_EQ(norm, first_norm);
  }
}

// numerics 4: without a gradient and without momentum a row keeps its bits; it is not renormalised
// either.
TYPED_TEST(RowUpdateTest, ARowAtRestKeepsItsBits) {
  using T = TypeParam;
  const auto x = testing::Normal<T>(1, kTokens * kD);
  const Term<T> none(7, 0.0);
  const std::vector<GradientTerm<T>> terms = {none.view()};
  const RowGradientInput<T> input{kLatents, kD, x.data(), T(1), nullptr, terms};
  Parameters<T> parameters;
  for (std::size_t j = 0; j < kD; ++j)
    parameters.w_dec[j] *= T(3);  // row 0 is off the sphere, and at rest
  const std::size_t moving = 4 * kD;
  for (std::size_t j = 0; j < kD; ++j) parameters.w_dec_m[moving + j] = T(0.5);
  parameters.w_dec_v.assign(parameters.w_dec_v.size(), T(1));
  const Parameters<T> before = parameters;
  RowUpdateOptions options;
  options.adam = Adam::At(5, 0.01, 0.9, 0.999, 1e-8);
  RowWorkspace<T> workspace;
  ThreadPool pool(2);
  EXPECT_EQ(RowUpdate(input, options, parameters.view(), &workspace, pool), 0);
  EXPECT_EQ(parameters.w_enc, before.w_enc);
  EXPECT_EQ(parameters.b_enc, before.b_enc);
  for (std::size_t at = 0; at < before.w_dec.size(); ++at) {
    const bool moves = at >= moving && at < moving + kD;
    EXPECT_EQ(parameters.w_dec[at] == before.w_dec[at], !moves) << at;
    EXPECT_EQ(parameters.w_dec_v[at], static_cast<T>(0.999) * T(1));  // v decays as dense Adam's
  }
  EXPECT_NEAR(SumOfSquares(kD, parameters.w_dec.data() + moving), 1, 1e-6);
}

TYPED_TEST(RowUpdateTest, NoTermsAtAll) {
  using T = TypeParam;
  Parameters<T> parameters;
  const Parameters<T> before = parameters;
  RowWorkspace<T> workspace;
  ThreadPool pool(1);
  RowUpdateOptions options;
  const RowGradientInput<T> input{kLatents, kD, nullptr, T(1), nullptr, {}};
  EXPECT_EQ(RowUpdate(input, options, parameters.view(), &workspace, pool), 0);
  EXPECT_TRUE(parameters == before);
}

}  // namespace
}  // namespace sae::kernels
