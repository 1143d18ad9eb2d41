// Kernels of work by latent against their partners.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/latents.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::LatentRule;
using device::LatentRuleParams;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::PerEntry;

constexpr LatentRule kRules[] = {LatentRule::kPassThrough, LatentRule::kRelu, LatentRule::kJumpRelu,
                                 LatentRule::kGated};

void Index(DeviceTest& t, HostCodes codes) {
  const std::int64_t latents = codes.codes.latents;
  const std::int64_t bytes = device::BuildIndexScratchBytes(codes.capacity, latents);
  device::BuildIndexParams p;
  p.codes = testing::Upload(t, codes);
  p.out = {latents, t.Allocate<std::int32_t>(At(latents + 1), "out.indptr"),
           t.Allocate<std::int32_t>(At(codes.capacity), "out.entries")};
  p.scratch = t.Allocate<unsigned char>(At(bytes), "scratch");
  p.scratch_bytes = bytes - 1;
  EXPECT_EQ(cuda::BuildIndex(p, t.stream()), Error::kInvalidArgument);
  p.scratch_bytes = bytes;
  t.Check(cuda::BuildIndex(p, t.stream()));
  testing::ExpectSame(t.Download(p.out.indptr, At(latents + 1)), codes.index_indptr, "indptr");
  std::vector<std::int32_t> expected = codes.index_entries;
  expected.resize(At(codes.nnz()));
  testing::ExpectSame(t.Download(p.out.entries, expected.size()), expected, "entries");
}

TEST(LatentsDevice, IndexEqualsThePartners) {
  for (const std::int64_t latents : {1, 60, 64, 300}) {
    RunDeviceTest([&](DeviceTest& t) { Index(t, testing::MakeCodes(1, 41, latents, 0.2)); });
    RunDeviceTest([&](DeviceTest& t) { Index(t, testing::MakeCodes(2, 41, latents, 0.2, 1)); });
  }
  Codes<float> none;
  none.Clear(5, 7);
  RunDeviceTest([&](DeviceTest& t) { Index(t, testing::FromCodes(none)); });
  RunDeviceTest([&](DeviceTest& t) { Index(t, testing::FromCodes(none, 0)); });
}

/// Inputs of all rules, and places for all their outputs.
struct RuleData {
  RuleData(LatentRule rule, std::int64_t tokens, std::int64_t latents, std::int64_t hot)
      : codes(testing::MakeCodes(3, tokens, latents, tokens > 500 ? 0.01 : 0.2, hot)),
        u(PerEntry(4, codes)),
        v(PerEntry(5, codes)),
        theta(Normal<float>(6, latents, 0.2)),
        scale(Normal<float>(7, latents)),
        b_gate(Normal<float>(8, latents, 0.2)),
        b_mag(Normal<float>(9, latents, 0.2)),
        norms(Normal<float>(10, latents)),
        f(u.size(), NAN),
        gate(f) {
    for (float& value : theta) value += 0.5F;
    params.rule = rule;
    params.bandwidth = 0.3;
    params.frequency_coefficient = 0.1;
    for (float& norm : norms) norm = std::abs(norm);
    for (std::size_t i = 0; i < theta.size(); ++i) below.push_back(0.1 * static_cast<double>(i));
  }
  /// JumpReLU's penalty tanh.
  static RuleData Tanh(std::int64_t tokens, std::int64_t latents, std::int64_t hot) {
    RuleData data(LatentRule::kJumpRelu, tokens, latents, hot);
    data.params.tanh_scale = 4;
    data.params.pre_act_coefficient = 0.2;
    return data;
  }
  std::size_t latents() const { return theta.size(); }
  bool weighted() const {
    return params.rule == LatentRule::kJumpRelu || params.rule == LatentRule::kGated;
  }

  HostCodes codes;
  std::vector<float> u, v, theta, scale, b_gate, b_mag, norms, f, gate;
  std::vector<double> below;
  LatentRuleParams params;
};

