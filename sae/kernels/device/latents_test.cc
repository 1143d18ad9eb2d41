// The plain partners of work by latent against the CPU engine's index and against float64 sums over
// tokens and latents, each rule's formulas written out again.
#include "sae/kernels/device/latents.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"

namespace sae::kernels {
namespace {

using device::LatentRule;
using device::LatentRuleParams;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::PerEntry;

constexpr std::int64_t kTokens = 50;
constexpr std::int64_t kLatents = 40;

TEST(PlainLatents, IndexIsTheCpuEngines) {
  for (const std::int64_t tokens : {0, 1, 41}) {
    HostCodes codes = testing::MakeCodes(1, tokens, kLatents, 0.3, tokens > 1 ? 2 : 0);
    std::vector<std::int32_t> indptr(At(kLatents + 1), -1);
    std::vector<std::int32_t> entries(At(codes.capacity), 0x7fffffff);
    plain::BuildIndex({codes.view(), {kLatents, indptr.data(), entries.data()}, nullptr, 0});
    EXPECT_EQ(indptr, codes.index_indptr);
    EXPECT_EQ(entries, codes.index_entries);
  }
}

struct Buffers {
  explicit Buffers(const HostCodes& codes)
      : delta(At(codes.capacity)),
        delta_sums(At(kLatents)),
        b_enc(delta_sums),
        b_mag(delta_sums),
        r_mag(delta_sums),
        threshold(delta_sums),
        norm(delta_sums),
        penalty(delta_sums.size()),
        powers(penalty),
        next_powers(penalty) {}
  void SetIn(LatentRuleParams* p) {
    p->delta = delta.data();
    p->delta_sums = delta_sums.data();
    p->b_enc = b_enc.data();
    p->b_mag = b_mag.data();
    p->r_mag = r_mag.data();
    p->threshold = threshold.data();
    p->norm = norm.data();
    p->penalty = penalty.data();
    p->powers = powers.data();
    p->next_powers = next_powers.data();
  }
  std::vector<float> delta, delta_sums, b_enc, b_mag, r_mag, threshold, norm;
  std::vector<double> penalty, powers, next_powers;
};

class Rules : public ::testing::Test {
 protected:
  Rules() : codes_(testing::MakeCodes(2, kTokens, kLatents, 0.2, 1)), out_(codes_) {
    u_ = PerEntry(3, codes_);
    p_.codes = codes_.view();
    p_.index = codes_.index();
    p_.u = u_.data();
    p_.lambda = &lambda_;
    out_.SetIn(&p_);
  }
  double z(std::int64_t e) const { return static_cast<double>(codes_.values[At(e)]); }
  double u(std::int64_t e) const { return static_cast<double>(u_[At(e)]); }
  /// sums[i] = sum over the entries of latent i of value(e, i).
  template <class Value>
  std::vector<double> ByLatent(const Value& value) const {
    std::vector<double> sums(At(kLatents));
    for (std::int64_t e = 0; e < codes_.nnz(); ++e)
      sums[At(codes_.ids[At(e)])] += value(e, At(codes_.ids[At(e)]));
    return sums;
  }
  void ExpectDelta(const std::vector<double>& expected) const {
    for (std::int64_t e = 0; e < codes_.nnz(); ++e)
      ASSERT_NEAR(out_.delta[At(e)], expected[At(e)], 1e-6) << e;
    const auto sums = ByLatent([&](std::int64_t e, std::size_t) { return expected[At(e)]; });
    testing::ExpectNear(out_.delta_sums, sums, 1e-6, "delta_sums");
  }

