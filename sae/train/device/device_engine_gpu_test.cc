// The whole step of every architecture on a GPU, against the CPU engine.
#include <gtest/gtest.h>

#include "sae/kernels/cuda_runtime.h"
#include "sae/train/device/device_engine_penalty_testing.h"

namespace sae::train {
namespace {

std::unique_ptr<DeviceRuntime> Gpu() {
  auto runtime = kernels::CreateCudaRuntime(0);
  return runtime.ok() ? *std::move(runtime) : nullptr;
}

void ExpectRunOfTheCpu(DeviceRuntime& runtime, const config::TrialConfig& config, int steps = 20) {
  testing::SparseData data(80, 32, 4, 9);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < steps; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  testing::ExpectSameRun(testing::RunOnDevice(runtime, config, 32, 32, batches),
                         testing::RunOnCpu(config, 32, 32, batches));
}

class OnGpu : public ::testing::TestWithParam<const char*> {};

TEST_P(OnGpu, StaysWithTheCpuForAHundredSteps) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  ExpectRunOfTheCpu(*runtime, testing::AcceptanceConfig(GetParam()), 100);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, OnGpu,
                         ::testing::Values("relu_l1", "topk", "batchtopk", "matryoshka", "gated",
                                           "jumprelu"),
                         [](const auto& test) { return std::string(test.param); });

// Selected by the same definition as on the CPU: no tolerance in the first step.
TEST(OnGpuCertified, SelectsAsTheCpu) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  config::TrialConfig config = testing::AcceptanceConfig("topk");
  config.train.selection = "certified";
  testing::SparseData data(80, 32, 4, 9);
  const std::vector<std::vector<float>> batches = {data.Rows(config.train.batch, 4)};
  EXPECT_EQ(testing::RunOnDevice(*runtime, config, 32, 32, batches).first,
            testing::RunOnCpu(config, 32, 32, batches).first);
}

class FixedReductionOnGpu : public ::testing::TestWithParam<const char*> {};

TEST_P(FixedReductionOnGpu, StaysWithTheCpu) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  config::TrialConfig config = testing::AcceptanceConfig(GetParam());
  config.train.reduction = "fixed";
  config.train.clip = 0.2;
  ExpectRunOfTheCpu(*runtime, config);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, FixedReductionOnGpu,
                         ::testing::Values("topk", "matryoshka", "gated"),
                         [](const auto& test) { return std::string(test.param); });

class ColumnsOnGpu : public ::testing::TestWithParam<const char*> {};

TEST_P(ColumnsOnGpu, StayWithTheCpu) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  config::TrialConfig config = testing::AcceptanceConfig(GetParam());
  config.train.decoder_layout = "columns";
  config.train.clip = 0.2;
  ExpectRunOfTheCpu(*runtime, config);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, ColumnsOnGpu,
                         ::testing::Values("topk", "matryoshka", "gated", "relu_l1"),
                         [](const auto& test) { return std::string(test.param); });

class PenaltiesOnGpu : public ::testing::TestWithParam<const char*> {};

TEST_P(PenaltiesOnGpu, TrainAsOnTheCpu) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  const config::TrialConfig config = testing::PenaltyConfig(GetParam());
  const auto batches = testing::PenaltyBatches(config, 9);
  constexpr std::int64_t kWidth = testing::kPenaltyWidth;
  testing::ExpectSameRun(testing::RunOnDevice(*runtime, config, kWidth, kWidth, batches),
                         testing::RunOnCpu(config, kWidth, kWidth, batches));
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, PenaltiesOnGpu, ::testing::ValuesIn(testing::PenaltyNames()),
                         [](const auto& test) { return std::string(test.param); });

class VariantsOnGpu : public ::testing::TestWithParam<testing::RunVariant> {};

// Options that change what a step does, of engine_testing_runs.h.
std::vector<testing::RunVariant> Variants() {
  std::vector<testing::RunVariant> out;
  const std::set<std::string> names = {
      "relu_resample", "gated_clip_resample", "skip_transcoder_topk", "topk_multi",
      "topk_lazy",     "topk_deferred",       "jumprelu_raw_lazy"};
  for (const testing::RunVariant& variant : testing::AllVariants()) {
    if (names.contains(variant.name)) out.push_back(variant);
  }
  return out;
}

TEST_P(VariantsOnGpu, TrainAsOnTheCpu) {
  const std::unique_ptr<DeviceRuntime> runtime = Gpu();
  if (runtime == nullptr) GTEST_SKIP() << "no CUDA device";
  const testing::RunVariant& variant = GetParam();
  const config::TrialConfig config = testing::ConfigOf(variant);
  const auto batches = testing::BatchesOf(config, variant.d_out, 13);  // resampled after twelve
  constexpr std::int64_t kWidth = testing::kRunWidth;
  testing::ExpectSameRun(testing::RunOnDevice(*runtime, config, kWidth, variant.d_out, batches),
                         testing::RunOnCpu(config, kWidth, variant.d_out, batches));
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, VariantsOnGpu, ::testing::ValuesIn(Variants()),
                         testing::NameOf);

}  // namespace
}  // namespace sae::train
