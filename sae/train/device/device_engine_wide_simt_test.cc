// Multi-TopK on a device: as on CPUs, on any number of ranks, with AuxK, a skip, and ties at the
// cut of the k largest.
#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

using testing::DeviceRun;

constexpr std::int64_t kWidth = 16;

struct MultiCase {
  const char* name;
  std::int64_t ranks = 1;
  testing::Setting set = nullptr;
};
std::ostream& operator<<(std::ostream& out, const MultiCase& c) { return out << c.name; }

config::TrialConfig ConfigOf(const MultiCase& of) {
  config::TrialConfig c = testing::AcceptanceConfig("topk");
  c.ranks = of.ranks;
  c.sae.latents = 128;
  c.sae.k = 4;
  c.sae.aux_k = 0;
  c.sae.multi_topk = true;
  c.train.batch = 32;
  c.train.tokens = static_cast<double>(100 * c.train.batch);
  c.sae.dead_after_tokens = 2 * c.train.batch;
  if (of.set) of.set(c);
  return c;
}

class EveryMulti : public ::testing::TestWithParam<MultiCase> {};

TEST_P(EveryMulti, TrainsAsOnTheCpu) {
  const config::TrialConfig config = ConfigOf(GetParam());
  testing::SparseData data(40, config.sae.transcoder ? 2 * kWidth : kWidth, 3, 23);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < 8; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  simt::SimtRuntime runtime({});
  const DeviceRun device = testing::RunSharded(runtime, config, kWidth, kWidth, batches);
  const DeviceRun cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
  testing::ExpectSameRun(device, cpu);
  ASSERT_EQ(device.aux.size(), cpu.aux.size());
  for (std::size_t t = 0; t < cpu.aux.size(); ++t) {
    EXPECT_GT(cpu.aux[t], 0);
    EXPECT_NEAR(device.aux[t], cpu.aux[t], 1e-4 * cpu.aux[t]) << "step " << t;
  }
  if (config.train.clip > 0) {
    EXPECT_NEAR(device.norm, cpu.norm, 1e-4 * cpu.norm);
    EXPECT_GT(cpu.norm, config.train.clip);
  }
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    DeviceEngine, EveryMulti,
    ::testing::Values(MultiCase{"clip", 1, [](auto& c) { c.train.clip = 0.2; }},
                      MultiCase{"2_ranks", 2},
                      MultiCase{"4_ranks_aux", 4, [](auto& c) { c.sae.aux_k = 8; }},
                      MultiCase{"certified", 1, [](auto& c) { c.train.selection = "certified"; }},
                      MultiCase{"aux_openai", 1,
                                [](auto& c) {
                                  c.sae.aux_k = 8;
                                  c.train.preset = "openai";
                                }},
                      MultiCase{"skip", 2,
                                [](auto& c) {
                                  c.sae.transcoder = true;
                                  c.sae.skip = true;
                                  c.train.clip = 0.2;
                                }}),
    [](const auto& test) { return std::string(test.param.name); });

// All pre-activations of a token are equal: every token is left open by its first round, more than
// there is room for at first, and the lowest ids win.
TEST(DeviceEngineMulti, TiesAtTheCutGoToLowerIds) {
  const config::TrialConfig config = ConfigOf({"ties"});
  simt::SimtRuntime runtime({});
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  ThreadPool pool(1);
  DeviceParts parts;
  parts.runtime = &runtime;
  const auto engine = DeviceEngine::Create(config, kWidth, kWidth, *self, pool, parts);
  ASSERT_TRUE(engine.ok()) << engine.status();
  testing::SparseData data(40, kWidth, 3, 27);
  ASSERT_TRUE((*engine)->Initialise(data.Rows(config.train.batch, 4)).ok());
  for (const model::StateTensor& t : (*engine)->state().tensors) {
    auto* const values = static_cast<float*>(t.data);
    if (t.name == "W_enc") std::fill_n(values, config.sae.latents * kWidth, 0.25F);
    if (t.name == "b_dec") std::fill_n(values, kWidth, 0.0F);
  }
  ASSERT_TRUE((*engine)->StateLoaded().ok());
  const std::vector<float> rows(static_cast<std::size_t>(config.train.batch * kWidth), 0.5F);
  const absl::Status stepped = (*engine)->Step(rows);
  ASSERT_TRUE(stepped.ok()) << stepped;
  const auto selected = (*engine)->LastSelection();
  ASSERT_TRUE(selected.ok()) << selected.status();
  for (const std::vector<std::int64_t>& ids : *selected)
    EXPECT_EQ(ids, (std::vector<std::int64_t>{0, 1, 2, 3}));
}

TEST(DeviceEngineMulti, FourTimesTooManyAreRefused) {
  config::TrialConfig config = ConfigOf({"wide"});
  config.sae.latents = 8192;
  config.sae.k = 1024;
  EXPECT_TRUE(SupportedOnDevice(config::Resolve(config, kWidth)).ok());
  config.sae.k = 1025;
  const absl::Status status = SupportedOnDevice(config::Resolve(config, kWidth));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("at most 1024"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace sae::train
