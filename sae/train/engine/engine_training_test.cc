// Learning on synthetic data whose features are known.
#include <cmath>
#include <cstdio>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 32;
constexpr std::int64_t kFeatures = 48;
constexpr std::int64_t kBatch = 256;

struct Result {
  std::map<std::string, double> heldout;
  double recovered = 0;  // mean over features of the best cosine with a decoder row
};

Result Train(config::TrialConfig config, int steps, bool* used_dense = nullptr) {
  testing::SparseData data(kFeatures, kWidth, 3, 17);
  config.train.tokens = static_cast<double>(steps) * kBatch;
  config.train.lr = 5e-3;
  config.train.lr_warmup_steps = 20;
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  auto engine = *CreateEngine<float>(config, kWidth, *self, pool);
  EXPECT_TRUE(engine->Initialise(data.Rows(2048, 3)).ok());
  for (int t = 0; t < steps; ++t) {
    const absl::Status status = engine->Step(data.Rows(kBatch, 3));
    EXPECT_TRUE(status.ok()) << status;
    if (used_dense != nullptr && engine->LastMetrics()->at("dense_step") > 0) *used_dense = true;
  }
  Result r;
  std::vector<float> mean(kWidth, 0.0F);
  for (std::size_t i = 0; i < kFeatures * kWidth; ++i) {
    mean[i % kWidth] += static_cast<float>(3 * data.directions()[i] * 3.0 / kFeatures);
  }
  for (float& m : mean) m += 0.3F;
  engine->BeginEvaluation(mean);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(engine->EvaluateBatch(data.Rows(kBatch, 3)).ok());
  r.heldout = *engine->FinishEvaluation();
  const model::State state = engine->state();
  const float* w_dec = static_cast<const float*>(state.tensors[1].data);
  for (std::size_t f = 0; f < kFeatures; ++f) {
    double best = 0;
    for (std::int64_t i = 0; i < state.shard.count; ++i) {
      double cosine = 0;
      for (std::size_t j = 0; j < kWidth; ++j) {
        cosine += data.directions()[f * kWidth + j] *
                  static_cast<double>(w_dec[static_cast<std::size_t>(i) * kWidth + j]);
      }
      best = std::max(best, cosine);
    }
    r.recovered += best / kFeatures;
  }
  std::printf("fvu %.4f l0 %.2f gamma %.4f dead %.3f recovered %.3f\n", r.heldout["heldout.fvu"],
              r.heldout["heldout.l0"], r.heldout["heldout.gamma"],
              r.heldout["heldout.dead_fraction"], r.recovered);
  return r;
}

TEST(EngineTraining, TopKLearnsTheFeatures) {
  config::TrialConfig config = testing::TopKConfig(64, 5, kBatch);
  config.sae.aux_k = 8;
  const Result r = Train(config, 1000);
  EXPECT_LT(r.heldout.at("heldout.fvu"), 0.1);
  EXPECT_LE(r.heldout.at("heldout.l0"), 5);
  EXPECT_GT(r.recovered, 0.9);
  EXPECT_NEAR(r.heldout.at("heldout.gamma"), 1, 0.02);
  EXPECT_LT(r.heldout.at("heldout.dead_fraction"), 0.1);
}

TEST(EngineTraining, ReluLearnsTheFeaturesAndShrinks) {
  bool dense = false;
  config::TrialConfig config = testing::ReluConfig(64, 0.05, kBatch);
  const Result r = Train(config, 1000, &dense);
  EXPECT_TRUE(dense);
  EXPECT_LT(r.heldout.at("heldout.fvu"), 0.15);
  EXPECT_GT(r.recovered, 0.85);
  EXPECT_LT(r.heldout.at("heldout.gamma"), 0.97);
}

}  // namespace
}  // namespace sae::train
