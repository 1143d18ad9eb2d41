// The float64 engine, at 1, 2 and 4 ranks, against the plain dense formulas.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/base/mutex.h"
#include "sae/model/golden.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using testing::SavedState;

constexpr std::int64_t kLatents = 24;
constexpr std::int64_t kWidth = 7;
constexpr std::int64_t kBatch = 19;
constexpr double kScale = 3.5;

struct Case {
  model::ReferenceParameters p;
  std::vector<float> rows;  // kBatch x kWidth, raw units
  std::vector<double> x;    // scaled
};

Case MakeCase(std::uint64_t seed) {
  Random random(seed);
  const auto draw = [&](std::int64_t count, double scale) {
    std::vector<double> out(static_cast<std::size_t>(count));
    for (double& v : out) v = scale * random.Normal();
    return out;
  };
  Case c;
  c.p.n = kLatents;
  c.p.d = kWidth;
  c.p.w_enc = draw(kLatents * kWidth, 0.4);
  c.p.b_enc = draw(kLatents, 0.1);
  c.p.w_dec = draw(kLatents * kWidth, 1);
  c.p.b_dec = draw(kWidth, 0.2);
  for (std::int64_t i = 0; i < kLatents; ++i) {
    double norm = 0;
    for (std::int64_t j = 0; j < kWidth; ++j)
      norm += std::pow(c.p.w_dec[static_cast<std::size_t>(i * kWidth + j)], 2);
    for (std::int64_t j = 0; j < kWidth; ++j)
      c.p.w_dec[static_cast<std::size_t>(i * kWidth + j)] /= std::sqrt(norm);
  }
  for (const double v : draw(kBatch * kWidth, 1)) {
    c.rows.push_back(static_cast<float>(v));
    c.x.push_back(c.rows.back() / kScale);
  }
  return c;
}

struct Outcome {
  SavedState state;
  std::vector<double> losses;
};

