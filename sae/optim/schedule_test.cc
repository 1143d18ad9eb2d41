#include "sae/optim/schedule.h"

#include "gtest/gtest.h"

namespace sae::optim {
namespace {

TEST(Schedule, WarmsUpFromTheFirstStepAndDecaysOverTheLastShare) {
  const Schedule s{100, 10, 0.2, 0, 1.0};
  EXPECT_DOUBLE_EQ(s.LearningRate(0), 0.1);
  EXPECT_DOUBLE_EQ(s.LearningRate(9), 1.0);
  EXPECT_DOUBLE_EQ(s.LearningRate(79), 1.0);
  EXPECT_DOUBLE_EQ(s.LearningRate(90), 0.5);
  EXPECT_DOUBLE_EQ(s.LearningRate(99), 0.05);
  EXPECT_DOUBLE_EQ(s.LearningRate(100), 0);
  EXPECT_DOUBLE_EQ(s.LearningRate(150), 0);
}

TEST(Schedule, WithoutWarmUpOrDecayIsConstant) {
  const Schedule s{100, 0, 0, 0, 0.25};
  EXPECT_EQ(s.LearningRate(0), 0.25);
  EXPECT_EQ(s.LearningRate(99), 0.25);
  EXPECT_EQ(s.SparsityShare(0), 1);
}

TEST(Schedule, SparsityRisesFromZero) {
  const Schedule s{100, 0, 0, 20, 1};
  EXPECT_EQ(s.SparsityShare(0), 0);
  EXPECT_EQ(s.SparsityShare(5), 0.25);
  EXPECT_EQ(s.SparsityShare(20), 1);
  EXPECT_EQ(s.SparsityShare(90), 1);
}

TEST(Schedule, TakesTheResolvedConfig) {
  config::TrialConfig c;
  c.sae.latents = 16384;
  c.train.tokens = 2048.0 * 1000;
  const Schedule s = ScheduleOf(config::Resolve(c, 64));
  EXPECT_EQ(s.total_steps, 1000);
  EXPECT_EQ(s.warmup_steps, 50);
  EXPECT_EQ(s.sparsity_warmup_steps, 100);
  EXPECT_DOUBLE_EQ(s.lr, 2e-4);
}

TEST(Schedule, CosineWarmUpRisesFromATenth) {
  Schedule schedule;
  schedule.total_steps = 10000;
  schedule.warmup_steps = 1000;
  schedule.lr = 2;
  schedule.cosine = true;
  EXPECT_NEAR(schedule.LearningRate(0), 0.2, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(500), 2 * (0.1 + 0.45), 1e-12);
  EXPECT_NEAR(schedule.LearningRate(1000), 2, 1e-12);
  EXPECT_NEAR(schedule.LearningRate(9999), 2, 1e-12);
}

}  // namespace
}  // namespace sae::optim
