// The plain partners of reconstruction against the CPU engine's TokenPass and float64.
#include "sae/kernels/device/decode.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"
#include "sae/kernels/token_pass.h"

namespace sae::kernels {
namespace {

using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

constexpr std::int64_t kTokens = 41;
constexpr std::int64_t kLatents = 60;

TEST(PlainDecode, TokenPassHasTheBitsOfTheCpuEngine) {
  for (const std::int64_t d : {1, 7, 32, 100, 577}) {
    for (const bool scaled : {false, true}) {
      HostCodes codes = testing::MakeCodes(3, kTokens, kLatents, 0.3);
      const SplitWeights w(Normal<float>(4, kLatents * d));
      const auto bias = Normal<float>(5, d);
      const auto target = Normal<float>(6, kTokens * d);
      const auto row_scale = Normal<float>(7, kLatents);
      const double rho = 0.4;
      std::vector<float> g(At(kTokens * d)), x_hat(g.size()), u(At(codes.nnz()));
      std::vector<double> squares(At(kTokens));
      device::TokenPassParams p;
      p.decode.codes = codes.view();
      p.decode.f = codes.values.data();
      p.decode.w = w.view(true);
      p.decode.row_scale = scaled ? row_scale.data() : nullptr;
      p.decode.bias = bias.data();
      p.decode.parts = g.data();
      p.decode.d = d;
      p.target = target.data();
      p.target_scale = 0.7F;
      p.rho = &rho;
      p.x_hat = x_hat.data();
      p.squares = squares.data();
      p.u = u.data();
      plain::TokenPass(p);

      ThreadPool pool(1);
      TokenPassInput<float> in{&codes.codes,   codes.values.data(),
                               w.exact.data(), p.decode.row_scale,
                               target.data(),  0.7F,
                               0.8F,           d};
      std::vector<float> engine_x(x_hat.size()), engine_g(g.size()), engine_u(u.size());
      for (std::int64_t b = 0; b < kTokens; ++b)
        std::copy(bias.begin(), bias.end(), engine_x.begin() + b * d);
      const double sum = TokenPass(in, engine_x.data(), engine_g.data(), engine_u.data(), pool);
      testing::ExpectSame(x_hat, engine_x, "x_hat");
      testing::ExpectSame(g, engine_g, "g");
      testing::ExpectNear(u, engine_u, 1e-5 * std::sqrt(static_cast<double>(d)), "u");
      EXPECT_NEAR(std::accumulate(squares.begin(), squares.end(), 0.0), sum, 1e-12 * sum);
    }
  }
}

/// Dense float64: x^(g), e^(g), H^(g) and u of Matryoshka's groups.
class PrefixOracle {
 public:
  PrefixOracle(const HostCodes& codes, const SplitWeights& w, const device::Groups& groups,
               const std::vector<float>& target, double rho, std::int64_t d)
      : h_(At(groups.count * kTokens * d)), x_(At(kTokens * d)), squares_(At(kTokens)) {
    for (std::int64_t b = 0; b < kTokens; ++b) {
      for (std::int64_t j = 0; j < d; ++j) {
        double x = 0;
        std::vector<double> gradient(At(groups.count));
        for (int g = 0; g < groups.count; ++g) {
          const std::int32_t first = g == 0 ? 0 : groups.last[g - 1];
          for (auto e = codes.indptr[At(b)]; e < codes.indptr[At(b) + 1]; ++e) {
            const std::int32_t id = codes.ids[At(e)];
            if (id >= first && id < groups.last[g])
              x += static_cast<double>(codes.values[At(e)]) *
                   static_cast<double>(w.value(id * d + j, false));
          }
          const double error = x - static_cast<double>(target[At(b * d + j)]);
          squares_[At(b)] += groups.weight[g] * error * error;
          gradient[At(g)] = 2 * rho * groups.weight[g] * error;
        }
        x_[At(b * d + j)] = x;
        double sum = 0;
        for (int g = groups.count - 1; g >= 0; --g) {
          sum += gradient[At(g)];
          h_[At((g * kTokens + b) * d + j)] = sum;
        }
      }
    }
  }
  std::vector<double> h_, x_, squares_;
};

TEST(PlainDecode, GroupsMatchFloat64) {
  const std::int64_t d = 33;
  HostCodes codes = testing::MakeCodes(8, kTokens, kLatents, 0.3);
  const SplitWeights w(Normal<float>(9, kLatents * d));
  const auto target = Normal<float>(10, kTokens * d);
  device::Groups groups;
  groups.count = 4;
  const std::int32_t last[] = {7, 7, 40, kLatents};  // the second one is empty
  const double weight[] = {0.1, 0.2, 0.3, 0.4};
  for (int g = 0; g < 4; ++g) {
    groups.last[g] = last[g];
    groups.weight[g] = weight[g];
  }
  const double rho = 1.5;
  const PrefixOracle oracle(codes, w, groups, target, rho, d);
  std::vector<float> parts(At(4 * kTokens * d)), x_hat(At(kTokens * d)), u(At(codes.nnz()));
  std::vector<double> squares(At(kTokens));
  plain::Decode({codes.view(), codes.values.data(), w.view(false), nullptr, nullptr, groups,
                 parts.data(), d});
  plain::PrefixResidual(
      {parts.data(), target.data(), 1, &rho, groups, x_hat.data(), squares.data(), kTokens, d});
  plain::LatentGradient({codes.view(), w.view(false), nullptr, groups, parts.data(), u.data(), d});
  testing::ExpectNear(parts, oracle.h_, 1e-5, "H");
  testing::ExpectNear(x_hat, oracle.x_, 1e-5, "x_hat");
  testing::ExpectNear(squares, oracle.squares_, 1e-5, "squares");
  for (std::int64_t e = 0; e < codes.nnz(); ++e) {
    const std::int32_t id = codes.ids[At(e)];
    int g = 0;
    while (id >= groups.last[g]) ++g;
    double expected = 0;
    for (std::int64_t j = 0; j < d; ++j)
      expected += static_cast<double>(w.value(id * d + j, false)) *
                  oracle.h_[At((g * kTokens + codes.rows[At(e)]) * d + j)];
    ASSERT_NEAR(u[At(e)], expected, 1e-3);
  }
}

TEST(PlainDecode, AuxKMatchesFloat64) {
  const std::int64_t d = 19;
  const auto x_hat = Normal<float>(11, kTokens * d);
  const auto target = Normal<float>(12, kTokens * d);
  std::vector<float> out = Normal<float>(13, kTokens * d);
  const std::vector<float> start = out;
  std::vector<double> means(At(d)), partial(At(kTokens)), squares(At(kTokens));
  double variance = 0, share = 0, factor = 0;
  std::int32_t enabled = 7;
  const std::int32_t dead = 3;
  plain::ResidualVariance(
      {x_hat.data(), target.data(), 0.5F, means.data(), partial.data(), &variance, kTokens, d});
  double expected = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    double mean = 0, square = 0;
    for (std::int64_t at = j; at < kTokens * d; at += d) {
      const double e =
          static_cast<double>(x_hat[At(at)]) - 0.5 * static_cast<double>(target[At(at)]);
      mean += e / static_cast<double>(kTokens);
      square += e * e;
    }
    expected += square - static_cast<double>(kTokens) * mean * mean;
  }
  expected /= static_cast<double>(kTokens * d);
  EXPECT_NEAR(variance, expected, 1e-6 * expected);

