// The whole step of every architecture under the executor.
#include <limits>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"
#include "tests/simt/runtime.h"

namespace sae::train {
namespace {

using testing::RunVariant;

class EveryVariant : public ::testing::TestWithParam<RunVariant> {};

TEST_P(EveryVariant, TrainsAsOnTheCpu) {
  const RunVariant& variant = GetParam();
  const config::TrialConfig config = testing::ConfigOf(variant);
  const auto batches = testing::BatchesOf(config, variant.d_out, 12);
  simt::SimtRuntime runtime({});
  const auto device =
      testing::RunOnDevice(runtime, config, testing::kRunWidth, variant.d_out, batches);
  const auto cpu = testing::RunOnCpu(config, testing::kRunWidth, variant.d_out, batches);
  testing::ExpectSameRun(device, cpu);
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryVariant, ::testing::ValuesIn(testing::AllVariants()),
                         testing::NameOf);

/// Moments in fewer bits: the format of `train.moments`, an architecture.
using Reduced = std::tuple<const char*, const char*>;
class EveryMomentFormat : public ::testing::TestWithParam<Reduced> {};

TEST_P(EveryMomentFormat, TrainsAsOnTheCpu) {
  const auto& [moments, architecture] = GetParam();
  config::TrialConfig config = testing::AcceptanceConfig(architecture);
  config.train.moments = moments;
  testing::SparseData data(80, 32, 4, 13);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < 12; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  simt::SimtRuntime runtime({});
  const auto device = testing::RunOnDevice(runtime, config, 32, 32, batches);
  const auto cpu = testing::RunOnCpu(config, 32, 32, batches);
  testing::ExpectSameRun(device, cpu);
  // Sums differ in last bits, so a few codes fall to the other side.
  for (const std::string name : {"W_enc.adam_m", "W_enc.adam_v", "W_dec.adam_m", "W_dec.adam_v"}) {
    const std::vector<char>& have = device.end.tensors.at(name);
    const std::vector<char>& want = cpu.end.tensors.at(name);
    ASSERT_EQ(have.size(), want.size()) << name;
    std::size_t same = 0;
    for (std::size_t i = 0; i < want.size(); ++i) same += have[i] == want[i];
    EXPECT_GT(static_cast<double>(same), 0.9 * static_cast<double>(want.size())) << name;
  }
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryMomentFormat,
                         ::testing::Combine(::testing::Values("bf16", "int8"),
                                            ::testing::Values("topk", "jumprelu")),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param));
                         });

// All pre-activations of a batch are equal: more ties at the cut than there is room for at first.
TEST(DeviceEngineTies, ManyAtTheCutOfABatch) {
  config::TrialConfig config = testing::AcceptanceConfig("batchtopk");
  config.sae.aux_k = 0;
  const auto batch = std::vector<float>(static_cast<std::size_t>(config.train.batch * 32), 0.5F);
  simt::SimtRuntime runtime({});
  const auto equal = [](auto&& create) {
    return [create](const auto& c, std::int64_t in, std::int64_t out, auto& ranks,
                    auto& pool) -> absl::StatusOr<std::unique_ptr<Engine<float>>> {
      SAE_ASSIGN_OR_RETURN(std::unique_ptr<Engine<float>> engine, create(c, in, out, ranks, pool));
      SAE_RETURN_IF_ERROR(engine->Initialise(testing::SparseData(80, 32, 4, 21).Rows(64, 4)));
      for (const model::StateTensor& t : engine->state().tensors) {
        auto* const values = static_cast<float*>(t.data);
        if (t.name == "W_enc") std::fill_n(values, 256 * 32, 0.25F);
        if (t.name == "b_dec") std::fill_n(values, 32, 0.0F);
      }
      SAE_RETURN_IF_ERROR(engine->StateLoaded());
      return engine;
    };
  };
  const auto on_device =
      equal([&](const auto& c, std::int64_t in, std::int64_t out, auto& ranks, auto& pool) {
        DeviceParts parts;
        parts.runtime = &runtime;
        return DeviceEngine::Create(c, in, out, ranks, pool, parts);
      });
  const auto on_cpu =
      equal([](const auto& c, std::int64_t in, std::int64_t out, auto& ranks, auto& pool) {
        return CreateEngine<float>(c, in, out, ranks, pool);
      });
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  ThreadPool pool(1);
  auto device = on_device(config, 32, 32, *self, pool);
  auto cpu = on_cpu(config, 32, 32, *self, pool);
  ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
  const absl::Status stepped = (*device)->Step(batch);
  ASSERT_TRUE(stepped.ok()) << stepped;
  ASSERT_TRUE((*cpu)->Step(batch).ok());
  const auto selected = (*device)->LastSelection().value();
  EXPECT_EQ(selected, (*cpu)->LastSelection().value());
  EXPECT_EQ(selected[0].size(), 256U);  // the first tokens win every tie
  EXPECT_EQ(selected[63].size(), 0U);
}

