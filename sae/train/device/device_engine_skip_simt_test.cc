// Transcoders with a linear skip on a device: the skip's parameters, moments and running mean as on
// CPUs, on any number of ranks and with more than one group of latents.
#include <cstring>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

using testing::DeviceRun;

constexpr std::int64_t kIn = 12, kOut = 20;
constexpr int kSteps = 10;

struct SkipCase {
  const char* name;
  const char* architecture;
  std::int64_t ranks = 1;
  testing::Setting set = nullptr;
};
std::ostream& operator<<(std::ostream& out, const SkipCase& c) { return out << c.name; }

config::TrialConfig ConfigOf(const SkipCase& of) {
  config::TrialConfig c = testing::AcceptanceConfig(of.architecture);
  c.ranks = of.ranks;
  c.sae.latents = 64;
  c.train.batch = 32;
  c.train.tokens = static_cast<double>(100 * c.train.batch);
  c.sae.transcoder = true;
  c.sae.skip = true;
  if (of.set) of.set(c);
  return c;
}

// The largest |a - b|, and the largest |b|.
std::pair<double, double> Apart(const std::vector<char>& a, const std::vector<char>& b) {
  std::vector<float> x(a.size() / sizeof(float)), y(x.size());
  EXPECT_EQ(a.size(), b.size());
  std::memcpy(x.data(), a.data(), a.size());
  std::memcpy(y.data(), b.data(), std::min(a.size(), b.size()));
  std::pair<double, double> most{0, 0};
  for (std::size_t i = 0; i < x.size(); ++i) {
    most.first = std::max(most.first, static_cast<double>(std::abs(x[i] - y[i])));
    most.second = std::max(most.second, static_cast<double>(std::abs(y[i])));
  }
  return most;
}

class EverySkip : public ::testing::TestWithParam<SkipCase> {};

TEST_P(EverySkip, TrainsAsOnTheCpu) {
  const config::TrialConfig config = ConfigOf(GetParam());
  testing::SparseData data(40, kIn + kOut, 3, 17);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < kSteps; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  simt::SimtRuntime runtime({});
  const DeviceRun device = testing::RunSharded(runtime, config, kIn, kOut, batches);
  const DeviceRun cpu = testing::RunOnCpu(config, kIn, kOut, batches);
  testing::ExpectSameRun(device, cpu);
  int compared = 0;
  for (const auto& [name, want] : cpu.end.tensors) {
    if (!name.starts_with("W_skip")) continue;
    const auto [apart, size] = Apart(device.end.tensors.at(name), want);
    EXPECT_GT(size, 0) << name;
    EXPECT_LT(apart, 1e-3 * size) << name;
    ++compared;
  }
  EXPECT_EQ(compared, config.train.ema > 0 ? 4 : 3);
  if (config.train.clip > 0) {
    EXPECT_NEAR(device.norm, cpu.norm, 1e-4 * cpu.norm);
    EXPECT_GT(cpu.norm, config.train.clip);
  }
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    DeviceEngine, EverySkip,
    ::testing::Values(
        SkipCase{"topk_ema", "topk", 1, [](auto& c) { c.train.ema = 0.9; }},
        SkipCase{"topk_2_ranks_clip", "topk", 2, [](auto& c) { c.train.clip = 0.5; }},
        SkipCase{"matryoshka", "matryoshka", 1, [](auto& c) { c.sae.prefixes = "5,24"; }},
        SkipCase{"matryoshka_2_ranks", "matryoshka", 2, [](auto& c) { c.sae.prefixes = "5,24"; }},
        SkipCase{"gated", "gated"}, SkipCase{"gated_4_ranks", "gated", 4},
        SkipCase{"jumprelu", "jumprelu"}, SkipCase{"relu_l1", "relu_l1"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(DeviceEngineSkip, EitherEngineGoesOnFromTheOther) {
  const config::TrialConfig config = ConfigOf({"topk", "topk"});
  testing::SparseData data(40, kIn + kOut, 3, 19);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < 4; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  const testing::SavedState saved = testing::RunOnCpu(config, kIn, kOut, batches).end;
  simt::SimtRuntime runtime({});
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  ThreadPool pool(1);
  DeviceParts parts;
  parts.runtime = &runtime;
  auto device = DeviceEngine::Create(config, kIn, kOut, *self, pool, parts);
  auto cpu = CreateEngine<float>(config, kIn, kOut, *self, pool);
  ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
  double losses[2] = {0, 1};
  testing::SavedState ends[2];
  int at = 0;
  for (Engine<float>* engine : {device->get(), cpu->get()}) {
    testing::Restore(saved, *engine);
    ASSERT_TRUE(engine->Step(batches[1]).ok());
    losses[at] = engine->LastMetrics()->at("train.loss");
    testing::Save(engine->state(), &ends[at++]);
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-5 * losses[1]);
  for (const char* name : {"W_skip", "W_skip.adam_m", "W_skip.adam_v"}) {
    const auto [apart, size] = Apart(ends[0].tensors.at(name), ends[1].tensors.at(name));
    EXPECT_GT(size, 0) << name;
    EXPECT_LT(apart, 1e-4 * size) << name;
  }
}

}  // namespace
}  // namespace sae::train