  plain::AuxScale({&variance, &dead, 0.3, kTokens, d, &share, &factor, &enabled});
  EXPECT_EQ(enabled, 1);
  EXPECT_DOUBLE_EQ(share, 0.3 / (static_cast<double>(kTokens * d) * variance));
  EXPECT_DOUBLE_EQ(factor, 2 * share);
  plain::AuxResidual({out.data(), x_hat.data(), target.data(), 0.5F, &factor, &enabled,
                      squares.data(), kTokens, d});
  for (std::int64_t b = 0; b < kTokens; ++b) {
    double sum = 0;
    for (std::int64_t at = b * d; at < (b + 1) * d; ++at) {
      const double e = static_cast<double>(start[At(at)]) + static_cast<double>(x_hat[At(at)]) -
                       0.5 * static_cast<double>(target[At(at)]);
      sum += e * e;
      ASSERT_NEAR(out[At(at)], factor * e, 1e-6);
    }
    ASSERT_NEAR(squares[At(b)], sum, 1e-5 * sum);
  }
}

TEST(PlainDecode, AuxKIsOffWithoutDeadLatentsOrVariance) {
  const std::int32_t none = 0, some = 1;
  const double one = 1, zero = 0, nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<const double*, const std::int32_t*>> cases = {
      {&one, &none}, {&zero, &some}, {&nan, &some}};
  for (const auto& [variance, dead] : cases) {
    double factor = 5;
    std::int32_t enabled = 5;
    plain::AuxScale({variance, dead, 1, 2, 1, nullptr, &factor, &enabled});
    EXPECT_EQ(enabled, 0);
    EXPECT_EQ(factor, 0);
    std::vector<float> out = {NAN, 1};
    const std::vector<float> x = {1, 2};
    std::vector<double> squares = {5, 5};
    plain::AuxResidual(
        {out.data(), x.data(), x.data(), 1, &factor, &enabled, squares.data(), 2, 1});
    EXPECT_EQ(out, (std::vector<float>{0, 0}));
    EXPECT_EQ(squares, (std::vector<double>{0, 0}));
  }
}

}  // namespace
}  // namespace sae::kernels
