#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/reference.h"
#include "sae/model/reference_testing.h"

namespace sae::model {
namespace {

using testing::Evaluate;
using testing::Squares;
using testing::WorstGap;

// The golden transcoder without skip, and sum of squares over the mean of tokens.
GoldenRun Transcoder() {
  GoldenRun run = GoldenSkipTranscoder();
  run.p.w_skip.clear();
  run.options.loss = LossReduction::kSum;
  return run;
}

// Solves A s = b by elimination with pivots.
std::vector<double> Solve(std::vector<double> a, std::vector<double> b, std::size_t n) {
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c; r < n; ++r) {
      if (std::abs(a[r * n + c]) > std::abs(a[pivot * n + c])) pivot = r;
    }
    for (std::size_t k = 0; k < n; ++k) std::swap(a[c * n + k], a[pivot * n + k]);
    std::swap(b[c], b[pivot]);
    for (std::size_t r = c + 1; r < n; ++r) {
      const double factor = a[r * n + c] / a[c * n + c];
      for (std::size_t k = c; k < n; ++k) a[r * n + k] -= factor * a[c * n + k];
      b[r] -= factor * b[c];
    }
  }
  for (std::size_t c = n; c-- > 0;) {
    for (std::size_t k = c + 1; k < n; ++k) b[c] -= a[c * n + k] * b[k];
    b[c] /= a[c * n + c];
  }
  return b;
}

// Property 59.
TEST(ReferenceTranscoder, ZeroSkipIsNoSkipAndSilentLatentsAreLinearRegression) {
  const GoldenRun plain = Transcoder();
  GoldenRun zero = plain;
  zero.p.w_skip.assign(16, 0.0);
  const ReferenceResult without = Evaluate(plain), with = Evaluate(zero);
  EXPECT_EQ(with.loss, without.loss);
  EXPECT_EQ(with.gradient.w_enc, without.gradient.w_enc);
  EXPECT_EQ(with.gradient.w_dec, without.gradient.w_dec);
  EXPECT_EQ(with.gradient.b_dec, without.gradient.b_dec);

  // f = 0: least squares of y on (x, 1), by the normal equations of each output.
  GoldenRun run = zero;
  run.x = testing::Draw(51, 4 * 30);
  run.y = testing::Draw(52, 4 * 30);
  std::fill(run.p.b_enc.begin(), run.p.b_enc.end(), -100.0);
  for (std::size_t out = 0; out < 4; ++out) {
    std::vector<double> a(25), b(5);
    for (std::size_t t = 0; t < 30; ++t) {
      double row[5] = {0, 0, 0, 0, 1};
      for (std::size_t j = 0; j < 4; ++j) row[j] = run.x[4 * t + j];
      for (std::size_t r = 0; r < 5; ++r) {
        b[r] += row[r] * run.y[4 * t + out];
        for (std::size_t c = 0; c < 5; ++c) a[5 * r + c] += row[r] * row[c];
      }
    }
    const std::vector<double> s = Solve(a, b, 5);
    for (std::size_t j = 0; j < 4; ++j) run.p.w_skip[4 * out + j] = s[j];
    run.p.b_dec[out] = s[4];
  }
  const ReferenceResult best = Evaluate(run);
  EXPECT_EQ(best.l0, 0);
  EXPECT_LT(Squares(best.gradient.w_skip) + Squares(best.gradient.b_dec), 1e-24);
  for (std::size_t i = 0; i < 16; ++i) {
    GoldenRun moved = run;
    moved.p.w_skip[i] += 0.01;
    EXPECT_GT(Evaluate(moved).loss, best.loss);
  }
}

// Property 60.
TEST(ReferenceTranscoder, OfItsOwnInputIsAnAutoencoderWithoutPreBias) {
  GoldenRun run = Transcoder();
  run.y = run.x;
  GoldenRun autoencoder = GoldenBatchTopK();
  autoencoder.options.architecture = Architecture::kTopK;
  autoencoder.options.pre_bias = false;
  EXPECT_EQ(Evaluate(run).loss, Evaluate(autoencoder).loss);
  EXPECT_EQ(WorstGap(Evaluate(run).gradient, Evaluate(autoencoder).gradient), 0);
  // And one with pre-bias, once its encoder bias takes the shift up: z = W x + b either way.
  autoencoder.options.pre_bias = true;
  for (std::size_t i = 0; i < 10; ++i) {
    for (std::size_t j = 0; j < 4; ++j)
      autoencoder.p.b_enc[i] += autoencoder.p.w_enc[4 * i + j] * autoencoder.p.b_dec[j];
  }
  EXPECT_NEAR(Evaluate(run).loss, Evaluate(autoencoder).loss, 1e-13);
  EXPECT_LT(WorstGap(Evaluate(run).gradient.w_dec, Evaluate(autoencoder).gradient.w_dec), 1e-13);
}

// Property 61.
TEST(ReferenceTranscoder, ShiftedTargetsMoveTheDecoderBiasAlone) {
  for (const LossReduction loss : {LossReduction::kSum, LossReduction::kFvu}) {
    GoldenRun run = GoldenSkipTranscoder();
    run.options.loss = loss;
    const ReferenceResult before = Evaluate(run);
    for (std::size_t i = 0; i < 24; ++i) run.y[i] += 0.5 * static_cast<double>(i % 4) - 1;
    for (std::size_t j = 0; j < 4; ++j) run.p.b_dec[j] += 0.5 * static_cast<double>(j) - 1;
    const ReferenceResult after = Evaluate(run);
    EXPECT_NEAR(after.loss, before.loss, 1e-13);
    EXPECT_LT(WorstGap(after.gradient, before.gradient), 1e-13);
  }
}

TEST(ReferenceTranscoder, DecodesIntoAWidthOfItsOwn) {
  ReferenceParameters p{2, 3, {1, 0, 0, 0, 1, 0}, {0, 0}, {2, -1}, {0.5}};
  p.d_out = 1;
  ReferenceOptions o;
  o.k = 2;
  o.pre_bias = false;
  const std::vector<double> x = {3, 1, 7}, y = {5};
  const ReferenceResult r = ReferenceForwardBackward(p, x, y, o);
  EXPECT_EQ(r.x_hat, std::vector<double>{0.5 + 6 - 1});
  EXPECT_EQ(r.loss, 0.25);
  EXPECT_EQ(r.gradient.w_enc, (std::vector<double>{6, 2, 14, -3, -1, -7}));
}

}  // namespace
}  // namespace sae::model
