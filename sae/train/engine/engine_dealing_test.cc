// Latents dealt to ranks against one rank, float64, one claim a test: what a step computes does not
// depend on who owns which latent.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/shard.h"
#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Penalised;
using testing::Ranked;
using testing::RunVariant;
using testing::SavedState;
using testing::Setting;

constexpr std::int64_t kLatents = 96;  // 3 * 2^5: three ranks divide it

struct Trace {
  std::vector<std::map<std::string, double>> metrics;
  SavedState end;
};

// `silent`: every fifth latent starts with a bias that keeps it from firing.
Trace Train(const Setting& set, std::int64_t ranks, std::int64_t steps, bool silent = false) {
  config::TrialConfig config = testing::ConfigOf({"", set}, ranks);
  config.sae.latents = kLatents;
  config.train.replicas = 1;
  const auto batches = testing::BatchesOf(config, testing::kRunWidth, steps, 8);
  Trace out;
  Mutex mutex;
  const absl::Status status =
      comm::RunInProcess(static_cast<int>(ranks), [&](comm::Communicator& c) -> absl::Status {
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(auto engine,
                             CreateEngine<double>(config, testing::kRunWidth, c, pool));
        SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
        const model::State state = engine->state();
        for (const model::StateTensor& t : state.tensors) {
          for (std::int64_t i = 0; silent && t.name == "b_enc" && i < state.shard.count; ++i)
            static_cast<double*>(t.data)[i] = state.shard.Global(i) % 5 == 0 ? -20 : 0;
        }
        for (const auto& rows : batches) {
          SAE_RETURN_IF_ERROR(engine->Step(rows));
          SAE_ASSIGN_OR_RETURN(auto metrics, engine->LastMetrics());
          if (c.rank() == 0) out.metrics.push_back(std::move(metrics));
        }
        MutexLock lock(mutex);
        Save(engine->state(), &out.end);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

// Few winners, and a latent is dead that was silent in one batch.
void DieSoon(config::TrialConfig& c) {
  c.sae.k = 2;
  c.sae.dead_after_tokens = testing::kRunBatch;
}

void ExpectClose(const SavedState& one, const SavedState& many, const std::string& name,
                 double tolerance) {
  const std::vector<double> a = testing::Doubles(one, name), b = testing::Doubles(many, name);
  ASSERT_EQ(a.size(), b.size());
  double size = 0;
  for (const double v : a) size = std::max(size, std::abs(v));
  EXPECT_GT(size, 0) << name;
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], tolerance * size) << name << " " << i;
}

void ExpectSameMetric(const Trace& one, const Trace& many, const std::string& name,
                      double tolerance) {
  ASSERT_EQ(one.metrics.size(), many.metrics.size());
  for (std::size_t t = 0; t < one.metrics.size(); ++t) {
    const double a = one.metrics[t].at(name);
    ASSERT_NEAR(a, many.metrics[t].at(name), tolerance * std::abs(a)) << name << " " << t;
  }
}

class EngineDealing : public ::testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(P, EngineDealing, ::testing::Values(2, 3, 4, 8));

TEST_P(EngineDealing, LatentsAreNotInBlocks) {
  for (int rank = 0; rank < GetParam(); ++rank) {
    const model::LatentShard shard =
        model::ShardOf(kLatents, static_cast<int>(GetParam()), rank);
    EXPECT_GT(shard.Global(shard.count - 1) - shard.Global(0), shard.count);
  }
}

TEST_P(EngineDealing, GradientsAreThoseOfOneRank) {
  const std::vector<Setting> settings = {
      Ranked("topk", 8), Ranked("topk", 0, [](auto& c) { c.sae.multi_topk = true; }),
      Ranked("batchtopk", 8), Ranked("matryoshka", 8, [](auto& c) { c.sae.prefixes = "5,40"; }),
      Penalised("relu_l1"), Penalised("gated"), Penalised("jumprelu")};
  for (const Setting& more : settings) {
    const Setting set = [&](config::TrialConfig& c) {
      more(c);
      c.train.beta1 = 0;  // m after a step is its gradient
      c.train.lr_warmup_steps = 0;
      c.train.sparsity_warmup_steps = 0;
    };
    const Trace one = Train(set, 1, 2), many = Train(set, GetParam(), 2);
    for (const char* name : {"W_enc.adam_m", "W_dec.adam_m", "b_enc.adam_m", "b_dec.adam_m"})
      ExpectClose(one.end, many.end, name, 1e-11);
  }
}

TEST_P(EngineDealing, ClipNormIsThatOfOneRank) {
  const Setting set = Ranked("topk", 8, [](auto& c) { c.train.clip = 0.05; });
  const Trace one = Train(set, 1, 12), many = Train(set, GetParam(), 12);
  ExpectSameMetric(one, many, "gradient_norm", 1e-10);
  EXPECT_GT(one.metrics[0].at("gradient_norm"), 0.05);
}

TEST_P(EngineDealing, RunningMeansAreThoseOfOneRank) {
  const Setting set = Ranked("topk", 8, [](auto& c) { c.train.ema = 0.9; });
  const Trace one = Train(set, 1, 12), many = Train(set, GetParam(), 12);
  for (const char* name : {"W_enc.ema", "W_dec.ema", "b_enc.ema", "b_dec.ema"})
    ExpectClose(one.end, many.end, name, 1e-9);
  EXPECT_EQ(one.end.doubles.at("ema_weight"), many.end.doubles.at("ema_weight"));
}

TEST_P(EngineDealing, DeadCountersAreThoseOfOneRank) {
  const Setting set = Ranked("topk", 0, DieSoon);
  const Trace one = Train(set, 1, 20), many = Train(set, GetParam(), 20);
  EXPECT_TRUE(one.end.tensors.at("tokens_since_fired") ==
              many.end.tensors.at("tokens_since_fired"));
  ExpectSameMetric(one, many, "train.dead_fraction", 0);
  EXPECT_GT(one.metrics.back().at("train.dead_fraction"), 0);
}

TEST_P(EngineDealing, ResamplingRenewsTheSameLatents) {
  // An eighth of the run is 12 steps.
  const auto set = [](const char* resample) {
    return Penalised("relu_l1", [=](auto& c) { c.sae.resample = resample; });
  };
  const Trace one = Train(set("on"), 1, 14, true), many = Train(set("on"), GetParam(), 14, true);
  ExpectClose(one.end, many.end, "W_enc", 1e-9);
  ExpectClose(one.end, many.end, "W_dec", 1e-9);
  EXPECT_TRUE(one.end.tensors.at("tokens_since_fired") ==
              many.end.tensors.at("tokens_since_fired"));
  const Trace none = Train(set("off"), 1, 14, true);
  EXPECT_FALSE(none.end.tensors.at("W_dec") == one.end.tensors.at("W_dec"));
}

TEST_P(EngineDealing, TargetL0ControlIsThatOfOneRank) {
  for (const char* architecture : {"relu_l1", "gated", "jumprelu"}) {
    const Setting set = Penalised(architecture, [](auto& c) { c.sae.target_l0 = 6; });
    const Trace one = Train(set, 1, 24), many = Train(set, GetParam(), 24);
    ExpectSameMetric(one, many, "sparsity_coefficient", 1e-9);
    EXPECT_NE(one.metrics[8].at("sparsity_coefficient"),
              one.metrics[20].at("sparsity_coefficient"));
  }
}

TEST_P(EngineDealing, AuxKIsThatOfOneRank) {
  const Setting set = Ranked("topk", 8, DieSoon);
  const Trace one = Train(set, 1, 20), many = Train(set, GetParam(), 20);
  ExpectSameMetric(one, many, "train.aux_loss", 1e-9);
  EXPECT_GT(one.metrics.back().at("train.aux_loss"), 0);
  ExpectClose(one.end, many.end, "W_enc", 1e-9);
}

}  // namespace
}  // namespace sae::train