constexpr std::size_t kSums = 7;
struct Outputs {
  std::vector<float> delta, sums[kSums];
  std::vector<double> penalty[3];
};

Outputs OnTheHost(RuleData& data, double lambda, double power, double next) {
  if (data.weighted()) {
    plain::CodeWeights({data.params.rule, data.codes.view(), data.theta.data(), data.scale.data(),
                        data.b_gate.data(), data.b_mag.data(), data.f.data(), data.gate.data()});
  }
  Outputs out;
  out.delta.assign(data.u.size(), 9.0F);
  for (auto& sums : out.sums) sums.assign(data.latents(), 2.0F);
  for (auto& penalty : out.penalty) penalty.assign(data.latents(), 2.0);
  LatentRuleParams p = data.params;
  p.codes = data.codes.view();
  p.index = data.codes.index();
  p.u = data.u.data();
  p.v = data.v.data();
  p.f = data.f.data();
  p.gate = data.gate.data();
  p.theta = data.theta.data();
  p.scale = data.scale.data();
  p.norms = power == 1 ? data.norms.data() : nullptr;
  p.below = data.below.data();
  p.lambda = &lambda;
  p.power_now = &power;
  p.power_next = &next;
  p.delta = out.delta.data();
  p.delta_sums = out.sums[0].data();
  p.b_enc = out.sums[1].data();
  p.b_mag = out.sums[2].data();
  p.r_mag = out.sums[3].data();
  p.threshold = out.sums[4].data();
  p.norm = out.sums[5].data();
  p.dense_delta = out.sums[6].data();
  p.penalty = out.penalty[0].data();
  p.powers = out.penalty[1].data();
  p.next_powers = out.penalty[2].data();
  plain::LatentRuleBackward(p);
  return out;
}

void Rule(DeviceTest& t, RuleData data, double power) {
  const double lambda = 0.7, next = 0.5;
  const Outputs expected = OnTheHost(data, lambda, power, next);
  LatentRuleParams p = data.params;
  p.codes = testing::Upload(t, data.codes);
  p.index = testing::UploadIndex(t, data.codes);
  p.u = t.Upload(data.u, "u");
  p.v = t.Upload(data.v, "v");
  p.theta = t.Upload(data.theta, "theta");
  p.scale = t.Upload(data.scale, "scale");
  p.norms = power == 1 ? t.Upload(data.norms, "norms") : nullptr;
  p.lambda = testing::UploadScalar(t, lambda, "lambda");
  p.power_now = testing::UploadScalar(t, power, "power");
  p.power_next = testing::UploadScalar(t, next, "next");
  auto* const f = t.Upload(std::vector<float>(data.f.size(), NAN), "f");
  auto* const gate = t.Upload(std::vector<float>(data.f.size(), NAN), "gate");
  p.f = f;
  p.gate = gate;
  p.delta = t.Upload(std::vector<float>(data.u.size(), 9.0F), "delta");
  p.below = t.Upload(data.below, "below");
  float* sums[kSums];
  for (float*& out : sums) out = t.Upload(std::vector<float>(data.latents(), 2.0F), "sums");
  double* penalty[3];
  for (double*& out : penalty) out = t.Upload(std::vector<double>(data.latents(), 2.0), "penalty");
  p.delta_sums = sums[0];
  p.b_enc = sums[1];
  p.b_mag = sums[2];
  p.r_mag = sums[3];
  p.threshold = sums[4];
  p.norm = sums[5];
  p.dense_delta = sums[6];
  p.penalty = penalty[0];
  p.powers = penalty[1];
  p.next_powers = penalty[2];
  if (data.weighted()) {
    t.Check(cuda::CodeWeights({p.rule, p.codes, p.theta, p.scale, t.Upload(data.b_gate, "b_gate"),
                               t.Upload(data.b_mag, "b_mag"), f, gate},
                              t.stream()));
    testing::ExpectSame(t.Download(f, data.f.size()), data.f, "f");
    testing::ExpectSame(t.Download(gate, data.gate.size()), data.gate, "gate");
  }
  t.Check(cuda::LatentRuleBackward(p, t.stream()));
  testing::ExpectNear(t.Download(p.delta, data.u.size()), expected.delta, 1e-7, "delta");
  for (std::size_t s = 0; s < kSums; ++s)
    testing::ExpectNear(t.Download(sums[s], data.latents()), expected.sums[s], 1e-7, "sums");
  for (std::size_t s = 0; s < 3; ++s)
    testing::ExpectNear(t.Download(penalty[s], data.latents()), expected.penalty[s], 1e-12,
                        "penalty");
}