// `steps` steps on the same rows at `ranks` ranks from `start`.
Outcome RunSteps(config::TrialConfig config, const SavedState& start,
                 const std::vector<float>& rows, std::int64_t d, int steps,
                 double dense_density = 2) {
  Outcome out;
  Mutex mutex;
  const absl::Status status =
      comm::RunInProcess(static_cast<int>(config.ranks), [&](comm::Communicator& c) {
        ThreadPool pool(2);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(config, d, c, pool));
        Restore(start, *engine);
        engine->set_dense_density(dense_density);
        for (int s = 0; s < steps; ++s) {
          SAE_RETURN_IF_ERROR(engine->Step(rows));
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          MutexLock lock(mutex);
          if (c.rank() == 0) out.losses.push_back(metrics.at("train.loss"));
        }
        MutexLock lock(mutex);
        Save(engine->state(), &out.state);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void ExpectNear(const std::vector<double>& a, const std::vector<double>& b, double tolerance,
                const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << what << " " << i;
}

void ExpectParameters(const SavedState& state, const model::ReferenceParameters& p,
                      double tolerance, const std::string& suffix = "") {
  ExpectNear(testing::Doubles(state, "W_enc" + suffix), p.w_enc, tolerance, "W_enc");
  ExpectNear(testing::Doubles(state, "W_dec" + suffix), p.w_dec, tolerance, "W_dec");
  ExpectNear(testing::Doubles(state, "b_enc" + suffix), p.b_enc, tolerance, "b_enc");
  ExpectNear(testing::Doubles(state, "b_dec" + suffix), p.b_dec, tolerance, "b_dec");
}

config::TrialConfig WithoutDecay(config::TrialConfig c) {
  c.train.lr_decay_fraction = 0;
  return c;
}

class EngineReference : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, EngineReference, ::testing::Values(1, 2, 4));

TEST_P(EngineReference, ReluStepsMatchSparseAndDense) {
  Case c = MakeCase(11);
  const config::TrialConfig config =
      WithoutDecay(testing::ReluConfig(kLatents, 0.05, kBatch, GetParam()));
  const SavedState start =
      testing::StateOf(c.p, kScale, 1, std::vector<std::int64_t>(kLatents, 0), 0);
  const Outcome sparse = RunSteps(config, start, c.rows, kWidth, 4, 2);
  const Outcome dense = RunSteps(config, start, c.rows, kWidth, 4, 0);
  model::ReferenceParameters m = ZerosLike(c.p), v = ZerosLike(c.p);
  for (int t = 1; t <= 4; ++t) {
    const auto r = model::ReferenceReluL1(c.p, c.x, 0.05);
    EXPECT_NEAR(sparse.losses[static_cast<std::size_t>(t - 1)], r.loss, 1e-11);
    EXPECT_NEAR(dense.losses[static_cast<std::size_t>(t - 1)], r.loss, 1e-11);
    ReferenceUpdate(c.p, r.gradient, m, v, {1e-3, 0.9, 0.999, 1e-8}, t);
  }
  ExpectParameters(sparse.state, c.p, 1e-10);
  ExpectParameters(dense.state, c.p, 1e-10);
  ExpectParameters(sparse.state, m, 1e-11, ".adam_m");
  ExpectParameters(dense.state, m, 1e-11, ".adam_m");
  EXPECT_EQ(sparse.state.tensors.at("tokens_since_fired"),
            dense.state.tensors.at("tokens_since_fired"));
}

TEST_P(EngineReference, TopKStepsWithAuxKMatch) {
  Case c = MakeCase(12);
  config::TrialConfig config = WithoutDecay(testing::TopKConfig(kLatents, 5, kBatch, GetParam()));
  config.sae.aux_k = 3;
  config.sae.dead_after_tokens = 1000;
  // These are silent for long and kept from firing by a low bias: dead, unevenly over the shards.
  std::vector<std::int64_t> since(kLatents, 0);
  std::vector<bool> dead(kLatents, false);
  for (const std::size_t i : {0, 1, 2, 5, 13, 14, 23}) {
    since[i] = 5000;
    dead[i] = true;
    c.p.b_enc[i] = -0.35;
    for (std::int64_t j = 0; j < kWidth; ++j)
      c.p.w_enc[i * kWidth + static_cast<std::size_t>(j)] *= 1.2;
  }
  const double variance = 0.8;
  const Outcome out =
      RunSteps(config, testing::StateOf(c.p, kScale, variance, since, 0), c.rows, kWidth, 3);
  model::ReferenceParameters m = ZerosLike(c.p), v = ZerosLike(c.p);
  bool aux_seen = false;
  for (int t = 1; t <= 3; ++t) {
    model::ReferenceTopKOptions o;
    o.k = 5;
    o.aux_k = 3;
    o.main_scale = 1.0 / kBatch;
    o.aux_scale = config.sae.aux_alpha * variance / (kBatch * kWidth);
    // Latents that win in this batch come alive before AuxK chooses.
    const auto main = model::ReferenceTopKAux(c.p, c.x, o);
    for (std::size_t e = 0; e < main.codes.size(); ++e) {
      if (main.codes[e] > 0) dead[e % kLatents] = false;
    }
    o.dead = dead;
    const auto r = model::ReferenceTopKAux(c.p, c.x, o);
    aux_seen |= r.aux > 0;
    EXPECT_NEAR(out.losses[static_cast<std::size_t>(t - 1)], r.loss, 1e-11);
    ReferenceUpdate(c.p, r.gradient, m, v, {1e-3, 0.9, 0.999, 1e-8}, t);
  }
  EXPECT_TRUE(aux_seen);
  ExpectParameters(out.state, c.p, 1e-10);
  ExpectParameters(out.state, m, 1e-11, ".adam_m");
}

TEST_P(EngineReference, TiesGoToTheLowerGlobalLatent) {
  Case c = MakeCase(13);
  // All latents alike: every z of a token ties; the winners must be 0 .. k - 1 wherever they live.
  for (std::size_t i = 1; i < kLatents; ++i) {
    for (std::size_t j = 0; j < kWidth; ++j) c.p.w_enc[i * kWidth + j] = c.p.w_enc[j];
    c.p.b_enc[i] = c.p.b_enc[0] = 5;
  }
  const config::TrialConfig config = testing::TopKConfig(kLatents, 9, kBatch, GetParam());
  const SavedState start =
      testing::StateOf(c.p, kScale, 1, std::vector<std::int64_t>(kLatents, 0), 0);
  const absl::Status status = comm::RunInProcess(GetParam(), [&](comm::Communicator& communicator) {
    ThreadPool pool(1);
    SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(config, kWidth, communicator, pool));
    Restore(start, *engine);
    SAE_RETURN_IF_ERROR(engine->Step(c.rows));
    SAE_ASSIGN_OR_RETURN(const auto selection, engine->LastSelection());
    std::vector<std::int64_t> first(9);
    std::iota(first.begin(), first.end(), 0);
    for (const auto& ids : selection) EXPECT_EQ(ids, first);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

// Every reduction is a constant times OpenAI's loss: Adam with a vanishing epsilon then walks the
// same path.
class EngineOpenAi : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, EngineOpenAi, ::testing::Values(1, 2, 5));

TEST_P(EngineOpenAi, LossIsAConstantTimesTheirs) {
  const model::GoldenCase g = model::MakeGoldenCase();
  std::vector<float> rows(g.x.begin(), g.x.end());
  const std::vector<double> x(rows.begin(), rows.end());
  double variance = 0;
  for (std::size_t j = 0; j < 4; ++j) {
    double mean = 0;
    for (std::size_t b = 0; b < 6; ++b) mean += x[4 * b + j] / 6;
    for (std::size_t b = 0; b < 6; ++b)
      variance += (x[4 * b + j] - mean) * (x[4 * b + j] - mean) / 6;
  }
  config::TrialConfig config = WithoutDecay(testing::TopKConfig(10, 3, 6, GetParam()));
  config.sae.aux_k = 2;
  config.sae.dead_after_tokens = 1000;
  config.train.epsilon = 1e-30;
  model::ReferenceParameters p = g.p;
  std::vector<std::int64_t> since(10, 0);
  std::vector<bool> dead(10, false);
  for (const std::size_t i : {1, 4, 7, 8}) {
    since[i] = 5000;
    dead[i] = true;
    p.b_enc[i] -= 0.4;
  }
  const Outcome out = RunSteps(config, testing::StateOf(p, 1, variance, since, 0), rows, 4, 5);
  model::ReferenceParameters m = ZerosLike(p), v = ZerosLike(p);
  for (int t = 1; t <= 5; ++t) {
    model::ReferenceTopKOptions o;
    o.k = 3;
    o.aux_k = 2;
    o.main_scale = 4 / variance / 24;
    o.aux_scale = 1.0 / 32 / 24;
    const auto main = model::ReferenceTopKAux(p, x, o);
    for (std::size_t e = 0; e < main.codes.size(); ++e) {
      if (main.codes[e] > 0) dead[e % 10] = false;
    }
    o.dead = dead;
    const auto r = model::ReferenceTopKAux(p, x, o);
    EXPECT_NEAR(out.losses[static_cast<std::size_t>(t - 1)], variance * r.loss, 1e-11);
    ReferenceUpdate(p, r.gradient, m, v, {1e-3, 0.9, 0.999, 1e-30}, t);
  }
  ExpectParameters(out.state, p, 1e-9);
}

}  // namespace
}  // namespace sae::train
