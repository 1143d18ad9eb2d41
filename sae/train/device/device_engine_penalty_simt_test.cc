// Steps with losses and penalties beyond the plain ones, under the executor.
#include <gtest/gtest.h>

#include "sae/train/device/device_engine_penalty_testing.h"
#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = testing::kPenaltyWidth;

/// Scalars and the queue of p-annealing, as checkpoints have them.
void ExpectSameScalars(const testing::SavedState& have, const testing::SavedState& want) {
  for (const auto& [name, value] : want.doubles)
    EXPECT_NEAR(have.doubles.at(name), value, 1e-3 * (1 + std::abs(value))) << name;
  if (!want.tensors.contains("p_anneal_queue")) return;
  const auto queue = testing::Doubles(want, "p_anneal_queue");
  const auto own = testing::Doubles(have, "p_anneal_queue");
  for (std::size_t i = 0; i < queue.size(); ++i)
    EXPECT_NEAR(own[i], queue[i], 1e-4 * queue[i]) << i;
}

class EveryPenalty : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryPenalty, TrainsAsOnTheCpu) {
  const config::TrialConfig config = testing::PenaltyConfig(GetParam());
  const auto batches = testing::PenaltyBatches(config, 9);
  simt::SimtRuntime runtime({});
  const auto device = testing::RunOnDevice(runtime, config, kWidth, kWidth, batches);
  const auto cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
  testing::ExpectSameRun(device, cpu);
  ExpectSameScalars(device.end, cpu.end);
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
    const auto cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
    testing::ExpectSameRun(device, cpu);
    ExpectSameScalars(device.end, cpu.end);
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
    ExpectSameScalars(ends[0], ends[1]);
  }
}

}  // namespace
}  // namespace sae::train
