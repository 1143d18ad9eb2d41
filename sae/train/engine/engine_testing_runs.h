#pragma once
// For tests of the engine: one small config of every architecture and of every option that changes
// what a step does, and runs of them at any number of ranks and threads.

#include <functional>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "sae/base/mutex.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train::testing {

using Selection = std::vector<std::vector<std::int64_t>>;
using Setting = std::function<void(config::TrialConfig&)>;

inline constexpr std::int64_t kRunLatents = 64;
inline constexpr std::int64_t kRunWidth = 12;
inline constexpr std::int64_t kRunBatch = 32;
inline constexpr std::int64_t kRunSteps = 100;

struct RunVariant {
  const char* name;
  Setting set;
  std::int64_t d_out = kRunWidth;
};
inline std::ostream& operator<<(std::ostream& out, const RunVariant& v) { return out << v.name; }

inline config::TrialConfig ConfigOf(const RunVariant& variant, std::int64_t ranks = 1) {
  config::TrialConfig c = TopKConfig(kRunLatents, 5, kRunBatch, ranks);
  c.train.tokens = static_cast<double>(kRunSteps * kRunBatch);
  c.train.lr = 3e-3;
  c.train.lr_warmup_steps = 4;
  c.train.sparsity_warmup_steps = 6;
  c.sae.dead_after_tokens = 6 * kRunBatch;
  variant.set(c);
  return c;
}

/// An architecture with an average L0 that is held by its penalty alone.
inline Setting Penalised(const char* architecture, Setting more = nullptr) {
  return [=](config::TrialConfig& c) {
    c.sae.architecture = architecture;
    c.sae.k = 0;
    c.sae.aux_k.reset();
    (c.sae.architecture == "jumprelu" ? c.sae.l0_coefficient : c.sae.l1_coefficient) = 0.05;
    if (more) more(c);
  };
}

inline Setting Ranked(const char* architecture, std::int64_t aux_k, Setting more = nullptr) {
  return [=](config::TrialConfig& c) {
    c.sae.architecture = architecture;
    c.sae.aux_k = aux_k;
    if (more) more(c);
  };
}

/// With `selection: float32`: the float64 engine has them too.
inline std::vector<RunVariant> Float32Variants() {
  return {
      {"relu_l1", Penalised("relu_l1")},
      {"relu_l1_norm", Penalised("relu_l1", [](auto& c) { c.sae.penalty = "l1_norm"; })},
      {"relu_lp", Penalised("relu_l1", [](auto& c) { c.sae.penalty = "lp"; })},
      {"relu_target", Penalised("relu_l1", [](auto& c) { c.sae.target_l0 = 6; })},
      {"relu_on_the_fly", Penalised("relu_l1", [](auto& c) { c.sae.decoder = "on_the_fly"; })},
      {"relu_resample", Penalised("relu_l1",
                                  [](auto& c) {
                                    c.sae.l1_coefficient = 0.4;
                                    c.sae.resample = "on";
                                  })},
      {"gated", Penalised("gated")},
      {"gated_clip_resample", Penalised("gated",
                                        [](auto& c) {
                                          c.sae.l1_coefficient = 0.4;
                                          c.sae.resample = "on";
                                          c.train.clip = 0.1;
                                        })},
      {"topk_aux", Ranked("topk", 8)},
      {"topk_multi", Ranked("topk", 0, [](auto& c) { c.sae.multi_topk = true; })},
      {"topk_openai_clip_ema", Ranked("topk", 8,
                                      [](auto& c) {
                                        c.train.preset = "openai";
                                        c.train.clip = 0.2;
                                        c.train.ema = 0.9;
                                      })},
      {"topk_fvu", Ranked("topk", 8, [](auto& c) { c.sae.loss = "fvu"; })},
      {"topk_deferred", Ranked("topk", 8, [](auto& c) { c.train.rows = "deferred"; })},
      {"topk_lazy", Ranked("topk", 8,
                           [](auto& c) {
                             c.train.beta1 = 0;
                             c.train.rows = "lazy";
                           })},
      {"batchtopk_aux", Ranked("batchtopk", 8)},
      {"batchtopk_layer_norm", Ranked("batchtopk", 0,
                                      [](auto& c) {
                                        c.sae.input_scale = "layer_norm";
                                        c.train.ema = 0.95;
                                      })},
      {"matryoshka_aux_clip", Ranked("matryoshka", 8,
                                     [](auto& c) {
                                       c.sae.prefixes = "5,24";
                                       c.sae.prefix_weights = "mean_with_bias";
                                       c.train.clip = 0.2;
                                     })},
      {"jumprelu", Penalised("jumprelu")},
      {"jumprelu_target", Penalised("jumprelu", [](auto& c) { c.sae.target_l0 = 6; })},
      {"jumprelu_raw_lazy", Penalised("jumprelu",
                                      [](auto& c) {
                                        c.sae.threshold_parameter = "raw";
                                        c.train.rows = "lazy";
                                      })},
      {"jumprelu_quadratic", Penalised("jumprelu",
                                       [](auto& c) {
                                         c.sae.penalty = "l0_quadratic";
                                         c.sae.target_l0 = 6;
                                       })},
      {"jumprelu_tanh", Penalised("jumprelu",
                                  [](auto& c) {
                                    c.sae.penalty = "tanh";
                                    c.sae.bandwidth = 0.02;
                                    c.sae.l0_coefficient = 0.005;
                                  })},
      {"skip_transcoder_topk",
       Ranked("topk", 8,
              [](auto& c) {
                c.sae.transcoder = true;
                c.sae.skip = true;
                c.train.clip = 0.5;
              }),
       9},
  };
}

