// Replicas x latent shards on the executor against the CPU engine at the same mesh.
#include <utility>

#include <gtest/gtest.h>

#include "sae/config/mesh.h"
#include "sae/train/device/device_engine_simt_testing.h"
#include "tests/simt/runtime.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 16;

struct MeshShape {
  std::int64_t replicas, shards;
};
constexpr MeshShape kMeshes[] = {{2, 1}, {2, 2}, {4, 1}};

struct Variant {
  const char* name;
  const char* architecture;
  void (*change)(config::TrialConfig&);
  std::int64_t d_out = kWidth;
};

config::TrialConfig ConfigOf(const Variant& variant, MeshShape mesh) {
  config::TrialConfig c = testing::AcceptanceConfig(variant.architecture);
  c.sae.latents = 64;
  c.train.batch = 32;
  c.train.tokens = 100 * 32;
  if (c.sae.k > 0) c.sae.k = 4;
  if (c.sae.aux_k) c.sae.aux_k = 8;
  c.sae.dead_after_tokens = 2 * 32;
  c.ranks = mesh.replicas * mesh.shards;
  c.train.replicas = mesh.replicas;
  variant.change(c);
  return c;
}

class DeviceReplicas : public ::testing::TestWithParam<Variant> {};

TEST_P(DeviceReplicas, TrainAsOnTheCpu) {
  const Variant& variant = GetParam();
  for (const MeshShape mesh : kMeshes) {
    SCOPED_TRACE(::testing::Message() << mesh.replicas << " x " << mesh.shards);
    const config::TrialConfig config = ConfigOf(variant, mesh);
    const auto batches = testing::SparseBatches(config, kWidth, variant.d_out, 7);
    simt::SimtRuntime runtime({});
    const auto device = testing::RunSharded(runtime, config, kWidth, variant.d_out, batches);
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

INSTANTIATE_TEST_SUITE_P(
    All, DeviceReplicas,
    ::testing::Values(Variant{"topk_auxk_clip", "topk", [](auto& c) { c.train.clip = 0.05; }},
                      Variant{"batchtopk_auxk", "batchtopk", [](auto& c) { c.sae.aux_k = 8; }},
                      Variant{"relu_target_l0_norms", "relu_l1",
                              [](auto& c) { c.sae.target_l0 = 6; }},
                      Variant{"jumprelu_clip", "jumprelu", [](auto& c) { c.train.clip = 0.05; }},
                      Variant{"gated_ema", "gated", [](auto& c) { c.train.ema = 0.9; }}),
    [](const auto& test) { return std::string(test.param.name); });

class DeviceReplicasOptions : public ::testing::TestWithParam<Variant> {};

TEST_P(DeviceReplicasOptions, TrainAsOnTheCpu) {
  const Variant& variant = GetParam();
  const config::TrialConfig config = ConfigOf(variant, {2, 1});
  const auto batches = testing::SparseBatches(config, kWidth, variant.d_out, 5);
  simt::SimtRuntime runtime({});
  const auto device = testing::RunSharded(runtime, config, kWidth, variant.d_out, batches);
  const auto cpu = testing::RunOnCpu(config, kWidth, variant.d_out, batches);
  testing::ExpectSameRun(device, cpu);
  testing::ExpectSameEnd(device.end, cpu.end);
  EXPECT_EQ(runtime.error(), "");
}

INSTANTIATE_TEST_SUITE_P(All, DeviceReplicasOptions,
                         ::testing::Values(Variant{"jumprelu_quadratic", "jumprelu",
                                                   [](auto& c) {
                                                     c.sae.penalty = "l0_quadratic";
                                                     c.sae.target_l0 = 8;
                                                   }},
                                           Variant{"jumprelu_tanh", "jumprelu",
                                                   [](auto& c) {
                                                     c.sae.penalty = "tanh";
                                                     c.sae.bandwidth = 0.02;
                                                   }},
                                           Variant{"relu_lp", "relu_l1",
                                                   [](auto& c) { c.sae.penalty = "lp"; }},
                                           Variant{"topk_fvu_multi", "topk",
                                                   [](auto& c) {
                                                     c.sae.loss = "fvu";
                                                     c.sae.multi_topk = true;
                                                   }},
                                           Variant{"topk_lazy", "topk",
                                                   [](auto& c) {
                                                     c.train.beta1 = 0;
                                                     c.train.rows = "lazy";
                                                   }},
                                           Variant{"relu_resample", "relu_l1",
                                                   [](auto& c) {
                                                     c.train.tokens = 32 * c.train.batch;
                                                     c.sae.resample = "on";
                                                     c.sae.l1_coefficient = 3;
                                                     c.train.lr = 3e-2;
                                                   }},
                                           Variant{"matryoshka_bias", "matryoshka",
                                                   [](auto& c) {
                                                     c.sae.loss = "fvu";
                                                     c.sae.prefixes = "5,24";
                                                     c.sae.prefix_weights = "mean_with_bias";
                                                   }},
                                           Variant{"topk_on_the_fly", "topk",
                                                   [](auto& c) { c.sae.decoder = "on_the_fly"; }},
                                           Variant{"skip_transcoder", "topk",
                                                   [](auto& c) {
                                                     c.sae.transcoder = true;
                                                     c.sae.skip = true;
                                                   },
                                                   9}),
                         [](const auto& test) { return std::string(test.param.name); });

/// What an engine made by `create` gives after `from` and one step more, on every rank.
template <class Create>
std::pair<double, testing::SavedState> GoOn(const config::TrialConfig& config,
                                            const testing::SavedState& from,
                                            const std::vector<float>& batch, const Create& create) {
  std::pair<double, testing::SavedState> out;
  Mutex mutex;
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(config.ranks), [&](comm::Communicator& ranks) -> absl::Status {
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(auto engine, create(config, ranks, pool));
        testing::Restore(from, *engine);
        EXPECT_EQ(engine->step(), 4);
        SAE_RETURN_IF_ERROR(engine->Step(batch));
        SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
        MutexLock lock(mutex);
        testing::Save(engine->state(), &out.second);
        out.first = metrics.at("train.loss");
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

// A checkpoint is one of any mesh and of either engine.
TEST(DeviceReplicasState, EitherEngineGoesOnFromTheOther) {
  const Variant variant{"", "topk", [](auto& c) { c.train.clip = 0.05; }};
  const config::TrialConfig config = ConfigOf(variant, {2, 2});
  auto batches = testing::SparseBatches(config, kWidth, kWidth, 5);
  const std::vector<float> next = batches.back();
  batches.pop_back();
  simt::SimtRuntime runtime({});
  const auto on_cpu = [&](const auto& c, auto& ranks, auto& pool) {
    return CreateEngine<float>(c, kWidth, ranks, pool);
  };
  std::vector<testing::StagedRank> staged(4);
  for (testing::StagedRank& rank : staged) rank.runtime = &runtime;
  const auto on_device = [&](const auto& c, auto& ranks, auto& pool) {
    return testing::CreateStaged(runtime, staged[static_cast<std::size_t>(ranks.rank())], c, kWidth,
                                 kWidth, ranks, pool);
  };
  for (const bool device_first : {false, true}) {
    const auto saved = device_first
                           ? testing::RunSharded(runtime, config, kWidth, kWidth, batches).end
                           : testing::RunOnCpu(config, kWidth, kWidth, batches).end;
    const auto cpu = GoOn(config, saved, next, on_cpu);
    const auto device = GoOn(config, saved, next, on_device);
    EXPECT_NEAR(device.first, cpu.first, 1e-5 * cpu.first);
    testing::ExpectSameEnd(device.second, cpu.second);
    const auto one = GoOn(ConfigOf(variant, {1, 1}), saved, next, on_cpu);
    EXPECT_NEAR(device.first, one.first, 1e-5 * one.first);
  }
}

// Parts alone, and evaluations of fewer rows than replicas, before the first step too.
TEST(DeviceReplicasParts, AReplicaNeedsOnlyItsRows) {
  const Variant variant{"", "batchtopk", [](auto&) {}};
  const config::TrialConfig config = ConfigOf(variant, {4, 1});
  const auto batches = testing::SparseBatches(config, kWidth, kWidth, 3);
  simt::SimtRuntime runtime({});
  std::vector<testing::StagedRank> staged(4);
  for (testing::StagedRank& rank : staged) rank.runtime = &runtime;
  std::map<std::string, double> values[2];
  for (const bool device : {false, true}) {
    const absl::Status status =
        comm::RunInProcess(4, [&](comm::Communicator& ranks) -> absl::Status {
          ThreadPool pool(1);
          const auto create = [&] {
            return device ? testing::CreateStaged(runtime,
                                                  staged[static_cast<std::size_t>(ranks.rank())],
                                                  config, kWidth, kWidth, ranks, pool)
                          : CreateEngine<float>(config, kWidth, ranks, pool);
          };
          SAE_ASSIGN_OR_RETURN(auto engine, create());
          EXPECT_EQ(engine->replicas(), 4);
          EXPECT_EQ(engine->replica(), ranks.rank());
          SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
          std::map<std::string, double> own;
          const auto evaluate = [&](const std::string& prefix, std::size_t rows) -> absl::Status {
            engine->BeginEvaluation(std::vector<float>(kWidth, 0.4F));
            SAE_RETURN_IF_ERROR(engine->EvaluateBatch(std::span(batches[1]).first(rows * kWidth)));
            SAE_ASSIGN_OR_RETURN(const auto held, engine->FinishEvaluation());
            for (const auto& [name, value] : held) own[prefix + name] = value;
            return absl::OkStatus();
          };
          SAE_RETURN_IF_ERROR(evaluate("before.", 7));
          SAE_RETURN_IF_ERROR(evaluate("few.", 2));
          for (const auto& batch : batches) {
            const std::size_t part = batch.size() / 4;
            SAE_RETURN_IF_ERROR(engine->Step(std::span<const float>(batch).subspan(
                part * static_cast<std::size_t>(ranks.rank()), part)));
          }
          SAE_RETURN_IF_ERROR(evaluate("seven.", 7));
          SAE_RETURN_IF_ERROR(evaluate("one.", 1));
          if (ranks.rank() == 0) values[device ? 1 : 0] = own;
          return absl::OkStatus();
        });
    ASSERT_TRUE(status.ok()) << status;
  }
  ASSERT_EQ(values[0].size(), 32U);
  for (const auto& [name, value] : values[0]) {
    if (!std::isfinite(value)) continue;
    EXPECT_NEAR(values[1].at(name), value, 1e-3 * std::max(0.1, std::abs(value))) << name;
  }
}

TEST(DeviceReplicasLimits, WhatLooksAtEachReplicasTokensIsRefused) {
  const Variant variant{"", "jumprelu", [](auto& c) { c.sae.frequency_coefficient = 0.3; }};
  config::TrialConfig config = config::Resolve(ConfigOf(variant, {2, 1}), kWidth);
  const absl::Status status = SupportedOnDevice(config);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(std::string(status.message()).find("frequency_coefficient"), std::string::npos);
  config.train.replicas.reset();
  config::ResolveReplicasOnDevice(&config);
  EXPECT_EQ(config.train.replicas, 1);
  EXPECT_TRUE(SupportedOnDevice(config).ok());
}

}  // namespace
}  // namespace sae::train
