// Properties of one step and of short runs that hold whatever the data: symmetries, AuxK, theory of
// shrinkage.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using testing::Doubles;
using testing::SavedState;

constexpr std::int64_t kLatents = 32;
constexpr std::int64_t kWidth = 12;
constexpr std::int64_t kBatch = 64;

struct Rig {
  explicit Rig(const config::TrialConfig& config, std::int64_t d = kWidth)
      : self(comm::CreateSelf()), pool(2) {
    auto created = CreateEngine<double>(config, d, *self, pool);
    EXPECT_TRUE(created.ok()) << created.status();
    engine = *std::move(created);
  }
  SavedState Saved() const {
    SavedState s;
    Save(engine->state(), &s);
    return s;
  }
  double Metric(const std::string& name) const {
    const auto metrics = engine->LastMetrics();
    EXPECT_TRUE(metrics.ok()) << metrics.status();
    return metrics->at(name);
  }
  /// One tensor of the live state.
  double* Tensor(const std::string& name) const {
    for (const model::StateTensor& t : engine->state().tensors) {
      if (t.name == name) return static_cast<double*>(t.data);
    }
    return nullptr;
  }
  std::unique_ptr<comm::Communicator> self;
  ThreadPool pool;
  std::unique_ptr<Engine<double>> engine;
};

config::TrialConfig TopK() {
  config::TrialConfig c = testing::TopKConfig(kLatents, 4, kBatch);
  c.train.epsilon = 1e-8;
  return c;
}

std::vector<float> Rows(std::uint64_t seed) {
  return testing::SparseData(24, kWidth, 3, seed).Rows(kBatch, 2);
}

TEST(EngineProperty, PermutedLatentsAndTokensGiveThePermutedStep) {
  const std::vector<float> rows = Rows(1);
  Rig a(TopK()), b(TopK());
  ASSERT_TRUE(a.engine->Initialise(rows).ok());
  const SavedState start = a.Saved();
  const auto image = [](std::int64_t i) { return (i * 5 + 3) % kLatents; };
  SavedState permuted = start;
  for (const std::string name : {"W_enc", "W_dec", "b_enc"}) {
    const std::vector<double> from = Doubles(start, name);
    std::vector<double> to(from.size());
    const std::int64_t width = static_cast<std::int64_t>(from.size()) / kLatents;
    for (std::int64_t i = 0; i < kLatents; ++i) {
      std::copy_n(from.begin() + i * width, width, to.begin() + image(i) * width);
    }
    permuted.tensors[name] = testing::Bytes(to);
  }
  Restore(permuted, *b.engine);
  std::vector<float> reversed;
  for (std::int64_t t = kBatch - 1; t >= 0; --t) {
    reversed.insert(reversed.end(), rows.begin() + t * kWidth, rows.begin() + (t + 1) * kWidth);
  }
  ASSERT_TRUE(a.engine->Step(rows).ok());
  ASSERT_TRUE(b.engine->Step(reversed).ok());
  EXPECT_NEAR(a.Metric("train.loss"), b.Metric("train.loss"), 1e-12);
  const std::vector<double> m = Doubles(a.Saved(), "W_enc.adam_m"),
                            pm = Doubles(b.Saved(), "W_enc.adam_m");
  for (std::int64_t i = 0; i < kLatents; ++i) {
    for (std::int64_t j = 0; j < kWidth; ++j) {
      EXPECT_NEAR(m[static_cast<std::size_t>(i * kWidth + j)],
                  pm[static_cast<std::size_t>(image(i) * kWidth + j)], 1e-13);
    }
  }
}

TEST(EngineProperty, MeanPredictorsLossIsTheSampleVariance) {
  const std::vector<float> rows = Rows(2);
  Rig rig(TopK());
  ASSERT_TRUE(rig.engine->Initialise(rows).ok());
  const SavedState s = rig.Saved();
  std::fill_n(rig.Tensor("b_enc"), kLatents, -1e3);  // nothing fires
  std::fill_n(rig.Tensor("b_dec"), kWidth, 0.0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rig.Tensor("b_dec")[i % kWidth] += rows[i] / s.doubles.at("input_scale") / kBatch;
  }
  ASSERT_TRUE(rig.engine->Step(rows).ok());
  EXPECT_NEAR(rig.Metric("train.main_loss"), s.doubles.at("sample_variance"), 1e-10);
  EXPECT_NEAR(rig.Metric("train.fvu"), 1, 1e-10);
  EXPECT_EQ(rig.Metric("train.l0"), 0);
}

TEST(EngineProperty, AtMostKAreKeptAndOnlyPositiveOnes) {
  const std::vector<float> rows = Rows(3);
  Rig rig(TopK());
  ASSERT_TRUE(rig.engine->Initialise(rows).ok());
  std::fill_n(rig.Tensor("b_enc"), kLatents, -0.4);  // some tokens have fewer than k positive
  const SavedState s = rig.Saved();
  const model::ReferenceParameters p{
      kLatents,           kWidth, Doubles(s, "W_enc"), Doubles(s, "b_enc"), Doubles(s, "W_dec"),
      Doubles(s, "b_dec")};
  std::vector<double> x(rows.begin(), rows.end());
  for (double& v : x) v /= s.doubles.at("input_scale");
  const std::vector<double> z = ReferencePreActivations(p, x);
  ASSERT_TRUE(rig.engine->Step(rows).ok());
  const auto selection = rig.engine->LastSelection();
  ASSERT_TRUE(selection.ok());
  std::int64_t fewer = 0;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    const auto positive = std::count_if(z.begin() + b * kLatents, z.begin() + (b + 1) * kLatents,
                                        [](double v) { return v > 0; });
    EXPECT_EQ(static_cast<std::int64_t>((*selection)[static_cast<std::size_t>(b)].size()),
              std::min<std::int64_t>(4, positive));
    fewer += positive < 4 ? 1 : 0;
  }
  EXPECT_GT(fewer, 0);
}