inline std::vector<RunVariant> AllVariants() {
  std::vector<RunVariant> out = Float32Variants();
  const auto certified = [](auto& c) { c.train.selection = "certified"; };
  out.push_back({"topk_certified", Ranked("topk", 8, certified)});
  out.push_back({"batchtopk_certified", Ranked("batchtopk", 0, certified)});
  out.push_back({"jumprelu_certified", Penalised("jumprelu", certified)});
  out.push_back({"gated_certified", Penalised("gated", certified)});
  return out;
}

inline std::vector<std::vector<float>> BatchesOf(const config::TrialConfig& c, std::int64_t d_out,
                                                 std::int64_t steps, std::uint64_t seed = 5) {
  SparseData data(40, kRunWidth + (c.sae.transcoder ? d_out : 0), 3, seed);
  std::vector<std::vector<float>> out;
  for (std::int64_t t = 0; t < steps; ++t) out.push_back(data.Rows(c.train.batch, 4));
  return out;
}

struct RunOutcome {
  SavedState end;
  std::map<std::int64_t, SavedState> before;  ///< state before the steps asked for
  std::vector<double> losses;
  std::vector<double> l0;
  std::vector<Selection> selections;
  std::map<std::string, double> heldout;  ///< on the last batch, after all steps
};

struct RunRequest {
  config::TrialConfig config;
  std::int64_t d_out = kRunWidth;
  std::vector<std::vector<float>> batches;
  const SavedState* start = nullptr;  ///< null: Initialise from the first batch
  std::size_t first = 0;              ///< batch of the first step
  int threads = 1;
  std::set<std::int64_t> save_before;
  bool selections = false;
  double dense_density = -1;  ///< Engine::set_dense_density; below 0: as it is
};

template <class T>
RunOutcome Run(const RunRequest& request) {
  RunOutcome out;
  Mutex mutex;
  const auto body = [&](comm::Communicator& communicator) -> absl::Status {
    ThreadPool pool(request.threads);
    SAE_ASSIGN_OR_RETURN(
        auto engine, CreateEngine<T>(request.config, kRunWidth, request.d_out, communicator, pool));
    if (request.start != nullptr) {
      Restore(*request.start, *engine);
    } else {
      SAE_RETURN_IF_ERROR(engine->Initialise(request.batches[0]));
    }
    if (request.dense_density >= 0) engine->set_dense_density(request.dense_density);
    for (std::size_t t = request.first; t < request.batches.size(); ++t) {
      if (request.save_before.contains(static_cast<std::int64_t>(t))) {
        const model::State state = engine->state();  // all ranks together
        MutexLock lock(mutex);
        Save(state, &out.before[static_cast<std::int64_t>(t)]);
      }
      SAE_RETURN_IF_ERROR(engine->Step(request.batches[t]));
      SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
      Selection selection;
      if (request.selections) {
        SAE_ASSIGN_OR_RETURN(selection, engine->LastSelection());
      }
      if (communicator.rank() != 0) continue;
      out.losses.push_back(metrics.at("train.loss"));
      out.l0.push_back(metrics.at("train.l0"));
      if (request.selections) out.selections.push_back(std::move(selection));
    }
    engine->BeginEvaluation(std::vector<float>(static_cast<std::size_t>(request.d_out), 0.4F));
    SAE_RETURN_IF_ERROR(engine->EvaluateBatch(request.batches.back()));
    SAE_ASSIGN_OR_RETURN(auto heldout, engine->FinishEvaluation());
    const model::State state = engine->state();
    MutexLock lock(mutex);
    Save(state, &out.end);
    if (communicator.rank() == 0) out.heldout = std::move(heldout);
    return absl::OkStatus();
  };
  const absl::Status status = comm::RunInProcess(static_cast<int>(request.config.ranks), body);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

/// Names what differs, rather than printing bytes.
inline void ExpectSameBits(const SavedState& a, const SavedState& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, bytes] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << name;
    EXPECT_TRUE(bytes == b.tensors.at(name)) << name << " differs";
  }
  EXPECT_EQ(a.integers, b.integers);
  EXPECT_EQ(a.doubles, b.doubles);
}

inline std::string NameOf(const ::testing::TestParamInfo<RunVariant>& test) {
  return test.param.name;
}

}  // namespace sae::train::testing
