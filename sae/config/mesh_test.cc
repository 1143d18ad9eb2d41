#include "sae/config/mesh.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::config {
namespace {
using ::testing::HasSubstr;

TrialConfig Config(std::int64_t latents, std::int64_t batch, std::int64_t ranks) {
  TrialConfig c;
  c.ranks = ranks;
  c.sae.latents = latents;
  c.sae.k = 32;
  c.train.batch = batch;
  c.train.tokens = 1e9;
  return c;
}

TEST(Mesh, AutoIsTheDivisorNearestInRatio) {
  EXPECT_EQ(AutoReplicas(Config(1 << 17, 1 << 15, 8)), 1);    // D* = 1.22
  EXPECT_EQ(AutoReplicas(Config(1 << 20, 1 << 17, 64)), 2);   // 2.45: nearer to 2 than to 4
  EXPECT_EQ(AutoReplicas(Config(1 << 24, 1 << 17, 512)), 2);  // 1.73
  EXPECT_EQ(AutoReplicas(Config(1 << 14, 1 << 15, 8)), 4);    // 3.46
  EXPECT_EQ(AutoReplicas(Config(1 << 12, 1 << 17, 8)), 8);    // 13.9: no more than the ranks
  EXPECT_EQ(AutoReplicas(Config(1 << 14, 1 << 15, 1)), 1);
  EXPECT_EQ(AutoReplicas(Config(12 << 10, 3 * 4096, 6)), 2);  // 2.12
  EXPECT_EQ(AutoReplicas(Config(1 << 14, 32767, 8)),
            1);  // an odd batch: no even divisor divides it
}

TEST(Mesh, AsByTryingEveryDivisor) {
  for (std::int64_t ranks = 1; ranks <= 96; ++ranks) {
    for (const std::int64_t batch : {30, 4096, 30030, 1 << 17}) {
      for (const std::int64_t latents : {64, 1000, 1 << 20}) {
        const double best =
            std::sqrt(0.75 * static_cast<double>(batch * ranks) / static_cast<double>(latents));
        std::int64_t nearest = 1;
        for (std::int64_t d = 2; d <= ranks; ++d) {
          if (ranks % d != 0 || batch % d != 0) continue;
          if (std::abs(std::log(static_cast<double>(d) / best)) <
              std::abs(std::log(static_cast<double>(nearest) / best)))
            nearest = d;
        }
        EXPECT_EQ(AutoReplicas(Config(latents, batch, ranks)), nearest)
            << ranks << " " << batch << " " << latents;
      }
    }
  }
}

TEST(Mesh, MoreRanksThanAnyGangHasAreRefusedAtOnce) {
  const TrialConfig c = Config(std::int64_t{1} << 31, std::int64_t{1} << 40, std::int64_t{1} << 40);
  EXPECT_EQ(AutoReplicas(c), 1);
  EXPECT_THAT(std::string(Validate(c, 64).message()),
              HasSubstr("ranks: 1099511627776 is more than 65536"));
}

TEST(Mesh, OneReplicaWhereMoreCannotBe) {
  TrialConfig c = Config(1 << 14, 1 << 15, 8);
  c.train.reduction = "fixed";
  EXPECT_EQ(AutoReplicas(c), 1);
  c.train.reduction = "fast";
  c.train.rows = "deferred";
  EXPECT_EQ(AutoReplicas(c), 1);
}

TEST(Mesh, ResolveSetsIt) {
  EXPECT_EQ(Resolve(Config(1 << 14, 1 << 15, 8), 64).train.replicas, 4);
  TrialConfig c = Config(1 << 14, 1 << 15, 8);
  c.train.replicas = 2;
  EXPECT_EQ(Resolve(c, 64).train.replicas, 2);
  EXPECT_EQ(Replicas(c), 2);
}

TEST(Mesh, ValidateNamesWhatDoesNotDivide) {
  TrialConfig c = Config(1 << 14, 1 << 15, 8);
  c.train.replicas = 4;
  EXPECT_TRUE(Validate(c).ok()) << Validate(c);
  c.train.replicas = 3;
  EXPECT_THAT(Message(Validate(c)), HasSubstr("train.replicas: 3 does not divide ranks 8"));
  c.train.replicas = 0;
  EXPECT_THAT(Message(Validate(c)), HasSubstr("train.replicas: 0: needs 1 or more, or auto"));
  c.train.replicas = 8;
  c.train.batch = 4100;
  EXPECT_THAT(Message(Validate(c)),
              HasSubstr("train.replicas: 8 does not divide train.batch 4100"));
  c.train.batch = 4096;
  c.train.reduction = "fixed";
  EXPECT_THAT(Message(Validate(c)), HasSubstr("train.replicas: 8: train.reduction: fixed"));
  c.train.reduction = "fast";
  c.train.rows = "deferred";
  EXPECT_THAT(Message(Validate(c)), HasSubstr("train.replicas: 8: train.rows: deferred"));
}

TEST(Mesh, ColumnsAreRefusedWithTheRemedy) {
  TrialConfig c = Config(1 << 14, 4096, 8);
  c.train.decoder_layout = "columns";
  EXPECT_TRUE(Validate(c, 64).ok()) << Validate(c, 64);
  EXPECT_EQ(Resolve(c, 64).train.replicas, 1);
  EXPECT_GT(EstimateMemory(c, 64).codes, 0);
  c.ranks = 16;
  EXPECT_THAT(Message(Validate(c, 64)), HasSubstr("columns: ranks 16: use 1, 2, 4 or 8, or"));
  c.ranks = 8;
  EXPECT_THAT(Message(Validate(c, 60)), HasSubstr("columns: width 60 is no multiple of 8"));
  c.train.replicas = 2;
  EXPECT_THAT(Message(Validate(c, 64)), HasSubstr("train.replicas: 2: train.decoder_layout"));
  c.train.replicas = 1;
  c.sae.decoder = "on_the_fly";
  c.sae.multi_topk = true;
  c.train.rows = "lazy";
  c.train.beta1 = 0;
  c.train.moments = "bf16";
  const std::string why(Message(Validate(c, 64)));
  EXPECT_THAT(why, HasSubstr("columns: sae.decoder on_the_fly: use unit or free"));
  EXPECT_THAT(why, HasSubstr("columns: sae.multi_topk true: use false"));
  EXPECT_THAT(why, HasSubstr("columns: train.moments bf16: use f32"));
  EXPECT_THAT(why, HasSubstr("columns: train.rows lazy: use dense"));
}

// n = 4096, d = 64 on 8 ranks: 4 replicas of 2 shards hold 2048 latents each and a quarter of the
// moments.
TEST(Mesh, ReplicasKeepTheMomentsOfTheirOwnRowsOnly) {
  constexpr std::int64_t kD = 64, kN = 4096;
  TrialConfig c = Config(kN, 2048, 8);
  c.sae.aux_k = 0;
  c.train.replicas = 4;
  const MemoryEstimate m = EstimateMemory(c, kD);
  constexpr std::int64_t kShard = kN / 2 * (2 * kD + 1) + kD, kOwn = kN / 8 * (2 * kD + 1) + kD;
  EXPECT_EQ(m.parameters, 4 * kShard);
  EXPECT_EQ(m.optimizer, 2 * 4 * kOwn + kN / 2 * 8);
  EXPECT_EQ(m.codes, 2048 / 4 * 32 * 16);
  TrialConfig one = c;
  one.train.replicas = 1;
  one.ranks = 2;
  one.train.batch = 2048 / 4;
  // The reduced gradient rows and a chunk on its way: on top of what one replica of that size
  // holds.
  EXPECT_EQ(m.buffers, EstimateMemory(one, kD).buffers + m.gradients);
  EXPECT_GE(m.gradients, kN / 8 * 2 * kD * 4);
  EXPECT_EQ(EstimateMemory(one, kD).gradients, 0);
}

}  // namespace
}  // namespace sae::config
