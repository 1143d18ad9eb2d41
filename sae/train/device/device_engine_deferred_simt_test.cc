// Deferred decoder rows on a device: the run of dense rows there to 1e-6 and that of the CPU
// engine, over windows that end, in captured steps, on several ranks, through resampling,
// evaluations and checkpoints of rows that lag.
#include <algorithm>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

using testing::DeviceRun;
using testing::SavedState;

constexpr std::int64_t kWidth = 16;
constexpr int kSteps = 12;
constexpr std::int64_t kWindow = 5;  // of most runs: three windows

// Few entries a step, so that most decoder rows rest.
config::TrialConfig ConfigOf(const std::string& name, std::int64_t ranks) {
  const bool ranked = name != "jumprelu" && name != "resampled";
  config::TrialConfig c = testing::AcceptanceConfig(ranked                ? "topk"
                                                    : name == "resampled" ? "relu_l1"
                                                                          : name);
  c.ranks = ranks;
  c.train.batch = 8;
  c.train.tokens = static_cast<double>(32 * c.train.batch);
  c.train.rows = "deferred";
  c.sae.dead_after_tokens = 2 * c.train.batch;
  if (ranked) {
    c.sae.k = 4;
    c.sae.aux_k = name == "topk" || name == "fixed" ? 4 : 0;
  }
  if (name == "batchtopk") c.sae.architecture = "batchtopk";
  if (name == "multi") c.sae.multi_topk = true;
  if (name == "free") c.sae.decoder = "free";
  if (name == "fixed") c.train.reduction = "fixed";
  if (name == "matryoshka") {
    c.sae.architecture = "matryoshka";
    c.sae.prefixes = "64,256";
  }
  if (name == "resampled") {  // after step 4
    c.sae.resample = "on";
    c.sae.l1_coefficient = 3;
    c.train.lr = 3e-2;
  }
  return c;
}

DeviceRun RunOn(simt::SimtRuntime& runtime, const config::TrialConfig& config,
                std::int64_t window) {
  std::vector<testing::StagedRank> staged(static_cast<std::size_t>(config.ranks));
  for (testing::StagedRank& rank : staged) {
    rank.runtime = &runtime;
    rank.deferred_window = window;
  }
  return testing::RunSteps(
      config, kWidth, kWidth, testing::SparseBatches(config, kWidth, kWidth, kSteps),
      [&](const auto& c, std::int64_t d, std::int64_t d_out, auto& ranks, auto& pool) {
        if (ranks.size() > 1) {
          return testing::CreateStaged(runtime, staged[static_cast<std::size_t>(ranks.rank())], c,
                                       d, d_out, ranks, pool);
        }
        DeviceParts parts;
        parts.runtime = &runtime;
        parts.deferred_window = window;
        return DeviceEngine::Create(c, d, d_out, ranks, pool, parts);
      });
}

std::vector<float> FloatsOf(const std::vector<char>& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// Every tensor within `tolerance` of its largest value.
void ExpectNear(const SavedState& actual, const SavedState& expected, double tolerance) {
  EXPECT_EQ(actual.integers, expected.integers);
  for (const auto& [name, bytes] : expected.tensors) {
    if (name == "tokens_since_fired") {
      EXPECT_EQ(actual.tensors.at(name), bytes);
      continue;
    }
    const std::vector<float> want = FloatsOf(bytes), have = FloatsOf(actual.tensors.at(name));
    ASSERT_EQ(have.size(), want.size()) << name;
    float largest = 0;
    for (const float value : want) largest = std::max(largest, std::abs(value));
    const double bound = tolerance * static_cast<double>(largest);
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(have[i], want[i], bound) << name << " " << i;
  }
}

/// Latents that have not fired for the last `steps` steps.
std::int64_t Silent(const SavedState& state, std::int64_t steps, std::int64_t batch) {
  const std::vector<char>& bytes = state.tensors.at("tokens_since_fired");
  std::vector<std::int64_t> since(bytes.size() / 8);
  std::memcpy(since.data(), bytes.data(), bytes.size());
  return std::count_if(since.begin(), since.end(),
                       [&](std::int64_t tokens) { return tokens >= steps * batch; });
}

using DeferredRun = std::tuple<const char*, std::int64_t>;  // ConfigOf's name, ranks
class EveryDeferredRun : public ::testing::TestWithParam<DeferredRun> {};

TEST_P(EveryDeferredRun, IsThatOfDenseRowsAndOfTheCpuEngine) {
  const auto& [name, ranks] = GetParam();
  config::TrialConfig config = ConfigOf(name, ranks);
  simt::SimtRuntime runtime({});
  const DeviceRun deferred = RunOn(runtime, config, kWindow);
  const DeviceRun cpu = testing::RunOnCpu(config, kWidth, kWidth,
                                          testing::SparseBatches(config, kWidth, kWidth, kSteps));
  testing::ExpectSameRun(deferred, cpu);
  // Most rest for long, or some rested in the last step: else this shows nothing.
  const bool few = config.sae.k > 0;
  EXPECT_GT(Silent(deferred.end, few ? 6 : 1, config.train.batch), few ? 20 : 2);
  config.train.rows = "dense";
  const DeviceRun dense = RunOn(runtime, config, kWindow);
  ExpectNear(deferred.end, dense.end, 1e-6);
  ASSERT_EQ(deferred.losses.size(), dense.losses.size());
  for (std::size_t t = 0; t < dense.losses.size(); ++t)
    EXPECT_NEAR(deferred.losses[t], dense.losses[t], 1e-6 * std::abs(dense.losses[t])) << t;
  for (const auto& [metric, value] : dense.heldout)
    EXPECT_NEAR(deferred.heldout.at(metric), value, 1e-6 * std::max(1.0, std::abs(value)));
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryDeferredRun,
                         ::testing::Values(DeferredRun{"topk", 1}, DeferredRun{"topk", 2},
                                           DeferredRun{"free", 1}, DeferredRun{"multi", 1},
                                           DeferredRun{"batchtopk", 2},
                                           DeferredRun{"matryoshka", 1}, DeferredRun{"jumprelu", 2},
                                           DeferredRun{"fixed", 1}, DeferredRun{"resampled", 2}),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param));
                         });