TEST(LatentsDevice, RulesEqualTheirPartners) {
  for (const LatentRule rule : kRules) {
    for (const std::int64_t latents : {1, 60, 150})
      RunDeviceTest([&](DeviceTest& t) { Rule(t, {rule, 41, latents, 1}, 1); });
  }
  RunDeviceTest([&](DeviceTest& t) { Rule(t, {LatentRule::kRelu, 41, 60, 0}, 0.6); });
  for (const double power : {1.0, 0.6})  // with norms and without
    RunDeviceTest([&](DeviceTest& t) { Rule(t, RuleData::Tanh(41, 60, 1), power); });
}

TEST(LatentsDevice, LongListsAreSharedByTheBlock) {
  for (const LatentRule rule : kRules)
    RunDeviceTest([&](DeviceTest& t) { Rule(t, {rule, 1100, 70, 3}, 1); });
  RunDeviceTest([&](DeviceTest& t) { Rule(t, RuleData::Tanh(1100, 70, 3), 1); });
}

void SecondCodes(DeviceTest& t, std::int32_t enabled) {
  HostCodes codes = testing::MakeCodes(11, 41, 60, 0.2);
  std::vector<float> u = PerEntry(12, codes), sums = Normal<float>(13, 60), b_enc = sums;
  LatentRuleParams host, p;
  host.codes = codes.view();
  host.index = codes.index();
  host.u = u.data();
  host.add_sums = true;
  host.enabled = &enabled;
  host.delta_sums = sums.data();
  host.b_enc = b_enc.data();
  p = host;
  p.codes = testing::Upload(t, codes);
  p.index = testing::UploadIndex(t, codes);
  p.u = t.Upload(u, "u");
  p.enabled = testing::UploadScalar(t, enabled, "enabled");
  p.delta_sums = t.Upload(sums, "delta_sums");
  p.b_enc = t.Upload(b_enc, "b_enc");
  t.Check(cuda::LatentRuleBackward(p, t.stream()));
  plain::LatentRuleBackward(host);
  testing::ExpectNear(t.Download(p.delta_sums, 60), sums, 1e-7, "delta_sums");
  testing::ExpectNear(t.Download(p.b_enc, 60), b_enc, 1e-7, "b_enc");
}

TEST(LatentsDevice, ASecondSetOfCodesAdds) {
  RunDeviceTest([](DeviceTest& t) { SecondCodes(t, 1); });
  RunDeviceTest([](DeviceTest& t) { SecondCodes(t, 0); });
}

TEST(LatentsDevice, ConstantsEqualTheirPartners) {
  for (const std::int64_t latents : {1, 300}) {
    const auto raw = Normal<float>(14, latents), gate = Normal<float>(15, latents);
    RunDeviceTest([&](DeviceTest& t) {
      for (const int variant : {0, 1, 2}) {
        std::vector<float> a(At(latents)), b(a);
        device::LatentConstantsParams host, p;
        host.rule = variant == 2 ? LatentRule::kGated : LatentRule::kJumpRelu;
        host.log_threshold = variant == 0;
        host.latents = latents;
        host.half = 0.2F;
        p = host;
        host.threshold = host.r_mag = raw.data();
        host.b_gate = gate.data();
        host.lower = a.data();
        host.theta = host.scale = b.data();
        p.threshold = p.r_mag = t.Upload(raw, "raw");
        p.b_gate = t.Upload(gate, "b_gate");
        p.lower = t.Allocate<float>(a.size(), "lower");
        p.theta = p.scale = t.Allocate<float>(b.size(), "theta, scale");
        t.Check(cuda::LatentConstants(p, t.stream()));
        plain::LatentConstants(host);
        testing::ExpectNear(t.Download(p.lower, a.size()), a, 1e-7, "lower");
        testing::ExpectNear(t.Download(p.theta, b.size()), b, 1e-7, "theta, scale");
      }
    });
  }
}

