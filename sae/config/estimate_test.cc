#include <gtest/gtest.h>

#include "sae/config/run_config.h"

namespace sae::config {
namespace {

constexpr std::int64_t kD = 576, kN = 2048, kB = 2048;

TrialConfig Base(const std::string& architecture = "topk") {
  TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = kN;
  c.sae.k = 32;
  c.sae.aux_k = 0;
  c.sae.target_l0 = architecture == "topk" ? 0 : 32;
  c.train.tokens = 5e5;
  return c;
}

TEST(EstimateMemory, CountsParametersAndMomentsOfOneRank) {
  TrialConfig c = Base();
  c.ranks = 2;
  const MemoryEstimate m = EstimateMemory(c, kD);
  EXPECT_EQ(m.parameters, (kN / 2 * (2 * kD + 1) + kD) * 4);
  EXPECT_EQ(m.optimizer, 2 * m.parameters + kN / 2 * 8);
  EXPECT_EQ(m.total(), m.parameters + m.optimizer + m.codes + m.buffers + m.data);
}

TEST(EstimateMemory, MillionsOfNarrowLatentsHaveBuffersOfTheirOwn) {
  TrialConfig c = Base();
  c.ranks = 4;
  c.sae.latents = 1 << 20;
  const std::int64_t small = EstimateMemory(c, 16).buffers;
  c.sae.latents = 1 << 24;
  EXPECT_EQ(EstimateMemory(c, 16).buffers - small, ((1 << 24) - (1 << 20)) / 4 * 37);
  c.sae.aux_k = 16;
  EXPECT_EQ(EstimateMemory(c, 16).buffers - small, ((1 << 24) - (1 << 20)) / 4 * 37 + (1 << 22) * 24 + kB * 2 * 16 * 4);
}

TEST(EstimateMemory, GatedAndJumpReluHaveMoreVectors) {
  const std::int64_t plain = EstimateMemory(Base("relu_l1"), kD).parameters;
  EXPECT_EQ(EstimateMemory(Base("gated"), kD).parameters, plain + 2 * kN * 4);
  EXPECT_EQ(EstimateMemory(Base("jumprelu"), kD).parameters, plain + kN * 4);
}

TEST(EstimateMemory, AMeanOfParametersIsACopyMore) {
  TrialConfig c = Base();
  const MemoryEstimate without = EstimateMemory(c, kD);
  const std::int64_t on_disk = EstimateCheckpointBytes(c, kD);
  c.train.ema = 0.999;
  EXPECT_EQ(EstimateMemory(c, kD).optimizer, without.optimizer + without.parameters);
  EXPECT_EQ(EstimateCheckpointBytes(c, kD), on_disk + without.parameters);
}

// Of the matrices, 2 and 1 1/16 bytes a moment instead of 4; vectors stay.
TEST(EstimateMemory, ReducedMomentsTakeLessInMemoryAndOnDisk) {
  TrialConfig c = Base();
  const std::int64_t full = EstimateMemory(c, kD).optimizer;
  const std::int64_t on_disk = EstimateCheckpointBytes(c, kD);
  const std::int64_t moments = 2 * kN * 2 * kD;
  c.train.moments = "bf16";
  EXPECT_EQ(EstimateMemory(c, kD).optimizer, full - moments * 2);
  EXPECT_EQ(EstimateCheckpointBytes(c, kD), on_disk - moments * 2);
  c.train.moments = "int8";
  EXPECT_EQ(EstimateMemory(c, kD).optimizer, full - moments * 3 + moments / 16);
  EXPECT_EQ(EstimateCheckpointBytes(c, kD), on_disk - moments * 3 + moments / 16);
  // A part of a block has a scale of its own.
  EXPECT_EQ(EstimateMemory(c, 65).optimizer - EstimateMemory(c, 64).optimizer,
            2 * kN * 2 * (1 + 4) + 2 * 4);
}

TEST(EstimateMemory, LazyAndDeferredRowsCountTheirSteps) {
  TrialConfig c = Base();
  const std::int64_t dense = EstimateMemory(c, kD).optimizer;
  c.train.rows = "lazy";
  EXPECT_EQ(EstimateMemory(c, kD).optimizer, dense + 2 * kN * 8);
  c.train.rows = "deferred";
  EXPECT_EQ(EstimateMemory(c, kD).optimizer, dense + kN * 8);
}

TEST(EstimateMemory, MatryoshkaHasAnErrorMatrixForEachPrefix) {
  TrialConfig c = Base("batchtopk");
  c.sae.target_l0 = 0;
  const std::int64_t without = EstimateMemory(c, kD).buffers;
  c.sae.architecture = "matryoshka";
  EXPECT_EQ(EstimateMemory(c, kD).buffers, without + 5 * kB * kD * 4);
  c.sae.prefixes = "128,512";
  EXPECT_EQ(EstimateMemory(c, kD).buffers, without + 3 * kB * kD * 4);
}

TEST(EstimateMemory, AFixedReductionKeepsSixteenReconstructions) {
  TrialConfig c = Base();
  const std::int64_t fast = EstimateMemory(c, kD).buffers;
  c.train.reduction = "fixed";
  EXPECT_EQ(EstimateMemory(c, kD).buffers, fast + 16 * kB * kD * 4);
}

TEST(EstimateMemory, CertifiedKeepsBf16CopiesAndNorms) {
  TrialConfig c = Base();
  const std::int64_t plain = EstimateMemory(c, kD).buffers;
  c.train.selection = "certified";
  EXPECT_EQ(EstimateMemory(c, kD).buffers, plain + (kN + kB) * (2 * kD + 8));
}

TEST(EstimateMemory, AuxKAndMultiTopKDecodeTwice) {
  TrialConfig c = Base();
  const MemoryEstimate plain = EstimateMemory(c, kD);
  EXPECT_EQ(plain.codes, kB * 32 * 16);
  c.sae.aux_k = 256;
  EXPECT_EQ(EstimateMemory(c, kD).codes, kB * (32 + 256) * 16);
  EXPECT_EQ(EstimateMemory(c, kD).buffers, plain.buffers + 2 * kB * kD * 4 + kN * 24);
  c.sae.aux_k.reset();  // auto: 256
  EXPECT_EQ(EstimateMemory(c, kD).codes, kB * (32 + 256) * 16);
  c.sae.aux_k = 0;
  c.sae.multi_topk = true;
  EXPECT_EQ(EstimateMemory(c, kD).codes, kB * 5 * 32 * 16);
}

TEST(EstimateMemory, ReluAndGatedHaveADensePhase) {
  const std::int64_t gradients = kN * 2 * kD * 4, block = kB * kN * 4;
  for (const char* architecture : {"relu_l1", "gated"}) {
    TrialConfig c = Base(architecture);
    const std::int64_t blocks = (c.sae.architecture == "gated" ? 3 : 2) * block;
    const MemoryEstimate dense = EstimateMemory(c, kD);
    c.train.clip = 1;  // by entries from the first step on
    const MemoryEstimate sparse = EstimateMemory(c, kD);
    EXPECT_GT(dense.buffers, sparse.buffers + gradients + blocks) << architecture;
    EXPECT_LT(dense.buffers, sparse.buffers + gradients + 2 * blocks) << architecture;
    EXPECT_EQ(sparse.codes, kB * 1024 * (c.sae.architecture == "gated" ? 40 : 16)) << architecture;
  }
  for (const char* architecture : {"topk", "jumprelu"}) {
    EXPECT_LT(EstimateMemory(Base(architecture), kD).buffers, 8 * kB * kD * 4) << architecture;
  }
}

TEST(EstimateMemory, CodesAreAShareOfTheLatentsWhereNothingRanksThem) {
  EXPECT_EQ(EstimateMemory(Base("relu_l1"), kD).codes, kB * 307 * 16);   // 15%
  EXPECT_EQ(EstimateMemory(Base("gated"), kD).codes, kB * 307 * 40);
  EXPECT_EQ(EstimateMemory(Base("jumprelu"), kD).codes, kB * 204 * 16);  // 10%
}

TEST(EstimateMemory, DataIsWindowsOfTheStoreAndTheSample) {
  TrialConfig c = Base();
  EXPECT_EQ(EstimateMemory(c, kD).data, (96 << 20) + 32768 * kD * 4);
  c.sae.transcoder = true;
  EXPECT_EQ(EstimateMemory(c, kD, kD).data, 2 * ((96 << 20) + 32768 * kD * 4));
  c.train.tokens = 4096;
  EXPECT_EQ(EstimateMemory(c, kD, kD).data, 2 * ((96 << 20) + 4096 * kD * 4));
}

TEST(EstimateMemory, ATranscodersDecoderHasTheWidthOfTheTargets) {
  TrialConfig c = Base();
  c.sae.transcoder = true;
  EXPECT_EQ(EstimateMemory(c, kD, 100).parameters, (kN * (kD + 100 + 1) + 100) * 4);
  const std::int64_t on_disk = EstimateCheckpointBytes(c, kD, 100);
  c.sae.skip = true;
  EXPECT_EQ(EstimateMemory(c, kD, 100).parameters, (kN * (kD + 100 + 1) + 100 + 100 * kD) * 4);
  EXPECT_EQ(EstimateCheckpointBytes(c, kD, 100), on_disk + 3 * 100 * kD * 4);
  c.sae.skip = c.sae.transcoder = false;
  EXPECT_EQ(EstimateMemory(c, kD, 100).parameters, (kN * (2 * kD + 1) + kD) * 4)
      << "targets that are not asked for";
}

}  // namespace
}  // namespace sae::config