TEST(DeviceEngineLimits, WideSelectionsAreRefusedBeforeAStep) {
  config::TrialConfig config = testing::AcceptanceConfig("topk");
  config.sae.latents = 8192;
  config.sae.aux_k = 8000;
  EXPECT_EQ(SupportedOnDevice(config::Resolve(config, 32)).code(),
            absl::StatusCode::kUnimplemented);
  config.sae.aux_k = 0;
  EXPECT_TRUE(SupportedOnDevice(config::Resolve(config, 32)).ok());
  config.sae.k = 5000;
  EXPECT_EQ(SupportedOnDevice(config::Resolve(config, 32)).code(),
            absl::StatusCode::kUnimplemented);
}

// A checkpoint of either engine is one of the other.
TEST(DeviceEngineState, EitherEngineGoesOnFromTheOther) {
  for (const char* architecture : {"topk", "batchtopk", "jumprelu"}) {
    config::TrialConfig config = testing::AcceptanceConfig(architecture);
    if (config.sae.architecture == "jumprelu") config.sae.target_l0 = 12;
    testing::SparseData data(80, 32, 4, 21);
    std::vector<std::vector<float>> batches;
    for (int t = 0; t < 5; ++t) batches.push_back(data.Rows(config.train.batch, 4));
    simt::SimtRuntime runtime({});
    const auto saved = testing::RunOnDevice(runtime, config, 32, 32, batches).end;
    const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
    ThreadPool pool(1);
    DeviceParts parts;
    parts.runtime = &runtime;
    auto device = DeviceEngine::Create(config, 32, 32, *self, pool, parts);
    auto cpu = CreateEngine<float>(config, 32, *self, pool);
    ASSERT_TRUE(device.ok() && cpu.ok()) << device.status() << cpu.status();
    double losses[2] = {0, 1};
    testing::SavedState ends[2];
    int at = 0;
    for (Engine<float>* engine : {device->get(), cpu->get()}) {
      testing::Restore(saved, *engine);
      EXPECT_EQ(engine->step(), 5);
      ASSERT_TRUE(engine->Step(batches[2]).ok());
      losses[at] = engine->LastMetrics()->at("train.loss");
      testing::Save(engine->state(), &ends[at++]);
    }
    EXPECT_NEAR(losses[0], losses[1], 1e-5 * losses[1]) << architecture;
    EXPECT_EQ(ends[0].integers.at("step"), 6);
    EXPECT_EQ(ends[0].tensors.at("tokens_since_fired"), ends[1].tensors.at("tokens_since_fired"));
    for (const auto& [name, value] : ends[1].doubles)
      EXPECT_NEAR(ends[0].doubles.at(name), value, 1e-4 * (1 + std::abs(value))) << name;
  }
}

/// One rank's engine on the executor.
struct Alone {
  simt::SimtRuntime runtime{{}};
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  ThreadPool pool{1};
  DeviceParts parts{.runtime = &runtime};
  absl::StatusOr<std::unique_ptr<Engine<float>>> engine;
  explicit Alone(const config::TrialConfig& config)
      : engine(DeviceEngine::Create(config, 32, 32, *self, pool, parts)) {}
};

