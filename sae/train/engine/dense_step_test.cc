// The dense step against the sparse one, which is tested against the plain formulas: every
// architecture and option that has both, at 1, 2 and 4 ranks, and what chooses between them.
#include <cmath>
#include <functional>
#include <limits>

#include "gtest/gtest.h"

#include "sae/base/mutex.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using testing::SavedState;
using Metrics = std::map<std::string, double>;

struct Variant {
  const char* name;
  std::function<void(config::TrialConfig&)> set;
  std::int64_t d_out = 7;
  double tolerance = 1e-10;
};

std::ostream& operator<<(std::ostream& out, const Variant& v) { return out << v.name; }

struct Shape {
  std::int64_t latents = 40;
  std::int64_t d = 7;
  std::int64_t batch = 19;
  int steps = 6;
};

config::TrialConfig ConfigOf(const Variant& variant, const Shape& shape, int ranks) {
  config::TrialConfig c = testing::ReluConfig(shape.latents, 0.05, shape.batch, ranks);
  c.train.lr = 5e-3;
  c.train.beta1 = 0.9;
  c.train.lr_decay_fraction = 0;
  variant.set(c);
  return c;
}

std::vector<Variant> Variants() {
  const auto relu = [](auto more) { return more; };
  const auto gated = [](auto more) {
    return [=](config::TrialConfig& c) {
      c.sae.architecture = "gated";
      more(c);
    };
  };
  const auto without_pre_bias = [](auto& c) { c.sae.pre_bias = "off"; };
  const auto transcoder = [](auto& c) { c.sae.transcoder = true; };
  const auto skip = [](auto& c) { c.sae.transcoder = c.sae.skip = true; };
  // p falls in every step from the second of ten on.
  const auto power = [](auto& c) {
    c.sae.penalty = "lp";
    c.train.tokens = 10.0 * static_cast<double>(c.train.batch);
  };
  return {
      {"relu", relu([](auto&) {})},
      {"relu_without_pre_bias", relu(without_pre_bias)},
      {"relu_free", relu([](auto& c) { c.sae.decoder = "free"; })},
      {"relu_norm", relu([](auto& c) {
         c.sae.penalty = "l1_norm";
         c.sae.decoder = "free";
         c.sae.pre_bias = "off";
       })},
      {"relu_norm_unit", relu([](auto& c) {
         c.sae.penalty = "l1_norm";
         c.sae.decoder = "unit";
         c.sae.pre_bias = "on";
       })},
      {"relu_power", relu(power), 7, 1e-9},
      {"relu_power_without_pre_bias", relu([=](auto& c) {
         power(c);
         c.sae.pre_bias = "off";
       }),
       7, 1e-9},
      {"relu_fvu", relu([](auto& c) { c.sae.loss = "fvu"; })},
      {"relu_layer_norm", relu([](auto& c) { c.sae.input_scale = "layer_norm"; })},
      {"relu_target_ema", relu([](auto& c) {
         c.sae.target_l0 = 5;
         c.train.ema = 0.9;
       })},
      {"relu_resample", relu([](auto& c) {
         c.sae.l1_coefficient = 3;
         c.sae.resample = "on";
         c.sae.dead_after_tokens = c.train.batch;
         c.train.tokens = 24.0 * static_cast<double>(c.train.batch);
       })},
      {"relu_transcoder", relu(transcoder), 5},
      {"relu_skip_transcoder", relu(skip), 9},
      {"gated", gated([](auto&) {})},
      {"gated_without_pre_bias", gated(without_pre_bias)},
      {"gated_free", gated([](auto& c) { c.sae.decoder = "free"; })},
      {"gated_mean", gated([](auto& c) { c.sae.loss = "mean"; })},
      {"gated_target", gated([](auto& c) { c.sae.target_l0 = 5; })},
      {"gated_transcoder", gated(transcoder), 5},
      {"gated_skip_transcoder", gated(skip), 9},
  };
}

std::vector<std::vector<float>> Batches(const Shape& shape, const config::TrialConfig& config,
                                        std::int64_t d_out, int count) {
  testing::SparseData data(24, shape.d + (config.sae.transcoder ? d_out : 0), 5, 3);
  std::vector<std::vector<float>> out;
  for (int t = 0; t < count; ++t) out.push_back(data.Rows(shape.batch, 3.5, 0.2));
  return out;
}

// What starts at 0 moves off it, so that gate and magnitude differ.
template <class T>
void Perturb(Engine<T>& engine) {
  const model::State s = engine.state();
  for (const model::StateTensor& t : s.tensors) {
    if (t.name != "b_enc" && t.name != "b_mag" && t.name != "r_mag" && t.name != "W_skip" &&
        t.name != "W_dec") {
      continue;
    }
    const std::int64_t row = testing::RowBytes(t) / static_cast<std::int64_t>(sizeof(T));
    const std::uint64_t seed = 17 + t.name.size() + static_cast<unsigned char>(t.name[0]);
    auto* values = static_cast<T*>(t.data);
    for (std::int64_t i = 0; i < (t.per_latent ? s.shard.count : 1); ++i) {
      Random random(
          HashCounter(seed, static_cast<std::uint64_t>(t.per_latent ? s.shard.Global(i) : 0)));
      for (std::int64_t j = 0; j < row; ++j)
        values[i * row + j] += static_cast<T>((t.name == "W_dec" ? 0 : 0.15) * random.Normal());
    }
  }
}

