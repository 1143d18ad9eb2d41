// The decoder cut by columns on the executor: against the CPU engine, the same bits at 1, 2, 4 and
// 8 ranks, and checkpoints between engines, layouts and numbers of ranks.
#include <atomic>
#include <utility>

#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"
#include "tests/simt/runtime.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 32, kBatch = 20;

struct Variant {
  const char* name;
  const char* architecture;
  void (*change)(config::TrialConfig&);
  std::int64_t d_out = kWidth;
};

config::TrialConfig ConfigOf(const Variant& variant, std::int64_t ranks) {
  config::TrialConfig c = testing::AcceptanceConfig(variant.architecture);
  c.sae.latents = 32;
  c.train.batch = kBatch;
  c.train.tokens = 100 * kBatch;
  if (c.sae.k > 0) c.sae.k = 4;
  if (c.sae.aux_k) c.sae.aux_k = 8;
  c.sae.dead_after_tokens = 2 * kBatch;
  c.ranks = ranks;
  c.train.decoder_layout = "columns";
  variant.change(c);
  return c;
}

std::vector<Variant> Variants() {
  return {{"topk_auxk_clip", "topk", [](auto& c) { c.train.clip = 0.05; }},
          {"topk_fvu_ema", "topk",
           [](auto& c) {
             c.sae.loss = "fvu";
             c.sae.aux_k = 0;
             c.train.ema = 0.9;
           }},
          {"topk_free_clip", "topk",
           [](auto& c) {
             c.sae.decoder = "free";
             c.sae.aux_k = 0;
             c.train.clip = 0.05;
           }},
          {"batchtopk_auxk", "batchtopk", [](auto& c) { c.sae.aux_k = 8; }},
          {"matryoshka_bias_clip", "matryoshka",
           [](auto& c) {
             c.sae.prefixes = "5,24";
             c.sae.prefix_weights = "mean_with_bias";
             c.sae.aux_k = 8;
             c.train.clip = 0.05;
           }},
          {"relu_norms", "relu_l1", [](auto& c) { c.sae.penalty = "l1_norm"; }},
          {"relu_lp_target", "relu_l1",
           [](auto& c) {
             c.sae.penalty = "lp";
             c.sae.target_l0 = 6;
           }},
          {"jumprelu", "jumprelu", [](auto&) {}},
          {"jumprelu_tanh", "jumprelu",
           [](auto& c) {
             c.sae.penalty = "tanh";
             c.sae.bandwidth = 0.02;
           }},
          {"gated_ema", "gated", [](auto& c) { c.train.ema = 0.9; }},
          {"topk_certified", "topk",
           [](auto& c) {
             c.train.selection = "certified";
             c.sae.aux_k = 0;
           }},
          {"transcoder", "topk",
           [](auto& c) {
             c.sae.transcoder = true;
             c.sae.aux_k = 0;
           },
           24}};
}

/// Counts launches of captured steps.
class CountingRuntime : public simt::SimtRuntime {
 public:
  CountingRuntime() : SimtRuntime({}) {}
  absl::Status LaunchGraph(void* graph, void* stream) override {
    ++graphs_;
    return SimtRuntime::LaunchGraph(graph, stream);
  }
  int graphs() const { return graphs_; }

 private:
  std::atomic<int> graphs_{0};
};