  HostCodes codes_;
  Buffers out_;
  LatentRuleParams p_;
  std::vector<float> u_;
  double lambda_ = 0.7;
};

TEST_F(Rules, PassThroughCopiesAndAdds) {
  plain::LatentRuleBackward(p_);
  std::vector<double> expected(u_.begin(), u_.begin() + codes_.nnz());
  ExpectDelta(expected);
  EXPECT_EQ(out_.b_enc, out_.delta_sums);
  p_.add_sums = true;
  p_.delta = nullptr;
  plain::LatentRuleBackward(p_);
  const auto twice = ByLatent([&](std::int64_t e, std::size_t) { return 2 * u(e); });
  testing::ExpectNear(out_.delta_sums, twice, 1e-6, "twice");
  testing::ExpectNear(out_.b_enc, twice, 1e-6, "twice");
  const std::int32_t off = 0;
  p_.enabled = &off;
  plain::LatentRuleBackward(p_);
  testing::ExpectNear(out_.b_enc, twice, 1e-6, "off");
}

TEST_F(Rules, ReluWithNorms) {
  std::vector<float> norms = Normal<float>(4, kLatents);
  for (float& norm : norms) norm = std::abs(norm);
  p_.rule = LatentRule::kRelu;
  p_.norms = norms.data();
  plain::LatentRuleBackward(p_);
  const double share = lambda_ / kTokens;
  std::vector<double> expected;
  for (std::int64_t e = 0; e < codes_.nnz(); ++e)
    expected.push_back(u(e) + share * static_cast<double>(norms[At(codes_.ids[At(e)])]));
  ExpectDelta(expected);
  testing::ExpectNear(
      out_.norm, ByLatent([&](std::int64_t e, std::size_t) { return share * z(e); }), 1e-7, "norm");
  testing::ExpectNear(out_.penalty, ByLatent([&](std::int64_t e, std::size_t i) {
                        return share * z(e) * static_cast<double>(norms[i]);
                      }),
                      1e-12, "penalty");
}

TEST_F(Rules, ReluWithPower) {
  const double next = 0.4, now = 0.6;
  p_.rule = LatentRule::kRelu;
  p_.power = 0.9;
  p_.power_now = &now;
  p_.power_next = &next;
  plain::LatentRuleBackward(p_);
  std::vector<double> expected;
  for (std::int64_t e = 0; e < codes_.nnz(); ++e)
    expected.push_back(u(e) + lambda_ / kTokens * now * std::pow(z(e), now - 1));
  ExpectDelta(expected);
  const auto powers = ByLatent([&](std::int64_t e, std::size_t) { return std::pow(z(e), now); });
  testing::ExpectNear(out_.powers, powers, 1e-12, "powers");
  for (std::size_t i = 0; i < powers.size(); ++i)
    EXPECT_NEAR(out_.penalty[i], lambda_ / kTokens * powers[i], 1e-12);
  testing::ExpectNear(out_.next_powers,
                      ByLatent([&](std::int64_t e, std::size_t) { return std::pow(z(e), next); }),
                      1e-12, "next_powers");
}

TEST_F(Rules, JumpRelu) {
  std::vector<float> theta = Normal<float>(5, kLatents, 0.1), f(At(codes_.capacity));
  for (float& value : theta) value = 0.5F + value;
  plain::CodeWeights({LatentRule::kJumpRelu, codes_.view(), theta.data(), nullptr, nullptr, nullptr,
                      f.data(), nullptr});
  p_.rule = LatentRule::kJumpRelu;
  p_.theta = theta.data();
  p_.f = f.data();
  p_.bandwidth = 0.3;
  p_.frequency_coefficient = 0.2;
  const auto above = [&](std::int64_t e, std::size_t i) {
    return z(e) > static_cast<double>(theta[i]);
  };
  const auto window = [&](std::int64_t e, std::size_t i) {
    return std::abs(z(e) - static_cast<double>(theta[i])) < 0.15;
  };
  std::vector<double> expected;
  for (std::int64_t e = 0; e < codes_.nnz(); ++e) {
    const bool on = above(e, At(codes_.ids[At(e)]));
    expected.push_back(on ? u(e) : 0);
    ASSERT_EQ(f[At(e)], on ? codes_.values[At(e)] : 0.0F);
  }
  const auto counts = ByLatent([&](std::int64_t e, std::size_t i) { return above(e, i) ? 1 : 0; });
  const auto in = ByLatent([&](std::int64_t e, std::size_t i) { return window(e, i) ? 1 : 0; });
  const auto in_u =
      ByLatent([&](std::int64_t e, std::size_t i) { return window(e, i) ? u(e) : 0; });
  for (const bool log : {true, false}) {
    p_.log_threshold = log;
    p_.penalty_counts = log;
    plain::LatentRuleBackward(p_);
    ExpectDelta(expected);
    EXPECT_EQ(out_.b_enc, out_.delta_sums);
    int often = 0;
    for (std::size_t i = 0; i < At(kLatents); ++i) {
      const double frequency = counts[i] / kTokens;
      often += frequency > 0.1 ? 1 : 0;
      const double coefficient = lambda_ + (frequency > 0.1 ? 0.2 : 0);
      const auto t = static_cast<double>(theta[i]);
      double slope = -(t * in_u[i] + coefficient * in[i] / kTokens) / 0.3;
      if (log) slope *= t;
      EXPECT_NEAR(out_.threshold[i], slope, 1e-6 * std::max(1.0, std::abs(slope)));
      EXPECT_NEAR(out_.penalty[i],
                  0.2 * std::max(0.0, frequency - 0.1) + (log ? lambda_ * frequency : 0), 1e-12);
    }
    EXPECT_GT(often, 0);
    EXPECT_LT(often, kLatents);
  }
}

// Entries are the positions with z > 0; ReLU(theta - z) of all others is in `below`.
TEST_F(Rules, JumpReluWithTanh) {
  constexpr double kScale = 3, kPre = 0.2;
  std::vector<float> theta = Normal<float>(5, kLatents, 0.1), f(At(codes_.capacity));
  std::vector<float> norms = Normal<float>(4, kLatents), dense_delta(At(kLatents));
  for (float& value : theta) value = 0.5F + value;
  for (float& norm : norms) norm = std::abs(norm);
  plain::CodeWeights({LatentRule::kJumpRelu, codes_.view(), theta.data(), nullptr, nullptr, nullptr,
                      f.data(), nullptr});
  const auto t = [&](std::size_t i) { return static_cast<double>(theta[i]); };
  const auto n = [&](std::size_t i) { return static_cast<double>(norms[i]); };
  const auto above = [&](std::int64_t e, std::size_t i) { return z(e) > t(i); };
  const auto tau = [&](std::int64_t e, std::size_t i) {
    return above(e, i) ? std::tanh(kScale * z(e) * n(i)) : 0;
  };
  const auto pushed = [&](std::int64_t e, std::size_t i) {
    return u(e) + lambda_ / kTokens * kScale * n(i) * (1 - tau(e, i) * tau(e, i));
  };
  // z of positions without an entry: -1, so that theta - z > 0.
  auto below = ByLatent([&](std::int64_t e, std::size_t) { return -z(e) - 1; });
  for (std::size_t i = 0; i < At(kLatents); ++i) below[i] += kTokens * (t(i) + 1);
  p_.rule = LatentRule::kJumpRelu;
  p_.theta = theta.data();
  p_.f = f.data();
  p_.bandwidth = 0.3;
  p_.tanh_scale = kScale;
  p_.pre_act_coefficient = kPre;
  p_.norms = norms.data();
  p_.below = below.data();
  p_.dense_delta = dense_delta.data();
  p_.log_threshold = false;
  plain::LatentRuleBackward(p_);
  const auto reached = ByLatent([&](std::int64_t e, std::size_t i) { return above(e, i) ? 1 : 0; });
  const auto missing = ByLatent(
      [&](std::int64_t e, std::size_t i) { return above(e, i) ? 0 : t(i) - z(e); });  // of entries
  const auto counts = ByLatent([&](std::int64_t, std::size_t) { return 1; });
  const auto tanhs = ByLatent(tau);
  const auto in_u = ByLatent([&](std::int64_t e, std::size_t i) {
    return std::abs(z(e) - t(i)) < 0.15 ? pushed(e, i) : 0;
  });
  const auto by_norm = ByLatent([&](std::int64_t e, std::size_t i) {
    return above(e, i) ? lambda_ / kTokens * kScale * z(e) * (1 - tau(e, i) * tau(e, i)) : 0;
  });
  const auto active =
      ByLatent([&](std::int64_t e, std::size_t i) { return above(e, i) ? pushed(e, i) : 0; });
  for (std::size_t i = 0; i < At(kLatents); ++i) {
    const double relu = missing[i] + (kTokens - counts[i]) * (t(i) + 1);
    const double pre = kPre * n(i) / kTokens;
    EXPECT_NEAR(out_.penalty[i], lambda_ / kTokens * tanhs[i] + pre * relu, 1e-10);
    EXPECT_NEAR(out_.norm[i], by_norm[i] + kPre / kTokens * relu, 1e-6);
    EXPECT_NEAR(dense_delta[i], -pre, 1e-8);
    // The gradient by z: u where active, -pre where below theta.
    EXPECT_NEAR(out_.delta_sums[i], active[i] - pre * (kTokens - reached[i]), 1e-5);
    const double slope = -t(i) * in_u[i] / 0.3 + pre * (kTokens - reached[i]);
    EXPECT_NEAR(out_.threshold[i], slope, 1e-6 * std::max(1.0, std::abs(slope)));
  }
  for (std::int64_t e = 0; e < codes_.nnz(); ++e) {
    const std::size_t i = At(codes_.ids[At(e)]);
    EXPECT_NEAR(out_.delta[At(e)], above(e, i) ? pushed(e, i) + kPre * n(i) / kTokens : 0, 1e-6);
  }
  EXPECT_EQ(out_.b_enc, out_.delta_sums);
}

TEST_F(Rules, Gated) {
  const auto scale = Normal<float>(6, kLatents), b_gate = Normal<float>(7, kLatents),
             b_mag = Normal<float>(8, kLatents, 0.5);
  const auto v = PerEntry(9, codes_);
  std::vector<float> f(At(codes_.capacity)), gate(f.size());
  plain::CodeWeights({LatentRule::kGated, codes_.view(), nullptr, scale.data(), b_gate.data(),
                      b_mag.data(), f.data(), gate.data()});
  p_.rule = LatentRule::kGated;
  p_.scale = scale.data();
  p_.f = f.data();
  p_.gate = gate.data();
  p_.v = v.data();
  plain::LatentRuleBackward(p_);
  const double share = lambda_ / kTokens;
  const auto pi = [&](std::int64_t e, std::size_t i) {
    return z(e) + static_cast<double>(b_gate[i]);
  };
  const auto dm = [&](std::int64_t e, std::size_t i) {
    const double m = static_cast<double>(scale[i]) * z(e) + static_cast<double>(b_mag[i]);
    EXPECT_NEAR(f[At(e)], std::max(m, 0.0), 1e-6);
    return f[At(e)] > 0 ? u(e) : 0;
  };
  const auto dpi = [&](std::int64_t e, std::size_t) {
    return static_cast<double>(v[At(e)]) + share;
  };
  std::vector<double> expected;
  for (std::int64_t e = 0; e < codes_.nnz(); ++e) {
    const std::size_t i = At(codes_.ids[At(e)]);
    expected.push_back(static_cast<double>(scale[i]) * dm(e, i) + dpi(e, i));
  }
  ExpectDelta(expected);
  testing::ExpectNear(out_.b_enc, ByLatent(dpi), 1e-6, "b_gate");
  testing::ExpectNear(out_.b_mag, ByLatent(dm), 1e-6, "b_mag");
  testing::ExpectNear(out_.r_mag, ByLatent([&](std::int64_t e, std::size_t i) {
                        return dm(e, i) * static_cast<double>(scale[i]) * z(e);
                      }),
                      1e-6, "r_mag");
  testing::ExpectNear(out_.penalty,
                      ByLatent([&](std::int64_t e, std::size_t i) { return share * pi(e, i); }),
                      1e-6, "penalty");
}

TEST(PlainLatents, Constants) {
  const std::vector<float> raw = {-1, 0.05F, 2};
  std::vector<float> theta(3), lower(3), scale(3);
  device::LatentConstantsParams p;
  p.latents = 3;
  p.threshold = raw.data();
  p.half = 0.1F;
  p.theta = theta.data();
  p.lower = lower.data();
  plain::LatentConstants(p);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_FLOAT_EQ(theta[i], std::exp(raw[i]));
    EXPECT_FLOAT_EQ(lower[i], std::exp(raw[i]) - 0.1F);
  }
  p.log_threshold = false;
  plain::LatentConstants(p);
  EXPECT_EQ(theta, raw);
  EXPECT_EQ(lower, (std::vector<float>{0, 0, 1.9F}));
  p.rule = LatentRule::kGated;
  p.b_gate = raw.data();
  p.r_mag = raw.data();
  p.scale = scale.data();
  plain::LatentConstants(p);
  EXPECT_EQ(lower, (std::vector<float>{1, -0.05F, -2}));
  EXPECT_FLOAT_EQ(scale[2], std::exp(2.0F));
}

TEST(PlainLatents, CountersOfDeadLatents) {
  HostCodes codes = testing::MakeCodes(5, 6, 5, 0, 4);  // latents 0 .. 3 on every token
  std::vector<float> f(At(codes.capacity), 1.0F);
  for (std::int64_t e = 0; e < codes.nnz(); ++e) {
    if (codes.ids[At(e)] == 2) f[At(e)] = 0;           // never above its threshold
    if (codes.ids[At(e)] == 3 && e > 4) f[At(e)] = 0;  // once
  }
  const std::vector<std::int64_t> before = {90, 0, 94, 99, 95};
  std::vector<std::int64_t> since = {1, 1, 1, 1, 1};
  std::vector<std::int32_t> ids(5, -1), scratch(5 + 1024);
  std::int32_t dead = -1;
  std::int64_t active = -1;
  device::SinceFiredParams p;
  p.codes = codes.view();
  p.index = codes.index();
  p.f = f.data();
  p.tokens = 6;
  p.dead_after = 100;
  p.since_before = before.data();
  p.since = since.data();
  p.dead = &dead;
  p.ids = ids.data();
  p.active = &active;
  p.scratch = scratch.data();
  plain::SinceFired(p);
  EXPECT_EQ(since, (std::vector<std::int64_t>{0, 0, 100, 0, 101}));
  EXPECT_EQ(dead, 2);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{2, 4, -1, -1, -1}));
  EXPECT_EQ(active, 13);
  p.since_before = nullptr;
  plain::SinceFired(p);
  EXPECT_EQ(since, (std::vector<std::int64_t>{0, 0, 106, 0, 107}));
}

}  // namespace
}  // namespace sae::kernels
