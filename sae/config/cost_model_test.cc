#include "sae/config/cost_model.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

namespace sae::config {
namespace {

TrialConfig Config(std::int64_t latents, std::int64_t batch, std::int64_t ranks) {
  TrialConfig c;
  c.ranks = ranks;
  c.sae.architecture = "topk";
  c.sae.latents = latents;
  c.sae.k = 32;
  c.train.batch = batch;
  c.train.tokens = 4e10;
  c.train.replicas = 1;
  return c;
}

StepPlan Plan(const TrialConfig& c, std::int64_t d, const std::string& cluster) {
  const absl::StatusOr<Cluster> parsed = ParseCluster(cluster);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const absl::StatusOr<StepPlan> plan = PlanStep(c, d, *parsed);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.value_or(StepPlan());
}

double PhaseMs(const StepPlan& plan, const std::string& name) {
  for (const PlanPhase& phase : plan.phases) {
    if (phase.name == name) return phase.ms;
  }
  ADD_FAILURE() << "no phase " << name;
  return 0;
}

double LinkBytes(const StepPlan& plan, const std::string& purpose) {
  for (const PlanLink& link : plan.links) {
    if (link.purpose == purpose) return link.bytes;
  }
  return 0;
}

TEST(CostModel, ParsesClusters) {
  EXPECT_EQ(ParseCluster("512xH100")->devices, 512);
  EXPECT_EQ(ParseCluster("H200")->hardware.name, "H200");
  for (const char* bad : {"0xH100", "-1xH100", "8xH900", "eightxH100", "8x"}) {
    const auto cluster = ParseCluster(bad);
    EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_NE(std::string(ParseCluster("8xH900").status().message()).find("H100, H200"),
            std::string::npos);
}

// 2 n d FLOP a token over the product's rate: 743k tokens/s at 2^17 x 4096 on one H100.
TEST(CostModel, TheProductIsItsFloor) {
  const StepPlan plan = Plan(Config(1 << 17, 32768, 1), 4096, "1xH100");
  EXPECT_NEAR(32768 / PhaseMs(plan, "encoder product") * 1e3, 743e3, 1e3);
  EXPECT_EQ(plan.links.size(), 0U);
  EXPECT_GT(plan.step_ms, PhaseMs(plan, "encoder product"));
  EXPECT_NEAR(plan.device_hours, 4e10 / plan.tokens_per_second / 3600, 1e-6);
}

// 2^17 x 4096 on 8 GPUs in one island, batch 32768: product 5.5 ms, batch gathered in 0.65 ms.
TEST(CostModel, EightGpusShareTheProduct) {
  const StepPlan plan = Plan(Config(1 << 17, 32768, 8), 4096, "8xH100");
  EXPECT_EQ(plan.shards, 8);
  EXPECT_NEAR(PhaseMs(plan, "encoder product"), 5.5, 0.05);
  EXPECT_NEAR(PhaseMs(plan, "exchange: batch"), 0.65, 0.01);
  // Float32 reconstructions, both halves of the all-reduce: twice the bytes of bf16 ones.
  EXPECT_NEAR(LinkBytes(plan, "reconstruction"), 2 * 7.0 / 8 * 32768 * 4096 * 4, 1);
  // 14 values a token and shard, as selection offers them.
  EXPECT_NEAR(LinkBytes(plan, "selection"), 4.0 * 14 * 32768 * 7 / 8, 1);
  for (const PlanLink& link : plan.links) EXPECT_FALSE(link.network) << link.purpose;
}

// Sixteen blocks of each token are gathered, in place of two halves of an all-reduce.
TEST(CostModel, AFixedReductionGathersItsBlocks) {
  TrialConfig config = Config(1 << 17, 32768, 8);
  const StepPlan fast = Plan(config, 4096, "8xH100");
  config.train.reduction = "fixed";
  const StepPlan plan = Plan(config, 4096, "8xH100");
  EXPECT_NEAR(LinkBytes(plan, "reconstruction"), 16.0 / 8 * 7 * 32768 * 4096 * 4, 1);
  // Two blocks a token written, sixteen read.
  EXPECT_NEAR(PhaseMs(plan, "blocks of reconstructions"), 18.0 * 32768 * 4096 * 4 / 3e9, 1e-6);
  EXPECT_NEAR(plan.memory_bytes() - fast.memory_bytes(), 64 << 20, 1);
  EXPECT_EQ(fast.phases.size() + 1, plan.phases.size());
}

// Winners with room for an eighth more, and 8 parts of each one's gradient, in place of 28 KB a
// token.
TEST(CostModel, ColumnsExchangeWinnersAndNorms) {
  TrialConfig config = Config(1 << 17, 32768, 8);
  const StepPlan latents = Plan(config, 4096, "8xH100");
  config.train.decoder_layout = "columns";
  const StepPlan plan = Plan(config, 4096, "8xH100");
  EXPECT_EQ(LinkBytes(plan, "reconstruction"), 0);
  EXPECT_NEAR(LinkBytes(plan, "winners"), (9.0 * 32 + 4 * 8) * 32768 * 7 / 8, 1);
  EXPECT_NEAR(LinkBytes(plan, "latent gradients"), 32.0 * 32 * 32768 * 7 / 8, 1);
  EXPECT_NEAR(LinkBytes(plan, "norms"), (4.0 + 8) * (1 << 17) * 7 / 8, 1);
  EXPECT_LT(plan.step_ms, 0.85 * latents.step_ms);
  config.sae.decoder = "free";
  const StepPlan free_rows = Plan(config, 4096, "8xH100");
  EXPECT_EQ(LinkBytes(free_rows, "norms"), 0);
  EXPECT_EQ(free_rows.phases.size() + 2, plan.phases.size());
}

TEST(CostModel, SixteenMillionLatentsCrossTheNetwork) {
  const StepPlan plan = Plan(Config(1 << 24, 131072, 512), 4096, "512xH100");
  EXPECT_NEAR(PhaseMs(plan, "encoder product"), 44, 0.2);
  EXPECT_TRUE(plan.links.front().network);
  EXPECT_NEAR(LinkBytes(plan, "selection"), 4.0 * 5 * 131072 * 511 / 512, 1);
  // Eight neighbours bring each byte into their island once.
  EXPECT_NEAR(PhaseMs(plan, "exchange: reconstruction"),
              1e3 * LinkBytes(plan, "reconstruction") / 360e9, 0.5);
  // 137 G parameters over 512 ranks: 4 bytes of weights and 8 of moments.
  const std::map<std::string, double> memory = [&] {
    std::map<std::string, double> out;
    for (const PlanMemory& part : plan.memory) out[part.part] = part.bytes;
    return out;
  }();
  EXPECT_NEAR(memory.at("weights"), 4.0 * 2 * 4096 * (1 << 24) / 512, 1);
  EXPECT_NEAR(memory.at("moments"), 2 * memory.at("weights"), 1);
}

// Every token's 32 entries over 2^24 latents on 512 ranks: 8192 entries on the 32768 of each.
TEST(CostModel, LazyRowsMoveWhatIsTouched) {
  TrialConfig c = Config(1 << 24, 131072, 512);
  c.train.beta1 = 0;
  const StepPlan dense = Plan(c, 4096, "512xH100");
  c.train.rows = "lazy";
  const StepPlan lazy = Plan(c, 4096, "512xH100");
  const double all = PhaseMs(dense, "row update");
  EXPECT_NEAR(all, 1e3 * 2.0 * 32768 * 4096 * 24 / 3.0e12, 0.1 * all);
  EXPECT_NEAR(PhaseMs(lazy, "row update"), (1 - std::exp(-0.25)) * all, 1e-3 * all);
  EXPECT_NEAR(dense.step_ms - lazy.step_ms, all - PhaseMs(lazy, "row update"), 1e-6);
  EXPECT_EQ(lazy.memory_bytes() - dense.memory_bytes(), 8 * 32768);
  // Where every latent is touched nothing is saved.
  TrialConfig small = Config(1 << 12, 32768, 1);
  const double before = PhaseMs(Plan(small, 768, "1xH100"), "row update");
  small.train.beta1 = 0;
  small.train.rows = "lazy";
  EXPECT_NEAR(PhaseMs(Plan(small, 768, "1xH100"), "row update"), before, 1e-3 * before);
}

// The encoder's rows move all; a touched decoder row moves twice.
TEST(CostModel, DeferredRowsMoveTouchedDecoderRowsTwice) {
  TrialConfig c = Config(1 << 24, 131072, 512);
  const StepPlan dense = Plan(c, 4096, "512xH100");
  c.train.rows = "deferred";
  const StepPlan deferred = Plan(c, 4096, "512xH100");
  const double all = PhaseMs(dense, "row update");
  EXPECT_NEAR(PhaseMs(deferred, "row update"), (1.5 - std::exp(-0.25)) * all, 1e-3 * all);
  EXPECT_EQ(deferred.memory_bytes() - dense.memory_bytes(), 8 * 32768);
}

TEST(CostModel, ReplicasExchangeGradientsAndKeepTheirOwnMoments) {
  TrialConfig c = Config(1 << 17, 32768, 8);
  c.train.replicas = 2;
  const StepPlan plan = Plan(c, 4096, "8xH100");
  EXPECT_EQ(plan.replicas, 2);
  EXPECT_EQ(plan.shards, 4);
  const double parameters = 2.0 * (1 << 17) / 4 * 4096;
  EXPECT_NEAR(LinkBytes(plan, "gradients"), 0.5 * parameters * 4, 1);
  EXPECT_NEAR(LinkBytes(plan, "updated rows"), 0.5 * parameters * 4, 1);
  // All rows are written out, the owned half read twice.
  EXPECT_NEAR(PhaseMs(plan, "gradient rows"), 1e3 * 2 * parameters * 4 / 3.0e12, 1e-6);
  double rows = 0;
  for (const PlanMemory& part : plan.memory) rows += part.part == "gradient rows" ? part.bytes : 0;
  EXPECT_EQ(rows, 4 * 1.5 * parameters);
}

// As the engine on a GPU does.
TEST(CostModel, AutoReplicasAreOneWhereTheStepOnAGpuHasNoMore) {
  TrialConfig c = Config(1 << 12, 32768, 8);
  c.train.replicas.reset();
  EXPECT_EQ(Plan(c, 768, "8xH100").replicas, Resolve(c, 768).train.replicas);
  EXPECT_GT(Plan(c, 768, "8xH100").replicas, 1);
  c.sae.architecture = "jumprelu";
  c.sae.k = 0;
  c.sae.l0_coefficient = 0.1;
  c.sae.frequency_coefficient = 0.1;
  EXPECT_GT(Resolve(c, 768).train.replicas, 1);
  EXPECT_EQ(Plan(c, 768, "8xH100").replicas, 1);
}

TEST(CostModel, RefusesShardsThatDoNotDivide) {
  const auto plan = PlanStep(Config(1 << 17, 32768, 3), 768, *ParseCluster("3xH100"));
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PlanStep(Config(1 << 17, 32768, 8), 0, *ParseCluster("8xH100")).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sae::config