class DeviceColumnsRun : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(All, DeviceColumnsRun, ::testing::ValuesIn(Variants()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(DeviceColumnsRun, TrainsAsOnTheCpu) {
  const Variant& variant = GetParam();
  for (const std::int64_t ranks : {1, 2, 4}) {
    SCOPED_TRACE(ranks);
    const config::TrialConfig config = ConfigOf(variant, ranks);
    const auto batches = testing::SparseBatches(config, kWidth, variant.d_out, 5);
    CountingRuntime runtime;
    const auto device = testing::RunSharded(runtime, config, kWidth, variant.d_out, batches);
    EXPECT_GE(runtime.graphs(), ranks);
    const auto cpu = testing::RunOnCpu(config, kWidth, variant.d_out, batches);
    testing::ExpectSameRun(device, cpu);
    testing::ExpectSameEnd(device.end, cpu.end);
    EXPECT_NEAR(device.norm, cpu.norm, 1e-4 * cpu.norm);
    ASSERT_EQ(device.aux.size(), cpu.aux.size());
    for (std::size_t t = 0; t < cpu.aux.size(); ++t)
      EXPECT_NEAR(device.aux[t], cpu.aux[t], 1e-3 * std::abs(cpu.aux[t])) << t;
    EXPECT_EQ(runtime.error(), "");
    EXPECT_EQ(runtime.live_buffers(), 0);
  }
}

struct Ended {
  double loss = 0;
  testing::SavedState state;
};

/// One step after `from`, on a device or on the CPU.
Ended GoOn(const config::TrialConfig& config, std::int64_t d_out, const testing::SavedState& from,
           const std::vector<float>& batch, bool device) {
  Ended out;
  Mutex mutex;
  simt::SimtRuntime runtime({});
  std::vector<testing::StagedRank> staged(static_cast<std::size_t>(config.ranks));
  for (testing::StagedRank& rank : staged) rank.runtime = &runtime;
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(config.ranks), [&](comm::Communicator& ranks) -> absl::Status {
        ThreadPool pool(1);
        const auto create = [&] {
          return device ? testing::CreateStaged(runtime,
                                                staged[static_cast<std::size_t>(ranks.rank())],
                                                config, kWidth, d_out, ranks, pool)
                        : CreateEngine<float>(config, kWidth, d_out, ranks, pool);
        };
        SAE_ASSIGN_OR_RETURN(auto engine, create());
        testing::Restore(from, *engine);
        SAE_RETURN_IF_ERROR(engine->Step(batch));
        SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
        const model::State state = engine->state();  // collective: before the lock
        MutexLock lock(mutex);
        testing::Save(state, &out.state);
        out.loss = metrics.at("train.loss");
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

testing::SavedState After(const config::TrialConfig& config, std::int64_t d_out,
                          std::vector<std::vector<float>> batches) {
  batches.pop_back();
  return testing::RunOnCpu(config, kWidth, d_out, batches).end;
}

class DeviceColumnsBits : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(
    Some, DeviceColumnsBits,
    ::testing::Values(Variant{"topk_auxk", "topk", [](auto&) {}},
                      Variant{"matryoshka", "matryoshka", [](auto& c) { c.sae.prefixes = "5,24"; }},
                      Variant{"relu_norms", "relu_l1", [](auto& c) { c.sae.penalty = "l1_norm"; }},
                      Variant{"gated", "gated", [](auto&) {}}),
    [](const auto& test) { return std::string(test.param.name); });

// One step from the same state, without clipping, whose scale is a sum over latents: what comes
// from the decoder, and the loss but for the penalty's sum.
TEST_P(DeviceColumnsBits, DecoderGradientsAreThoseOfOneRank) {
  const Variant& variant = GetParam();
  const config::TrialConfig config = ConfigOf(variant, 1);
  const auto batches = testing::SparseBatches(config, kWidth, variant.d_out, 5);
  const testing::SavedState start = After(config, variant.d_out, batches);
  const Ended one = GoOn(config, variant.d_out, start, batches.back(), true);
  EXPECT_NE(one.state.tensors.at("W_dec"), start.tensors.at("W_dec"));
  for (const std::int64_t ranks : {2, 4, 8}) {
    SCOPED_TRACE(ranks);
    const Ended many = GoOn(ConfigOf(variant, ranks), variant.d_out, start, batches.back(), true);
    for (const char* name : {"W_dec", "W_dec.adam_m", "W_dec.adam_v", "b_enc", "b_enc.adam_m"})
      EXPECT_TRUE(one.state.tensors.at(name) == many.state.tensors.at(name)) << name;
    EXPECT_NEAR(many.loss, one.loss, 1e-12 * std::abs(one.loss));
  }
}

class DeviceColumnsFixed : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Some, DeviceColumnsFixed,
                         ::testing::Values(Variant{"topk_auxk_clip", "topk",
                                                   [](auto& c) { c.train.clip = 0.05; }},
                                           Variant{"jumprelu", "jumprelu", [](auto&) {}}),
                         [](const auto& test) { return std::string(test.param.name); });

// With sums over latents in blocks too, everything is, over steps.
TEST_P(DeviceColumnsFixed, AnyNumberOfRanksGivesTheSameBits) {
  const auto run = [&](std::int64_t ranks) {
    config::TrialConfig config = ConfigOf(GetParam(), ranks);
    config.train.reduction = "fixed";
    simt::SimtRuntime runtime({});
    auto out = testing::RunSharded(runtime, config, kWidth, kWidth,
                                   testing::SparseBatches(config, kWidth, kWidth, 5));
    EXPECT_EQ(runtime.error(), "");
    return out;
  };
  const testing::DeviceRun one = run(1);
  for (const std::int64_t ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const testing::DeviceRun many = run(ranks);
    testing::ExpectSameBits(one.end, many.end);
    EXPECT_EQ(one.losses, many.losses);
  }
}

class DeviceColumnsState : public ::testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(
    Some, DeviceColumnsState,
    ::testing::Values(Variant{"topk_ema", "topk", [](auto& c) { c.train.ema = 0.9; }},
                      Variant{"relu_norms", "relu_l1", [](auto& c) { c.sae.penalty = "l1_norm"; }}),
    [](const auto& test) { return std::string(test.param.name); });

// A checkpoint is one of either engine, either layout and any number of ranks.
TEST_P(DeviceColumnsState, EitherEngineGoesOnFromTheOther) {
  const Variant& variant = GetParam();
  const config::TrialConfig four = ConfigOf(variant, 4);
  auto batches = testing::SparseBatches(four, kWidth, kWidth, 5);
  const std::vector<float> next = batches.back();
  batches.pop_back();
  simt::SimtRuntime runtime({});
  for (const bool device_first : {false, true}) {
    const testing::SavedState saved =
        device_first ? testing::RunSharded(runtime, four, kWidth, kWidth, batches).end
                     : testing::RunOnCpu(four, kWidth, kWidth, batches).end;
    const Ended cpu = GoOn(four, kWidth, saved, next, false);
    for (const std::int64_t ranks : {1, 2, 4}) {
      for (const char* layout : {"columns", "latents"}) {
        SCOPED_TRACE(::testing::Message() << ranks << " " << layout << " " << device_first);
        config::TrialConfig config = ConfigOf(variant, ranks);
        config.train.decoder_layout = layout;
        const Ended device = GoOn(config, kWidth, saved, next, true);
        EXPECT_NEAR(device.loss, cpu.loss, 1e-5 * cpu.loss);
        testing::ExpectSameEnd(device.state, cpu.state);
      }
    }
  }
}

TEST(DeviceColumnsLimits, WhatIsNotBuiltIsRefusedByName) {
  const Variant variant{"", "topk", [](auto&) {}};
  config::TrialConfig config = config::Resolve(ConfigOf(variant, 2), kWidth);
  EXPECT_TRUE(SupportedOnDevice(config).ok());
  config.train.selection = "bf16";
  const absl::Status status = SupportedOnDevice(config);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(std::string(status.message()).find("columns with train.selection bf16"),
            std::string::npos);
}

}  // namespace
}  // namespace sae::train
