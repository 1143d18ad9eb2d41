#include <cmath>

#include <gtest/gtest.h>

#include "sae/config/run_config.h"

namespace sae::config {
namespace {

TrialConfig Base(const std::string& architecture) {
  TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = 16384;
  c.sae.k = 32;
  c.train.tokens = 5e5;
  return c;
}

TEST(Resolve, FollowsTheArchitecture) {
  struct Row {
    const char* architecture;
    const char* penalty;
    double beta1;
    std::int64_t aux_k;
  };
  for (const Row& row : {Row{"relu_l1", "l1", 0.9, 0}, Row{"topk", "none", 0.9, 256},
                         Row{"batchtopk", "none", 0.9, 256}, Row{"matryoshka", "none", 0.9, 256},
                         Row{"gated", "l1", 0, 0}, Row{"jumprelu", "l0", 0, 0}}) {
    const TrialConfig r = Resolve(Base(row.architecture), 576);
    EXPECT_EQ(r.sae.penalty, row.penalty) << row.architecture;
    EXPECT_EQ(*r.train.beta1, row.beta1) << row.architecture;
    EXPECT_EQ(*r.sae.aux_k, row.aux_k) << row.architecture;
    EXPECT_EQ(r.sae.pre_bias, "on") << row.architecture;
    EXPECT_EQ(r.sae.decoder, "unit") << row.architecture;
    EXPECT_EQ(r.sae.loss, "sum") << row.architecture;
    EXPECT_DOUBLE_EQ(*r.train.epsilon, 1e-8) << row.architecture;
  }
}

TEST(Resolve, PenaltiesByDecoderNormHaveFreeRowsAndNoPreBias) {
  for (const auto& [architecture, penalty] :
       {std::pair{"relu_l1", "l1_norm"}, std::pair{"jumprelu", "tanh"}}) {
    TrialConfig c = Base(architecture);
    c.sae.penalty = penalty;
    const TrialConfig r = Resolve(c, 576);
    EXPECT_EQ(r.sae.decoder, "free");
    EXPECT_EQ(r.sae.pre_bias, "off");
    c.sae.decoder = "unit";
    c.sae.pre_bias = "on";
    EXPECT_EQ(Resolve(c, 576).sae.decoder, "unit") << "what is set stays";
    EXPECT_EQ(Resolve(c, 576).sae.pre_bias, "on");
  }
}

TEST(Resolve, ATranscoderHasNoPreBias) {
  TrialConfig c = Base("topk");
  c.sae.transcoder = true;
  EXPECT_EQ(Resolve(c, 576).sae.pre_bias, "off");
}

TEST(Resolve, ThePresetOpenAiIsTheirOrderLossAndEpsilon) {
  TrialConfig c = Base("topk");
  c.train.preset = "openai";
  const TrialConfig r = Resolve(c, 576);
  EXPECT_EQ(r.sae.decoder, "unit_before");
  EXPECT_EQ(r.sae.loss, "openai");
  EXPECT_DOUBLE_EQ(*r.train.epsilon, 6.25e-10);
}

TEST(Resolve, StepsAndTokensAreSharesOfTheRunUpToALimit) {
  TrialConfig c = Base("relu_l1");
  TrialConfig r = Resolve(c, 576);  // 244 steps
  EXPECT_EQ(*r.train.lr_warmup_steps, 12);
  EXPECT_EQ(*r.train.sparsity_warmup_steps, 24);
  EXPECT_EQ(*r.sae.dead_after_tokens, 62500);
  EXPECT_DOUBLE_EQ(*r.train.eval_every_tokens, 5e4);
  EXPECT_DOUBLE_EQ(*r.train.lr, 2e-4);
  c.train.tokens = 1e9;  // 488281 steps
  c.sae.latents = 65536;
  r = Resolve(c, 576);
  EXPECT_EQ(*r.train.lr_warmup_steps, 1000);
  EXPECT_EQ(*r.train.sparsity_warmup_steps, 5000);
  EXPECT_EQ(*r.sae.dead_after_tokens, 10000000);
  EXPECT_DOUBLE_EQ(*r.train.lr, 1e-4);
}

TEST(Resolve, ThresholdsKeepWhatDataDecides) {
  TrialConfig c = Base("jumprelu");
  TrialConfig r = Resolve(c, 576);
  EXPECT_FALSE(r.sae.bandwidth.has_value());
  EXPECT_FALSE(r.sae.threshold_init.has_value());
  EXPECT_DOUBLE_EQ(*r.sae.threshold_lr, 3e-2);
  c.sae.threshold_parameter = "raw";
  EXPECT_FALSE(Resolve(c, 576).sae.threshold_lr.has_value());
  c.sae.penalty = "tanh";
  c.sae.input_scale = "mean_norm";
  EXPECT_DOUBLE_EQ(*Resolve(c, 576).sae.bandwidth, 2);
  c.sae.input_scale = "rms";  // rows of norm 1, not sqrt(576)
  EXPECT_DOUBLE_EQ(*Resolve(c, 576).sae.bandwidth, 2.0 / 24);
  c.sae.input_scale = "none";
  EXPECT_FALSE(Resolve(c, 576).sae.bandwidth.has_value());
}

TEST(Resolve, AuxKIsAPowerOfTwoAndFitsTheDictionary) {
  TrialConfig c = Base("topk");
  EXPECT_EQ(*Resolve(c, 64).sae.aux_k, 32);
  EXPECT_EQ(*Resolve(c, 2304).sae.aux_k, 1024);
  c.sae.latents = 100;
  EXPECT_EQ(*Resolve(c, 2304).sae.aux_k, 100);
  c.sae.aux_k = 0;
  EXPECT_EQ(*Resolve(c, 2304).sae.aux_k, 0);
}

TEST(Resolve, MatryoshkasPrefixesAreWrittenOut) {
  TrialConfig c = Base("matryoshka");
  EXPECT_EQ(Resolve(c, 576).sae.prefixes, "1024,2048,4096,8192,16384");
  c.sae.prefixes = "128,512";
  EXPECT_EQ(Resolve(c, 576).sae.prefixes, "128,512,16384");
  c.sae.prefixes = "512,128";  // Validate refuses it
  EXPECT_EQ(Resolve(c, 576).sae.prefixes, "512,128");
  EXPECT_EQ(Resolve(Base("topk"), 576).sae.prefixes, "auto");
}

TEST(Resolve, TwiceIsOnce) {
  for (const std::string& architecture : Architectures()) {
    const TrialConfig once = Resolve(Base(architecture), 576);
    EXPECT_EQ(ToJson(Resolve(once, 576)), ToJson(once)) << architecture;
  }
}

TEST(Resolve, NonsenseIsNoUndefinedBehaviour) {
  TrialConfig c = Base("topk");
  c.train.batch = 0;
  c.train.tokens = std::nan("");
  EXPECT_EQ(TotalSteps(c), 1);
  c.train.tokens = 1e300;
  EXPECT_GT(TotalSteps(c), 0);
  c.train.tokens = -1e300;
  EXPECT_EQ(*Resolve(c, 576).sae.dead_after_tokens, 1);
}

}  // namespace
}  // namespace sae::config