struct Outcome {
  SavedState state;
  std::vector<Metrics> metrics;
  std::vector<std::vector<std::vector<std::int64_t>>> selections;
};

template <class T>
Outcome RunSteps(const Variant& variant, const Shape& shape, int ranks, double density,
                 int threads = 2) {
  const config::TrialConfig config = ConfigOf(variant, shape, ranks);
  const std::int64_t d_out = config.sae.transcoder ? variant.d_out : shape.d;
  const auto batches = Batches(shape, config, d_out, shape.steps);
  Outcome out;
  Mutex mutex;
  const absl::Status status = comm::RunInProcess(ranks, [&](comm::Communicator& c) {
    ThreadPool pool(threads);
    SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<T>(config, shape.d, d_out, c, pool));
    SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
    Perturb(*engine);
    engine->set_dense_density(density);
    for (const auto& rows : batches) {
      SAE_RETURN_IF_ERROR(engine->Step(rows));
      SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
      SAE_ASSIGN_OR_RETURN(auto selection, engine->LastSelection());
      MutexLock lock(mutex);
      if (c.rank() != 0) continue;
      out.metrics.push_back(metrics);
      out.selections.push_back(std::move(selection));
    }
    MutexLock lock(mutex);
    Save(engine->state(), &out.state);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void ExpectSame(const Outcome& sparse, const Outcome& dense, double tolerance) {
  ASSERT_EQ(sparse.metrics.size(), dense.metrics.size());
  for (std::size_t t = 0; t < sparse.metrics.size(); ++t) {
    const Metrics& a = sparse.metrics[t];
    const Metrics& b = dense.metrics[t];
    EXPECT_EQ(a.at("dense_step"), 0) << t;
    EXPECT_EQ(b.at("dense_step"), 1) << t;
    EXPECT_EQ(a.at("train.l0"), b.at("train.l0")) << t;
    EXPECT_EQ(a.at("train.dead_fraction"), b.at("train.dead_fraction")) << t;
    for (const char* name : {"train.loss", "train.main_loss", "train.penalty_loss", "train.fvu",
                             "sparsity_coefficient"}) {
      EXPECT_NEAR(a.at(name), b.at(name), tolerance * std::max(1.0, std::abs(a.at(name))))
          << name << " " << t;
    }
  }
  EXPECT_EQ(sparse.selections, dense.selections);
  ASSERT_EQ(sparse.state.tensors.size(), dense.state.tensors.size());
  for (const auto& [name, bytes] : sparse.state.tensors) {
    if (name == "tokens_since_fired") {
      EXPECT_EQ(bytes, dense.state.tensors.at(name));
      continue;
    }
    const std::vector<double> a = testing::Doubles(sparse.state, name);
    const std::vector<double> b = testing::Doubles(dense.state, name);
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], tolerance * std::max(1.0, std::abs(a[i]))) << name << " " << i;
  }
  EXPECT_EQ(sparse.state.integers, dense.state.integers);
  for (const auto& [name, value] : sparse.state.doubles)
    EXPECT_NEAR(value, dense.state.doubles.at(name), tolerance * std::max(1.0, std::abs(value)));
}

using Parameter = std::tuple<Variant, int>;
class DenseStepTest : public ::testing::TestWithParam<Parameter> {};

TEST_P(DenseStepTest, StepsMatchTheSparsePath) {
  const auto& [variant, ranks] = GetParam();
  const Outcome sparse = RunSteps<double>(variant, {}, ranks, 2);
  const Outcome dense = RunSteps<double>(variant, {}, ranks, 0);
  ExpectSame(sparse, dense, variant.tolerance);
  // Some fire, some do not, in every batch.
  for (const Metrics& m : sparse.metrics) {
    EXPECT_GT(m.at("train.l0"), 1);
    EXPECT_LT(m.at("train.l0"), 35);
  }
}

INSTANTIATE_TEST_SUITE_P(All, DenseStepTest,
                         ::testing::Combine(::testing::ValuesIn(Variants()),
                                            ::testing::Values(1, 2, 4)),
                         [](const ::testing::TestParamInfo<Parameter>& test) {
                           return absl::StrCat(std::get<0>(test.param).name, "_",
                                               std::get<1>(test.param));
                         });

Variant Named(const char* architecture, std::function<void(config::TrialConfig&)> more = nullptr) {
  return {architecture, [=](config::TrialConfig& c) {
            c.sae.architecture = architecture;
            if (more) more(c);
          }};
}

