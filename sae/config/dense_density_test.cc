#include "sae/config/dense_density.h"

#include <gtest/gtest.h>

namespace sae::config {
namespace {

TrialConfig Base(const char* architecture, std::int64_t latents, std::int64_t batch) {
  TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = latents;
  c.sae.l1_coefficient = 0.1;
  c.train.batch = batch;
  return Resolve(c, 64);
}

TEST(DenseDensity, SpeedDecidesWhereEntriesAreFew) {
  for (const char* architecture : {"relu_l1", "gated"}) {
    EXPECT_EQ(DenseDensity(Base(architecture, 2048, 2048)), 0.15);
    EXPECT_EQ(DenseDensity(Base(architecture, 64, 32)), 0.15);
  }
}

TEST(DenseDensity, MemoryDecidesInLargeSteps) {
  // 2^21 entries of 2^14 latents and 2^11 tokens are a sixteenth.
  EXPECT_EQ(DenseDensity(Base("relu_l1", 16384, 2048)), 0.0625);
  EXPECT_EQ(DenseDensity(Base("relu_l1", 65536, 8192)), 0.05);
  TrialConfig shards = Base("relu_l1", 65536, 8192);
  shards.ranks = 16;
  EXPECT_EQ(DenseDensity(shards), 0.0625);
}

TEST(DenseDensity, NeverWithoutADenseStep) {
  const auto with = [](auto change) {
    TrialConfig c = Base("gated", 2048, 2048);
    EXPECT_TRUE(HasDenseStep(c));
    change(c);
    EXPECT_GT(DenseDensity(c), 1);
    return HasDenseStep(c);
  };
  EXPECT_FALSE(with([](auto& c) { c.sae.architecture = "jumprelu"; }));
  EXPECT_FALSE(with([](auto& c) { c.train.rows = "lazy"; }));
  EXPECT_FALSE(with([](auto& c) { c.train.rows = "deferred"; }));
  EXPECT_FALSE(with([](auto& c) { c.sae.decoder = "on_the_fly"; }));
  EXPECT_FALSE(with([](auto& c) { c.sae.decoder = "unit_before"; }));
  EXPECT_FALSE(with([](auto& c) { c.train.reduction = "fixed"; }));
  EXPECT_FALSE(with([](auto& c) { c.train.selection = "certified"; }));
  EXPECT_FALSE(with([](auto& c) { c.train.clip = 1; }));
}

}  // namespace
}  // namespace sae::config
