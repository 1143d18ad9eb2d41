#include "sae/kernels/token_pass.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kTokens = 101;
constexpr std::int64_t kLatents = 60;

template <class T>
struct Problem {
  std::int64_t d;
  Codes<T> codes = testing::RandomCodes<T>(3, kTokens, kLatents, 0.3);
  std::vector<T> f, decoder, row_scale, target, start;

  explicit Problem(std::int64_t width, bool scaled)
      : d(width),
        f(codes.values),
        decoder(testing::Normal<T>(4, kLatents * d)),
        target(testing::Normal<T>(5, kTokens * d)),
        start(testing::Normal<T>(6, kTokens * d)) {
    for (std::size_t e = 0; e < f.size(); e += 5) f[e] = T(0);  // an entry that only wants its u
    codes.values.assign(codes.values.size(), std::nan(""));     // are not to be used
    for (std::int64_t i = 0; scaled && i < kLatents; ++i)
      row_scale.push_back(static_cast<T>(1 + i % 7) / T(3));
  }
  const T* scales() const { return row_scale.empty() ? nullptr : row_scale.data(); }
  TokenPassInput<T> input() const {
    return {&codes, f.data(), decoder.data(), scales(), target.data(), T(0.25), T(2) / kTokens, d};
  }
};

template <class T>
struct Result {
  std::vector<T> x_hat, g, u;
  double squares = 0;
  bool operator==(const Result&) const = default;
};

template <class T>
Result<T> Fused(const Problem<T>& p, int threads) {
  ThreadPool pool(threads);
  Result<T> r{p.start, std::vector<T>(p.start.size(), T(9)), std::vector<T>(p.f.size(), T(9))};
  r.squares = TokenPass(p.input(), r.x_hat.data(), r.g.data(), r.u.data(), pool);
  return r;
}

template <class T>
Result<T> Apart(const Problem<T>& p, int threads) {
  ThreadPool pool(threads);
  const TokenPassInput<T> in = p.input();
  Result<T> r{p.start, std::vector<T>(p.start.size(), T(9)), std::vector<T>(p.f.size(), T(9))};
  SparseDecodeParams<T> decode{p.codes.indptr.data(),
                               p.codes.ids.data(),
                               p.f.data(),
                               p.decoder.data(),
                               r.x_hat.data(),
                               kTokens,
                               p.d,
                               p.scales()};
  EXPECT_EQ(SparseDecode(Device::kCpu, decode, pool), Error::kOk);
  r.squares = Residual(in.target, in.target_scale, r.x_hat.data(), kTokens, p.d, in.factor,
                       r.g.data(), pool);
  LatentGradient(p.codes, p.decoder.data(), r.g.data(), p.d, r.u.data(), pool, p.scales());
  return r;
}

/// The formulas by plain float64 loops.
template <class T>
void ExpectNear(const Result<T>& r, const Problem<T>& p, double tolerance) {
  const auto d = static_cast<std::size_t>(p.d);
  double squares = 0;
  for (std::size_t b = 0; b < kTokens; ++b) {
    std::vector<double> g(d);
    for (std::size_t j = 0; j < d; ++j) {
      auto x_hat = static_cast<double>(p.start[b * d + j]);
      for (std::int64_t e = p.codes.indptr[b]; e < p.codes.indptr[b + 1]; ++e) {
        const auto i = static_cast<std::size_t>(p.codes.ids[static_cast<std::size_t>(e)]);
        const double scale = p.row_scale.empty() ? 1 : static_cast<double>(p.row_scale[i]);
        x_hat += static_cast<double>(p.f[static_cast<std::size_t>(e)]) * scale *
                 static_cast<double>(p.decoder[i * d + j]);
      }
      const double error = x_hat - 0.25 * static_cast<double>(p.target[b * d + j]);
      squares += error * error;
      g[j] = 2.0 / kTokens * error;
      ASSERT_NEAR(r.x_hat[b * d + j], x_hat, tolerance);
      ASSERT_NEAR(r.g[b * d + j], g[j], tolerance);
    }
    for (std::int64_t e = p.codes.indptr[b]; e < p.codes.indptr[b + 1]; ++e) {
      const auto i = static_cast<std::size_t>(p.codes.ids[static_cast<std::size_t>(e)]);
      double u = 0;
      for (std::size_t j = 0; j < d; ++j) u += static_cast<double>(p.decoder[i * d + j]) * g[j];
      if (!p.row_scale.empty()) u *= static_cast<double>(p.row_scale[i]);
      ASSERT_NEAR(r.u[static_cast<std::size_t>(e)], u, tolerance * std::sqrt(d));
    }
  }
  EXPECT_NEAR(r.squares / squares, 1, tolerance);
}

template <class T>
class TokenPassTest : public ::testing::Test {
 protected:
  static constexpr double kTolerance = std::is_same_v<T, float> ? 1e-5 : 1e-13;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(TokenPassTest, Types);

TYPED_TEST(TokenPassTest, MatchesTheFormulas) {
  for (const std::int64_t d : {1, 7, 64, 200, 577}) {
    for (const bool scaled : {false, true}) {
      const Problem<TypeParam> problem(d, scaled);
      ExpectNear(Fused(problem, 2), problem, this->kTolerance);
    }
  }
}

TYPED_TEST(TokenPassTest, EqualsTheThreeKernelsApartForAnyNumberOfThreads) {
  for (const std::int64_t d : {1, 31, 200, 577}) {
    for (const bool scaled : {false, true}) {
      const Problem<TypeParam> problem(d, scaled);
      const Result<TypeParam> apart = Apart(problem, 1);
      for (const int threads : {1, 2, 3}) {
        EXPECT_TRUE(Fused(problem, threads) == apart) << d << " " << threads;
        EXPECT_TRUE(Apart(problem, threads) == apart) << d << " " << threads;
      }
    }
  }
}

TYPED_TEST(TokenPassTest, WithoutEntriesTheErrorIsOfThePrefilledRows) {
  using T = TypeParam;
  Codes<T> codes;
  codes.Clear(3, 4);
  const auto target = testing::Normal<T>(1, 6);
  std::vector<T> x_hat = testing::Normal<T>(2, 6);
  const std::vector<T> before = x_hat;
  std::vector<T> g(6);
  ThreadPool pool(2);
  const TokenPassInput<T> input{&codes, nullptr, nullptr, nullptr, target.data(), T(1), T(2), 2};
  double expected = 0;
  for (std::size_t j = 0; j < 6; ++j)
    expected += std::pow(static_cast<double>(before[j] - target[j]), 2);
  EXPECT_NEAR(TokenPass(input, x_hat.data(), g.data(), static_cast<T*>(nullptr), pool), expected,
              1e-6);
  EXPECT_EQ(x_hat, before);
  for (std::size_t j = 0; j < 6; ++j) EXPECT_EQ(g[j], T(2) * (before[j] - target[j]));
}

}  // namespace
}  // namespace sae::kernels