// 16384 latents are 256 tokens a block: the second block has 4.
TEST(DenseStep, AddsUpItsBlocks) {
  const Shape shape{16384, 4, 260, 2};
  for (const char* architecture : {"relu_l1", "gated"}) {
    const Outcome sparse = RunSteps<double>(Named(architecture), shape, 1, 2);
    const Outcome dense = RunSteps<double>(Named(architecture), shape, 1, 0);
    ExpectSame(sparse, dense, 1e-9);
  }
}

TEST(DenseStep, FloatStepsAreTheSameForAnyNumberOfThreads) {
  const Shape shape{1100, 24, 600, 3};
  for (const char* architecture : {"relu_l1", "gated"}) {
    const Outcome one = RunSteps<float>(Named(architecture), shape, 1, 0, 1);
    for (const int threads : {2, 3}) {
      const Outcome more = RunSteps<float>(Named(architecture), shape, 1, 0, threads);
      for (const auto& [name, bytes] : one.state.tensors)
        EXPECT_TRUE(bytes == more.state.tensors.at(name)) << name << " at " << threads;
    }
  }
}

TEST(DenseStep, WhatMustGoByEntriesDoes) {
  const auto dense_steps = [](const Variant& variant) {
    double sum = 0;
    for (const Metrics& m : RunSteps<float>(variant, {}, 1, 0).metrics)
      sum += m.contains("dense_step") ? m.at("dense_step") : 0;
    return sum;
  };
  for (const char* architecture : {"relu_l1", "gated"}) {
    EXPECT_EQ(dense_steps(Named(architecture)), 6);
    const auto with = [&](std::function<void(config::TrialConfig&)> more) {
      return dense_steps(Named(architecture, std::move(more)));
    };
    EXPECT_EQ(with([](auto& c) { c.train.clip = 0.1; }), 0);
    EXPECT_EQ(with([](auto& c) {
                c.train.reduction = "fixed";
                c.sae.latents = 48;
              }),
              0);
    EXPECT_EQ(with([](auto& c) { c.train.selection = "certified"; }), 0);
    EXPECT_EQ(with([](auto& c) { c.train.rows = "deferred"; }), 0);
    EXPECT_EQ(with([](auto& c) { c.sae.decoder = "on_the_fly"; }), 0);
    EXPECT_EQ(with([](auto& c) { c.sae.decoder = "unit_before"; }), 0);
  }
}

// A gate that is open costs the sparse path an entry, whether or not the latent fires.
TEST(DenseStep, OpenGatesChooseThePathAndCrossACheckpoint) {
  const Shape shape{40, 7, 19, 1};
  const config::TrialConfig config = ConfigOf(Named("gated"), shape, 1);
  const auto batches = Batches(shape, config, shape.d, 3);
  const auto self = comm::CreateSelf();
  ThreadPool pool(2);
  const auto make = [&] { return *CreateEngine<float>(config, shape.d, *self, pool); };
  auto engine = make();
  ASSERT_TRUE(engine->Initialise(batches[0]).ok());
  const auto fill = [&](const char* name, float value) {
    const model::State s = engine->state();
    for (const auto& t : s.tensors) {
      if (t.name == name) std::fill_n(static_cast<float*>(t.data), s.shard.count, value);
    }
  };
  fill("b_enc", 50);   // all gates open
  fill("b_mag", -50);  // and nothing behind them
  ASSERT_TRUE(engine->Step(batches[0]).ok());
  EXPECT_EQ(engine->LastMetrics()->at("train.l0"), 0);
  SavedState saved;
  Save(engine->state(), &saved);
  EXPECT_EQ(saved.integers.at("last_active"), shape.latents * shape.batch);
  fill("b_enc", -50);  // all closed
  ASSERT_TRUE(engine->Step(batches[1]).ok());
  EXPECT_EQ(engine->LastMetrics()->at("dense_step"), 1);
  Save(engine->state(), &saved);
  EXPECT_EQ(saved.integers.at("last_active"), 0);
  auto resumed = make();
  Restore(saved, *resumed);
  for (Engine<float>* e : {engine.get(), resumed.get()}) {
    ASSERT_TRUE(e->Step(batches[2]).ok());
    EXPECT_EQ(e->LastMetrics()->at("dense_step"), 0);
  }
}

TEST(DenseStep, NotANumberStopsTheStep) {
  for (const char* tensor : {"W_enc", "b_enc", "b_mag", "r_mag"}) {
    const Shape shape;
    const config::TrialConfig config = ConfigOf(Named("gated"), shape, 1);
    const auto batches = Batches(shape, config, shape.d, 1);
    const auto self = comm::CreateSelf();
    ThreadPool pool(2);
    auto engine = *CreateEngine<float>(config, shape.d, *self, pool);
    ASSERT_TRUE(engine->Initialise(batches[0]).ok());
    engine->set_dense_density(0);
    for (const auto& t : engine->state().tensors) {
      if (t.name == tensor) {
        std::fill_n(static_cast<float*>(t.data), 40, std::numeric_limits<float>::quiet_NaN());
      }
    }
    EXPECT_EQ(engine->Step(batches[0]).code(), absl::StatusCode::kFailedPrecondition) << tensor;
  }
}

}  // namespace
}  // namespace sae::train