void Since(DeviceTest& t, std::int64_t latents, bool all_outputs) {
  HostCodes codes = testing::MakeCodes(16, 9, std::min<std::int64_t>(latents, 300), 0.3);
  std::vector<float> f = PerEntry(17, codes);
  Random random(18);
  std::vector<std::int64_t> before(At(latents));
  for (auto& count : before) count = static_cast<std::int64_t>(random.Below(100));
  std::vector<std::int64_t> since = before;
  std::vector<std::int32_t> ids(At(latents), -1), scratch(At(latents));
  std::int32_t dead = -1;
  std::int64_t active = -1;
  device::SinceFiredParams host, p;
  host.index.latents = latents;
  host.tokens = 9;
  host.dead_after = 90;
  p = host;
  host.codes = codes.view();
  host.f = f.data();
  host.since = since.data();
  host.dead = &dead;
  host.scratch = scratch.data();
  p.codes = testing::Upload(t, codes);
  p.f = t.Upload(f, "f");
  p.since = t.Upload(before, "since");
  p.dead = t.Allocate<std::int32_t>(1, "dead");
  p.scratch = t.Allocate<std::int32_t>(At(latents) + 1024, "scratch");
  std::int32_t* device_ids = nullptr;
  if (all_outputs) {
    host.since_before = before.data();
    host.ids = ids.data();
    host.active = &active;
    p.since_before = t.Upload(before, "since_before");
    p.since = t.Allocate<std::int64_t>(At(latents), "since");
    p.ids = device_ids = t.Upload(ids, "ids");
    p.active = t.Allocate<std::int64_t>(1, "active");
  }
  t.Check(cuda::SinceFired(p, t.stream()));
  plain::SinceFired(host);
  testing::ExpectSame(t.Download(p.since, since.size()), since, "since");
  EXPECT_EQ(t.Download(p.dead, 1)[0], dead);
  if (!all_outputs) return;
  testing::ExpectSame(t.Download(device_ids, ids.size()), ids, "ids");
  EXPECT_EQ(t.Download(p.active, 1)[0], active);
}

TEST(LatentsDevice, DeadCountersEqualTheirPartners) {
  for (const std::int64_t latents : {1, 60, 257, 3001}) {
    RunDeviceTest([&](DeviceTest& t) { Since(t, latents, true); });
    RunDeviceTest([&](DeviceTest& t) { Since(t, latents, false); });
  }
}

// More than 256 latents a chunk.
TEST(LatentsDevice, DeadCountersOfManyLatents) {
  RunDeviceTest([](DeviceTest& t) { Since(t, 263000, true); });
}

TEST(LatentsDevice, RefusesWhatCannotBeRight) {
  RunDeviceTest([](DeviceTest& t) {
    EXPECT_EQ(cuda::BuildIndex({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::LatentRuleBackward({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::CodeWeights({}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::SinceFired({}, t.stream()), Error::kInvalidArgument);
    device::LatentConstantsParams constants;
    constants.latents = 1;
    EXPECT_EQ(cuda::LatentConstants(constants, t.stream()), Error::kInvalidArgument);
  });
}

TEST(LatentsDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) {
    Rule(t, {LatentRule::kPassThrough, 1100, 3, 2}, 1);
    Since(t, 3001, true);
  });
}

}  // namespace
}  // namespace sae::kernels
