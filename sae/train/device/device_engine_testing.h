#pragma once
// The device engine against the CPU engine, on any DeviceRuntime: run by the executor in CI and by
// a GPU where there is one.

#include <cmath>
#include <cstring>
#include <memory>

#include "sae/train/device/device_engine.h"
#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train::testing {

/// One small SAE of an architecture as the acceptance of the device step has it: n = 256, d = 32,
/// batch 64.
inline config::TrialConfig AcceptanceConfig(const std::string& architecture) {
  config::TrialConfig c = TopKConfig(256, 8, 64);
  c.train.tokens = 100 * 64;
  c.sae.architecture = architecture;
  if (architecture == "topk") c.sae.aux_k = 16;
  c.sae.dead_after_tokens = 10 * 64;
  if (architecture == "relu_l1" || architecture == "gated") {
    c.sae.k = 0;
    c.sae.aux_k.reset();
    c.sae.l1_coefficient = 0.05;
  }
  if (architecture == "jumprelu") {
    c.sae.k = 0;
    c.sae.aux_k.reset();
    c.sae.l0_coefficient = 0.01;
  }
  return c;
}

struct DeviceRun {
  std::vector<double> losses, l0;
  std::vector<double> aux;  ///< of ranked architectures
  Selection first;
  std::map<std::string, double> heldout;
  double norm = 0;  ///< the last step's gradient norm, with clipping
  SavedState end;
};

/// `steps` steps from the first batch, then an evaluation.
template <class Create>
DeviceRun RunSteps(const config::TrialConfig& config, std::int64_t d, std::int64_t d_out,
                   const std::vector<std::vector<float>>& batches, const Create& create) {
  DeviceRun out;
  Mutex mutex;
  const auto body = [&](comm::Communicator& ranks) -> absl::Status {
    ThreadPool pool(1);
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Engine<float>> engine,
                         create(config, d, d_out, ranks, pool));
    SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
    for (std::size_t t = 0; t < batches.size(); ++t) {
      SAE_RETURN_IF_ERROR(engine->Step(batches[t]));
      SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
      Selection first;
      if (t == 0) {
        SAE_ASSIGN_OR_RETURN(first, engine->LastSelection());
      }
      if (ranks.rank() != 0) continue;
      out.losses.push_back(metrics.at("train.loss"));
      out.l0.push_back(metrics.at("train.l0"));
      if (metrics.contains("train.aux_loss")) out.aux.push_back(metrics.at("train.aux_loss"));
      if (config.train.clip > 0) out.norm = metrics.at("gradient_norm");
      if (t == 0) out.first = std::move(first);
    }
    engine->BeginEvaluation(std::vector<float>(static_cast<std::size_t>(d_out), 0.4F));
    SAE_RETURN_IF_ERROR(
        engine->EvaluateBatch(std::span(batches.back()).first(batches.back().size() / 2)));
    SAE_ASSIGN_OR_RETURN(auto heldout, engine->FinishEvaluation());
    const model::State state = engine->state();  // collective with columns: before the lock
    MutexLock lock(mutex);
    Save(state, &out.end);
    if (ranks.rank() == 0) out.heldout = std::move(heldout);
    return absl::OkStatus();
  };
  const absl::Status status = comm::RunInProcess(static_cast<int>(config.ranks), body);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

inline DeviceRun RunOnCpu(const config::TrialConfig& config, std::int64_t d, std::int64_t d_out,
                          const std::vector<std::vector<float>>& batches) {
  return RunSteps(config, d, d_out, batches,
                  [](const auto& c, std::int64_t in, std::int64_t out, auto& ranks, auto& pool) {
                    return CreateEngine<float>(c, in, out, ranks, pool);
                  });
}

inline DeviceRun RunOnDevice(DeviceRuntime& runtime, const config::TrialConfig& config,
                             std::int64_t d, std::int64_t d_out,
                             const std::vector<std::vector<float>>& batches) {
  return RunSteps(config, d, d_out, batches,
                  [&](const auto& c, std::int64_t in, std::int64_t out, auto& ranks, auto& pool) {
                    DeviceParts parts;
                    parts.runtime = &runtime;
                    return DeviceEngine::Create(c, in, out, ranks, pool, parts);
                  });
}

/// Of sparse data, as many rows as a step takes; a transcoder's hold both of its sides.
inline std::vector<std::vector<float>> SparseBatches(const config::TrialConfig& config,
                                                     std::int64_t d, std::int64_t d_out, int steps,
                                                     std::uint64_t seed = 17) {
  SparseData data(40, d + (config.sae.transcoder ? d_out : 0), 4, seed);
  std::vector<std::vector<float>> out;
  for (int t = 0; t < steps; ++t) out.push_back(data.Rows(config.train.batch, 4));
  return out;
}

/// Parameters, moments and counters at the end. (The bound is that of one rank: Adam makes last
/// bits of small gradients large.)
inline void ExpectSameEnd(const SavedState& device, const SavedState& cpu) {
  ASSERT_EQ(device.tensors.size(), cpu.tensors.size());
  EXPECT_EQ(device.integers, cpu.integers);
  for (const auto& [name, bytes] : cpu.tensors) {
    const std::vector<char>& own = device.tensors.at(name);
    ASSERT_EQ(own.size(), bytes.size()) << name;
    if (name == "p_anneal_queue") continue;  // float64; the penalty's exponent comes from it
    if (name == "tokens_since_fired") {
      EXPECT_EQ(own, bytes);
      continue;
    }
    double distance = 0, norm = 0;
    for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      float a = 0, b = 0;
      std::memcpy(&a, own.data() + i, 4);
      std::memcpy(&b, bytes.data() + i, 4);
      distance += std::pow(static_cast<double>(a - b), 2);
      norm += std::pow(static_cast<double>(b), 2);
    }
    EXPECT_LE(std::sqrt(distance), 3e-3 * std::sqrt(norm) + 1e-7) << name;
  }
  for (const auto& [name, value] : cpu.doubles)
    EXPECT_NEAR(device.doubles.at(name), value, 1e-4 * (1e-3 + std::abs(value))) << name;
}

/// The first step selects the same; losses within 1e-4 for 20 steps and 1e-2 after; so the
/// evaluation.
inline void ExpectSameRun(const DeviceRun& device, const DeviceRun& cpu) {
  EXPECT_EQ(device.first, cpu.first);
  ASSERT_EQ(device.losses.size(), cpu.losses.size());
  for (std::size_t t = 0; t < cpu.losses.size(); ++t) {
    const double bound = (t < 20 ? 1e-4 : 1e-2) * std::abs(cpu.losses[t]);
    ASSERT_NEAR(device.losses[t], cpu.losses[t], bound) << "step " << t;
    ASSERT_NEAR(device.l0[t], cpu.l0[t], (t < 20 ? 1e-2 : 5e-2) * cpu.l0[t]) << "step " << t;
  }
  ASSERT_EQ(device.heldout.size(), cpu.heldout.size());
  const double bound = cpu.losses.size() <= 20 ? 1e-3 : 2e-2;
  for (const auto& [name, value] : cpu.heldout)
    EXPECT_NEAR(device.heldout.at(name), value, bound * std::max(0.1, std::abs(value))) << name;
}

}  // namespace sae::train::testing