TEST(DeviceEngineDeferred, WindowsChangeNoBits) {
  const config::TrialConfig config = ConfigOf("topk", 1);
  simt::SimtRuntime runtime({});
  const DeviceRun one = RunOn(runtime, config, DeviceParts().deferred_window);
  for (const std::int64_t window : {1, 5}) {
    const DeviceRun other = RunOn(runtime, config, window);
    EXPECT_EQ(other.losses, one.losses);
    EXPECT_EQ(other.end.tensors, one.end.tensors);
  }
}

/// One engine of each kind for the same run.
class DeferredEngines : public ::testing::Test {
 protected:
  DeferredEngines()
      : config_(ConfigOf("topk", 1)),
        batches_(testing::SparseBatches(config_, kWidth, kWidth, kSteps)) {}
  ~DeferredEngines() override { device_.reset(); }
  void SetUp() override {
    DeviceParts parts;
    parts.runtime = &runtime_;
    parts.deferred_window = kWindow;
    auto device = DeviceEngine::Create(config_, kWidth, kWidth, *self_, pool_, parts);
    auto cpu = CreateEngine<float>(config_, kWidth, *self_, pool_);
    ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
    device_ = *std::move(device);
    cpu_ = *std::move(cpu);
  }
  void Steps(Engine<float>& engine, std::size_t from, std::size_t to) {
    for (std::size_t t = from; t < to; ++t) {
      const absl::Status status = engine.Step(batches_[t]);
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  static SavedState StateOf(Engine<float>& engine) {
    SavedState out;
    testing::Save(engine.state(), &out);
    return out;
  }
  const config::TrialConfig config_;
  const std::vector<std::vector<float>> batches_;
  simt::SimtRuntime runtime_{{}};
  const std::unique_ptr<comm::Communicator> self_ = comm::CreateSelf();
  ThreadPool pool_{1};
  std::unique_ptr<Engine<float>> device_, cpu_;
};

// Rows that lag catch up for whoever looks, in two parts then: the same operations.
TEST_F(DeferredEngines, StatesAndEvaluationsOnTheWayChangeNothing) {
  const SavedState through = RunOn(runtime_, config_, kWindow).end;
  ASSERT_TRUE(device_->Initialise(batches_[0]).ok());
  Steps(*device_, 0, 4);
  (void)StateOf(*device_);
  Steps(*device_, 4, 8);
  device_->BeginEvaluation(std::vector<float>(static_cast<std::size_t>(kWidth), 0.4F));
  ASSERT_TRUE(device_->EvaluateBatch(batches_[0]).ok());
  ASSERT_TRUE(device_->FinishEvaluation().ok());
  Steps(*device_, 8, kSteps);
  EXPECT_EQ(StateOf(*device_).tensors, through.tensors);
}

TEST_F(DeferredEngines, CheckpointsGoBothWays) {
  const SavedState through = RunOn(runtime_, config_, kWindow).end;
  ASSERT_TRUE(device_->Initialise(batches_[0]).ok());
  Steps(*device_, 0, 7);  // within a window
  const SavedState half = StateOf(*device_);
  EXPECT_GT(Silent(half, 5, config_.train.batch), 20);
  // On, in either engine, and the device's steps are those without the break.
  for (Engine<float>* engine : {device_.get(), cpu_.get()}) {
    testing::Restore(half, *engine);
    EXPECT_EQ(engine->step(), 7);
    Steps(*engine, 7, kSteps);
  }
  EXPECT_EQ(StateOf(*device_).tensors, through.tensors);
  const SavedState from_device = StateOf(*cpu_);
  ExpectNear(from_device, through, 1e-4);
  // What the CPU engine has saved, the device takes up.
  testing::Restore(half, *cpu_);
  Steps(*cpu_, 7, 10);
  const SavedState later = StateOf(*cpu_);
  testing::Restore(later, *device_);
  EXPECT_EQ(StateOf(*device_).tensors, later.tensors);
  Steps(*device_, 10, kSteps);
  ExpectNear(StateOf(*device_), from_device, 1e-4);
}

TEST_F(DeferredEngines, RowsWiderThanABlockHoldsAreRefusedWithTheRemedy) {
  config::TrialConfig config = config_;
  config.sae.latents = 16;
  constexpr std::int64_t kWide = kernels::device::kMostDeferredWidth + 8;
  DeviceParts parts;
  parts.runtime = &runtime_;
  const auto engine = DeviceEngine::Create(config, kWide, kWide, *self_, pool_, parts);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(std::string(engine.status().message())
                .find("train.rows: deferred is not built for devices with rows of 8200 values: "
                      "use at most 8192, or rows dense, or train on CPUs"),
            std::string::npos)
      << engine.status();
}

}  // namespace
}  // namespace sae::train