// Latents 0..7 are dead and silenced; the step with AuxK differs from the one without in those rows
// alone.
TEST(EngineProperty, AuxKMovesDeadRowsAndTheBiasAlone) {
  const std::vector<float> rows = Rows(4);
  std::vector<SavedState> ends;
  for (const std::int64_t aux_k : {0, 4}) {
    config::TrialConfig config = TopK();
    config.sae.aux_k = aux_k;
    config.sae.dead_after_tokens = 1000;
    Rig rig(config);
    ASSERT_TRUE(rig.engine->Initialise(rows).ok());
    SavedState s = rig.Saved();
    std::vector<std::int64_t> since(kLatents, 0);
    std::fill_n(since.begin(), 8, 5000);
    std::memcpy(s.tensors["tokens_since_fired"].data(), since.data(),
                kLatents * sizeof(std::int64_t));
    Restore(s, *rig.engine);
    std::fill_n(rig.Tensor("b_enc"), kLatents, 1.0);
    std::fill_n(rig.Tensor("b_enc"), 8, 0.01);
    ASSERT_TRUE(rig.engine->Step(rows).ok());
    if (aux_k > 0) {
      EXPECT_GT(rig.Metric("train.aux_loss"), 0);
      EXPECT_EQ(rig.Metric("train.dead_fraction"), 8.0 / kLatents);
    }
    ends.push_back(rig.Saved());
  }
  for (const std::string name : {"W_enc.adam_m", "W_dec.adam_m"}) {
    const std::vector<double> without = Doubles(ends[0], name), with = Doubles(ends[1], name);
    double moved = 0;
    for (std::size_t i = 0; i < with.size(); ++i) {
      if (i < 8 * kWidth) {
        moved += std::abs(with[i] - without[i]);
      } else {
        ASSERT_EQ(with[i], without[i]) << name << " " << i;
      }
    }
    EXPECT_GT(moved, 1e-6) << name;
  }
  EXPECT_NE(Doubles(ends[0], "b_dec.adam_m"), Doubles(ends[1], "b_dec.adam_m"));
}

TEST(EngineProperty, AuxKRevivesSilencedLatents) {
  std::vector<double> dead;
  for (const std::int64_t aux_k : {0, 8}) {
    config::TrialConfig config = TopK();
    config.sae.aux_k = aux_k;
    config.sae.dead_after_tokens = 10 * kBatch;
    config.train.lr = 5e-3;
    Rig rig(config);
    testing::SparseData data(48, kWidth, 3, 5);
    ASSERT_TRUE(rig.engine->Initialise(data.Rows(512, 2)).ok());
    std::fill_n(rig.Tensor("b_enc"), kLatents / 2, -0.9);
    for (int t = 0; t < 500; ++t) ASSERT_TRUE(rig.engine->Step(data.Rows(kBatch, 2)).ok());
    dead.push_back(rig.Metric("train.dead_fraction"));
  }
  std::printf("dead %g without AuxK, %g with\n", dead[0], dead[1]);
  EXPECT_GT(dead[0], 0.25);
  EXPECT_LT(dead[1], 0.6 * dead[0]);
}

// Orthonormal features, each on with probability 0.1 and strength U(0.5, 1.5): ReLU-L1 shrinks
// every code by lambda / 2, so gamma = E[(a - l)^2] / E[a (a - l)] with l = lambda / 2: 0.9085 for
// lambda 0.2. The engine takes lambda in scaled units: lambda / S.
TEST(EngineProperty, ReluShrinksAsTheorySays) {
  constexpr std::int64_t kFeatures = 32;
  Random random(9);
  const auto draw = [&](std::int64_t count) {
    std::vector<float> rows(static_cast<std::size_t>(count * kFeatures), 0.0F);
    for (float& v : rows) {
      if (random.Uniform() < 0.1) v = static_cast<float>(0.5 + random.Uniform());
    }
    return rows;
  };
  const std::vector<float> sample = draw(4096);
  const double scale = model::MeasureSample(sample, kFeatures)->input_scale;
  config::TrialConfig config = testing::ReluConfig(kFeatures, 0.2 / scale, 256);
  config.train.tokens = 4000.0 * 256;
  config.train.lr = 2e-3;
  Rig rig(config, kFeatures);
  ASSERT_TRUE(rig.engine->Initialise(sample).ok());
  for (int t = 0; t < 4000; ++t) ASSERT_TRUE(rig.engine->Step(draw(256)).ok());
  rig.engine->BeginEvaluation(std::vector<float>(kFeatures, 0.0F));
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(rig.engine->EvaluateBatch(draw(256)).ok());
  const auto held = rig.engine->FinishEvaluation();
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_NEAR(held->at("heldout.gamma"), 0.909, 0.006);
  EXPECT_NEAR(held->at("heldout.fvu"), 0.0113, 0.003);
  EXPECT_NEAR(held->at("heldout.l0"), 3.2, 0.2);
  EXPECT_EQ(held->at("heldout.dead_fraction"), 0);
}

}  // namespace
}  // namespace sae::train
