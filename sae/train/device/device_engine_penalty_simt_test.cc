// Steps with losses and penalties beyond the plain ones, under the executor.
#include <gtest/gtest.h>

#include "sae/train/device/device_engine_penalty_testing.h"
#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = testing::kPenaltyWidth;

class EveryPenalty : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryPenalty, TrainsAsOnTheCpu) {
  const config::TrialConfig config = testing::PenaltyConfig(GetParam());
  const auto batches = testing::PenaltyBatches(config, 9);
  simt::SimtRuntime runtime({});
  const auto device = testing::RunOnDevice(runtime, config, kWidth, kWidth, batches);
  const auto cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
  testing::ExpectSameRun(device, cpu);
  for (const auto& [name, value] : cpu.end.doubles)
    EXPECT_NEAR(device.end.doubles.at(name), value, 1e-3 * (1 + std::abs(value))) << name;
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

TEST_P(EveryPenalty, ShardsTrainAsOnTheCpu) {
  for (const std::int64_t ranks : {2, 4}) {
    config::TrialConfig config = testing::PenaltyConfig(GetParam());
    config.ranks = ranks;
    auto batches = testing::PenaltyBatches(config, 11);
    batches.resize(4);  // the last of them captured
    simt::SimtRuntime runtime({});
    const auto device = testing::RunSharded(runtime, config, kWidth, kWidth, batches);
    testing::ExpectSameRun(device, testing::RunOnCpu(config, kWidth, kWidth, batches));
    config.ranks = 1;
    const auto alone = testing::RunOnCpu(config, kWidth, kWidth, batches);
    for (std::size_t t = 0; t < batches.size(); ++t)
      EXPECT_NEAR(device.losses[t], alone.losses[t], 1e-4 * alone.losses[t]) << t;
  }
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryPenalty, ::testing::ValuesIn(testing::PenaltyNames()),
                         [](const auto& test) { return std::string(test.param); });

// The exponent has moved on the way, and its queue is part of a checkpoint.
TEST(DeviceEnginePenalty, EitherEngineGoesOnFromTheOther) {
  for (const char* name : {"relu_lp", "jumprelu_quadratic", "jumprelu_tanh"}) {
    const config::TrialConfig config = testing::PenaltyConfig(name);
    auto batches = testing::PenaltyBatches(config, 21);
    batches.resize(7);
    simt::SimtRuntime runtime({});
    const auto saved = testing::RunOnDevice(runtime, config, kWidth, kWidth, batches).end;
    const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
    ThreadPool pool(1);
    DeviceParts parts;
    parts.runtime = &runtime;
    auto device = DeviceEngine::Create(config, kWidth, kWidth, *self, pool, parts);
    auto cpu = CreateEngine<float>(config, kWidth, *self, pool);
    ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
    testing::SavedState ends[2];
    int at = 0;
    for (Engine<float>* engine : {device->get(), cpu->get()}) {
      testing::Restore(saved, *engine);
      std::map<std::string, double> metrics;
      for (int t = 0; t < 4; ++t) {
        ASSERT_TRUE(engine->Step(batches[static_cast<std::size_t>(t)]).ok());
        metrics = *engine->LastMetrics();
      }
      if (std::string(name) == "relu_lp") {
        EXPECT_LT(metrics.at("penalty_p"), 0.8);
      }
      testing::Save(engine->state(), &ends[at++]);
    }
    for (auto& end : ends) end.integers.erase("last_active");  // a code may fall to the other side
    EXPECT_EQ(ends[0].integers, ends[1].integers) << name;
    for (const auto& [key, value] : ends[1].doubles)
      EXPECT_NEAR(ends[0].doubles.at(key), value, 1e-4 * (1 + std::abs(value))) << name << key;
    for (const auto& [key, bytes] : ends[1].tensors) {
      if (key != "p_anneal_queue") continue;
      const auto want = testing::Doubles(ends[1], key), have = testing::Doubles(ends[0], key);
      for (std::size_t i = 0; i < want.size(); ++i)
        EXPECT_NEAR(have[i], want[i], 1e-4 * want[i]) << i;
    }
  }
}

}  // namespace
}  // namespace sae::train
