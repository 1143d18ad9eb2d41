// Lazy rows on a device: the bits of dense rows there, on any number of ranks, in captured steps,
// through resampling and checkpoints; and the run of the CPU engine.
#include <cstring>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 16;

// Few entries a step, so that most latents rest.
config::TrialConfig ConfigOf(const std::string& name, std::int64_t ranks) {
  config::TrialConfig c = testing::AcceptanceConfig(name == "resampled" ? "relu_l1" : name);
  c.ranks = ranks;
  c.train.batch = 8;
  c.train.tokens = static_cast<double>(32 * c.train.batch);
  c.train.beta1 = 0;
  c.train.rows = "lazy";
  c.sae.dead_after_tokens = 2 * c.train.batch;
  if (name == "topk" || name == "batchtopk") {
    c.sae.k = 4;
    c.sae.aux_k = 4;
  }
  if (name == "batchtopk") c.train.clip = 0.1;
  if (name == "resampled") {  // after step 4
    c.sae.resample = "on";
    c.sae.l1_coefficient = 3;
    c.train.lr = 3e-2;
  }
  return c;
}

using LazyRun = std::tuple<const char*, std::int64_t>;  // ConfigOf's name, ranks
class EveryLazyRun : public ::testing::TestWithParam<LazyRun> {};

TEST_P(EveryLazyRun, HasTheBitsOfDenseRows) {
  const auto& [name, ranks] = GetParam();
  config::TrialConfig config = ConfigOf(name, ranks);
  const auto batches = testing::SparseBatches(config, kWidth, kWidth, 6);
  simt::SimtRuntime runtime({});
  const auto run = [&] {
    return ranks == 1 ? testing::RunOnDevice(runtime, config, kWidth, kWidth, batches)
                      : testing::RunSharded(runtime, config, kWidth, kWidth, batches);
  };
  const testing::DeviceRun lazy = run();
  testing::ExpectSameRun(lazy, testing::RunOnCpu(config, kWidth, kWidth, batches));
  config.train.rows = "dense";
  const testing::DeviceRun dense = run();
  EXPECT_EQ(lazy.losses, dense.losses);
  EXPECT_EQ(lazy.end.integers, dense.end.integers);
  for (const auto& [tensor, bytes] : dense.end.tensors)
    EXPECT_EQ(lazy.end.tensors.at(tensor), bytes) << tensor;
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryLazyRun,
                         ::testing::Values(LazyRun{"topk", 1}, LazyRun{"topk", 2},
                                           LazyRun{"topk", 4}, LazyRun{"batchtopk", 2},
                                           LazyRun{"gated", 1}, LazyRun{"jumprelu", 1},
                                           LazyRun{"jumprelu", 4}, LazyRun{"resampled", 2}),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param));
                         });

// Looking at the state on the way settles rows and changes nothing; a checkpoint of one engine is
// one of the other.
TEST(DeviceEngineRows, LazyStatesAreSettledAndGoBothWays) {
  const config::TrialConfig config = ConfigOf("topk", 1);
  const auto batches = testing::SparseBatches(config, kWidth, kWidth, 6);
  simt::SimtRuntime runtime({});
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  ThreadPool pool(1);
  DeviceParts parts;
  parts.runtime = &runtime;
  const testing::SavedState through =
      testing::RunOnDevice(runtime, config, kWidth, kWidth, batches).end;
  auto device = DeviceEngine::Create(config, kWidth, kWidth, *self, pool, parts);
  auto cpu = CreateEngine<float>(config, kWidth, *self, pool);
  ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
  ASSERT_TRUE((*device)->Initialise(batches[0]).ok());
  testing::SavedState looked, half;
  for (std::size_t t = 0; t < batches.size(); ++t) {
    ASSERT_TRUE((*device)->Step(batches[t]).ok());
    testing::Save((*device)->state(), t == 3 ? &half : &looked);
  }
  EXPECT_EQ(looked.tensors, through.tensors);
  // From the middle on, in either engine; the device's steps are those without the break.
  testing::SavedState ends[2];
  int at = 0;
  for (Engine<float>* engine : {device->get(), cpu->get()}) {
    testing::Restore(half, *engine);
    EXPECT_EQ(engine->step(), 4);
    for (std::size_t t = 4; t < batches.size(); ++t) ASSERT_TRUE(engine->Step(batches[t]).ok());
    testing::Save(engine->state(), &ends[at++]);
  }
  EXPECT_EQ(ends[0].tensors, through.tensors);
  for (const auto& [name, bytes] : ends[1].tensors) {
    if (name == "tokens_since_fired") {
      EXPECT_EQ(bytes, through.tensors.at(name));
      continue;
    }
    std::vector<float> want(bytes.size() / 4), have(want.size());
    std::memcpy(want.data(), bytes.data(), bytes.size());
    std::memcpy(have.data(), through.tensors.at(name).data(), bytes.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(have[i], want[i], 1e-4 * (1 + std::abs(want[i]))) << name << " " << i;
  }
  // And back: what the CPU engine has saved, the device takes up.
  testing::Restore(ends[1], **device);
  testing::SavedState taken;
  testing::Save((*device)->state(), &taken);
  EXPECT_EQ(taken.tensors, ends[1].tensors);
}

}  // namespace
}  // namespace sae::train
