// Resampling of dead latents on a device: as on CPUs, on any number of ranks, in a run whose steps
// are captured.
#include <cstring>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

using testing::DeviceRun;
using testing::SavedState;

constexpr std::int64_t kWidth = 16;
constexpr int kSteps = 14;

// Due after steps 4, 8 and 12; the third step is captured.
config::TrialConfig ConfigOf(const char* architecture, std::int64_t ranks) {
  config::TrialConfig c = testing::AcceptanceConfig(architecture);
  c.ranks = ranks;
  c.sae.latents = 128;
  c.train.batch = 32;
  c.train.tokens = static_cast<double>(32 * c.train.batch);
  c.train.lr = 3e-2;  // so that some are dead by then
  c.sae.l1_coefficient = 3;
  c.sae.dead_after_tokens = c.train.batch;
  c.sae.resample = "on";
  return c;
}

std::vector<float> Floats(const SavedState& s, const std::string& name) {
  const std::vector<char>& bytes = s.tensors.at(name);
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

double MostApart(const SavedState& a, const SavedState& b, const std::string& name) {
  const std::vector<float> x = Floats(a, name), y = Floats(b, name);
  EXPECT_EQ(x.size(), y.size()) << name;
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    most = std::max(most, static_cast<double>(std::abs(x[i] - y[i])));
  return most;
}

using Case = std::tuple<const char*, std::int64_t>;  // architecture, ranks
class EveryResampling : public ::testing::TestWithParam<Case> {};

TEST_P(EveryResampling, TrainsAsOnTheCpu) {
  const auto& [architecture, ranks] = GetParam();
  const config::TrialConfig config = ConfigOf(architecture, ranks);
  const auto batches = testing::SparseBatches(config, kWidth, kWidth, kSteps, 11);
  simt::SimtRuntime runtime({});
  const DeviceRun device = testing::RunSharded(runtime, config, kWidth, kWidth, batches);
  const DeviceRun cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
  testing::ExpectSameRun(device, cpu);
  // The same latents take the directions of the same tokens.
  EXPECT_EQ(device.end.tensors.at("tokens_since_fired"), cpu.end.tensors.at("tokens_since_fired"));
  for (const char* name : {"W_enc", "W_dec", "b_enc", "W_dec.adam_m"})
    EXPECT_LT(MostApart(device.end, cpu.end, name), 2e-3) << name;
  config::TrialConfig without = config;
  without.sae.resample = "off";
  const DeviceRun left = testing::RunOnCpu(without, kWidth, kWidth, batches);
  EXPECT_GT(MostApart(left.end, cpu.end, "W_dec"), 0.1) << "nothing was resampled";
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryResampling,
                         ::testing::Combine(::testing::Values("relu_l1", "gated"),
                                            ::testing::Values(1, 4)),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param), "_ranks");
                         });

// What a resampled latent's moments are in other formats than float32.
TEST(DeviceEngineResample, MomentsInFewerBitsStartOverToo) {
  config::TrialConfig config = ConfigOf("relu_l1", 1);
  config.train.moments = "int8";
  auto batches = testing::SparseBatches(config, kWidth, kWidth, kSteps, 11);
  batches.resize(12);  // ends with a resampling
  simt::SimtRuntime runtime({});
  const DeviceRun device = testing::RunOnDevice(runtime, config, kWidth, kWidth, batches);
  const DeviceRun cpu = testing::RunOnCpu(config, kWidth, kWidth, batches);
  const std::vector<float> have = Floats(device.end, "W_dec.adam_v_scale");
  const std::vector<float> want = Floats(cpu.end, "W_dec.adam_v_scale");
  ASSERT_EQ(have.size(), want.size());
  int cleared = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(have[i] == 0, want[i] == 0) << i;
    cleared += want[i] == 0 ? 1 : 0;
  }
  EXPECT_GT(cleared, 0);
}

}  // namespace
}  // namespace sae::train