/// Steps one after the other, settled after each or left to the device.
testing::SavedState EndOf(const config::TrialConfig& config,
                          const std::vector<std::vector<float>>& batches, bool settle) {
  const Alone alone(config);
  const auto& engine = alone.engine;
  testing::SavedState end;
  EXPECT_TRUE(engine.ok() && (*engine)->Initialise(batches[0]).ok());
  for (std::size_t t = 0; t < batches.size(); ++t) {
    std::vector<float> rows = batches[t];
    EXPECT_TRUE((*engine)->Step(rows).ok());
    std::fill(rows.begin(), rows.end(), -1.0F);  // they are the caller's again
    EXPECT_EQ((*engine)->step(), static_cast<std::int64_t>(t) + 1);
    EXPECT_EQ((*engine)->tokens(), (static_cast<std::int64_t>(t) + 1) * config.train.batch);
    if (settle) {
      EXPECT_TRUE((*engine)->Settle().ok());
    }
  }
  testing::Save((*engine)->state(), &end);
  return end;
}

// Buffers grow on the way: steps are repeated with the next batch already there.
TEST(DeviceEngineSteps, AreTheSameWhetherAnyoneWaitsForThem) {
  for (const char* architecture : {"topk", "batchtopk"}) {
    config::TrialConfig config = testing::AcceptanceConfig(architecture);
    testing::SparseData data(80, 32, 4, 29);
    std::vector<std::vector<float>> batches;
    for (int t = 0; t < 12; ++t) batches.push_back(data.Rows(config.train.batch, 4));
    const testing::SavedState waited = EndOf(config, batches, true);
    const testing::SavedState left = EndOf(config, batches, false);
    EXPECT_EQ(left.tensors, waited.tensors) << architecture;
    EXPECT_EQ(left.integers, waited.integers) << architecture;
    EXPECT_EQ(left.doubles, waited.doubles) << architecture;
  }
}

TEST(DeviceEngineSteps, TheNextCallSaysWhatWentWrongInOne) {
  const config::TrialConfig config = testing::AcceptanceConfig("topk");
  std::vector<float> rows = testing::SparseData(80, 32, 4, 31).Rows(config.train.batch, 4);
  const Alone alone(config);
  const auto& engine = alone.engine;
  ASSERT_TRUE(engine.ok() && (*engine)->Initialise(rows).ok());
  ASSERT_TRUE((*engine)->Step(rows).ok());
  std::vector<float> broken = rows;
  broken[7] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_TRUE((*engine)->Step(broken).ok());
  const absl::Status status = (*engine)->Step(rows);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("step 1: the loss is nan"), absl::string_view::npos) << status;
  EXPECT_EQ((*engine)->step(), 1);
}

class EveryShard : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryShard, TrainsAsOnTheCpu) {
  for (const std::int64_t ranks : {2, 4}) {
    config::TrialConfig config = testing::AcceptanceConfig(GetParam());
    config.ranks = ranks;
    testing::SparseData data(80, 32, 4, 11);
    std::vector<std::vector<float>> batches;
    for (int t = 0; t < 6; ++t) batches.push_back(data.Rows(config.train.batch, 4));
    simt::SimtRuntime runtime({});
    testing::ExpectSameRun(testing::RunSharded(runtime, config, 32, 32, batches),
                           testing::RunOnCpu(config, 32, 32, batches));
  }
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryShard,
                         ::testing::Values("relu_l1", "topk", "batchtopk", "matryoshka", "gated",
                                           "jumprelu"),
                         [](const auto& test) { return std::string(test.param); });

class EveryArchitecture : public ::testing::TestWithParam<const char*> {};

// The executor is ten times slower with sanitizers: they see twelve steps.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kSteps = 12;
#else
constexpr int kSteps = 100;
#endif

TEST_P(EveryArchitecture, StaysWithTheCpuForAHundredSteps) {
  const config::TrialConfig config = testing::AcceptanceConfig(GetParam());
  testing::SparseData data(80, 32, 4, 9);
  std::vector<std::vector<float>> batches;
  for (int t = 0; t < kSteps; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  simt::SimtRuntime runtime({});
  const auto device = testing::RunOnDevice(runtime, config, 32, 32, batches);
  const auto cpu = testing::RunOnCpu(config, 32, 32, batches);
  testing::ExpectSameRun(device, cpu);
}

INSTANTIATE_TEST_SUITE_P(DeviceEngine, EveryArchitecture,
                         ::testing::Values("relu_l1", "topk", "batchtopk", "matryoshka", "gated",
                                           "jumprelu"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace sae::train
