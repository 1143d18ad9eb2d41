#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/config/run_config.h"

namespace sae::config {
namespace {
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A config of the architecture that is right.
TrialConfig Good(const std::string& architecture = "topk") {
  TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = 2048;
  if (architecture == "topk" || architecture == "batchtopk" || architecture == "matryoshka") {
    c.sae.k = 32;
  } else {
    c.sae.target_l0 = 32;
  }
  c.train.tokens = 5e5;
  return c;
}

std::string Why(const TrialConfig& c, std::int64_t target_d = 0) {
  return Message(Validate(c, 576, target_d));
}

/// `path` set to `value` (JSON) in a right config of the architecture gives exactly `problem`.
void ExpectProblem(const std::string& architecture, const std::string& path,
                   const std::string& value, const std::string& problem) {
  TrialConfig c = Good(architecture);
  ASSERT_TRUE(SetField(c, path, value).ok()) << path;
  EXPECT_EQ(Why(c), problem) << architecture << " " << path << "=" << value;
}

TEST(Validate, EveryArchitectureIsAcceptedBeforeAndAfterResolve) {
  for (const std::string& architecture : Architectures()) {
    const TrialConfig c = Good(architecture);
    EXPECT_EQ(Why(c), "") << architecture;
    EXPECT_EQ(Why(Resolve(c, 576)), "") << architecture;
  }
}

TEST(Validate, EveryVariantIsAcceptedBeforeAndAfterResolve) {
  const std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>> all =
      {
          {"topk",
           {{"sae.multi_topk", "true"}, {"train.preset", "\"openai\""}, {"train.ema", "0.999"}}},
          {"topk", {{"train.rows", "\"lazy\""}, {"train.beta1", "0"}, {"train.clip", "1"}}},
          {"topk", {{"train.rows", "\"deferred\""}, {"sae.decoder", "\"free\""}}},
          {"topk", {{"train.selection", "\"certified\""}, {"train.reduction", "\"fixed\""}}},
          {"batchtopk", {{"sae.input_scale", "\"layer_norm\""}, {"sae.loss", "\"fvu\""}}},
          {"matryoshka",
           {{"sae.prefixes", "\"128,512\""}, {"sae.prefix_weights", "\"mean_with_bias\""}}},
          {"relu_l1",
           {{"sae.penalty", "\"l1_norm\""},
            {"sae.input_scale", "\"mean_norm\""},
            {"train.clip", "1"}}},
          {"relu_l1",
           {{"sae.penalty", "\"lp\""}, {"sae.target_l0", "0"}, {"sae.l1_coefficient", "0.1"}}},
          {"relu_l1", {{"sae.target_l0", "0"}}},  // no penalty at all
          {"relu_l1", {{"sae.resample", "\"on\""}, {"sae.decoder", "\"on_the_fly\""}}},
          {"relu_l1", {{"sae.k", "64"}}},  // another architecture's, and harmless
          {"gated", {{"sae.resample", "\"on\""}, {"train.rows", "\"lazy\""}}},
          {"gated", {{"sae.target_l0", "0"}, {"sae.l1_coefficient", "0.1"}}},
          {"jumprelu", {{"sae.penalty", "\"l0_quadratic\""}, {"sae.l0_coefficient", "1"}}},
          {"jumprelu", {{"sae.penalty", "\"tanh\""}, {"sae.input_scale", "\"mean_norm\""}}},
          {"jumprelu",
           {{"sae.threshold_parameter", "\"raw\""}, {"sae.frequency_coefficient", "0.1"}}},
      };
  for (const auto& [architecture, fields] : all) {
    TrialConfig c = Good(architecture);
    for (const auto& [path, value] : fields) ASSERT_TRUE(SetField(c, path, value).ok()) << path;
    EXPECT_EQ(Why(c), "") << architecture << " " << fields[0].first;
    EXPECT_EQ(Why(Resolve(c, 576)), "") << architecture << " " << fields[0].first;
  }
}

TEST(Validate, UnknownWordsNameTheNearestOrAll) {
  for (const auto& [path, typo, hint] : std::vector<std::array<std::string, 3>>{
           {"sae.architecture", "jumprely", "did you mean jumprelu?"},
           {"sae.penalty", "l1norm", "did you mean l1_norm?"},
           {"sae.threshold_parameter", "logg", "did you mean log?"},
           {"sae.prefix_weights", "men", "did you mean mean?"},
           {"sae.pre_bias", "offf", "did you mean off?"},
           {"sae.decoder", "unit_befor", "did you mean unit_before?"},
           {"sae.input_scale", "layernorm", "did you mean layer_norm?"},
           {"sae.loss", "opena", "did you mean openai?"},
           {"sae.resample", "true", ": use off, on"},
           {"train.preset", "openapi", "did you mean openai?"},
           {"train.lr_warmup", "cosinus", "did you mean cosine?"},
           {"train.rows", "lasy", "did you mean lazy?"},
           {"train.selection", "float64", "did you mean float32?"},
           {"train.reduction", "fixd", "did you mean fixed?"}}) {
    TrialConfig c = Good();
    ASSERT_TRUE(SetField(c, path, "\"" + typo + "\"").ok()) << path;
    EXPECT_THAT(Why(c), HasSubstr(path + ": unknown '" + typo + "'")) << path;
    EXPECT_THAT(Why(c), HasSubstr(hint)) << path;
  }
}

TEST(Validate, ReportsEveryProblemAtOnce) {
  TrialConfig c = Good();
  c.sae.k = 4096;
  c.ranks = 3;
  c.train.batch = 0;
  const std::string why = Why(c);
  EXPECT_THAT(why, HasSubstr("sae.k: 4096 is more than sae.latents 2048: choose a smaller k"));
  EXPECT_THAT(why,
              HasSubstr("ranks: 3 does not divide sae.latents 2048: choose ranks that divide"));
  EXPECT_THAT(why, HasSubstr("train.batch: 0: needs 1 or more"));
}

TEST(Validate, WhatAnArchitectureCannotDoIsRefused) {
  for (const char* architecture : {"topk", "batchtopk", "matryoshka"}) {
    const std::string a = architecture;
    ExpectProblem(a, "sae.target_l0", "32",
                  "sae.target_l0: 32: " + a +
                      " sets its L0 itself: set sae.k, and leave "
                      "sae.target_l0 0");
    ExpectProblem(a, "sae.k", "0", "sae.k: 0: " + a + " needs k of 1 or more");
    ExpectProblem(a, "sae.penalty", "\"l1\"", "sae.penalty: l1: " + a + " has none: leave it auto");
    ExpectProblem(a, "sae.resample", "\"on\"",
                  "sae.resample: on: only relu_l1 and gated resample, not " + a +
                      ": leave it off (AuxK, sae.aux_k, revives its dead latents)");
  }
  ExpectProblem("batchtopk", "sae.multi_topk", "true",
                "sae.multi_topk: true: only topk has it, not batchtopk: leave it false");
  ExpectProblem("jumprelu", "sae.resample", "\"on\"",
                "sae.resample: on: only relu_l1 and gated resample, not jumprelu: leave it off");
  ExpectProblem("relu_l1", "sae.penalty", "\"tanh\"",
                "sae.penalty: tanh is none of relu_l1's: use l1, l1_norm, lp or auto");
  ExpectProblem("jumprelu", "sae.penalty", "\"l1\"",
                "sae.penalty: l1 is none of jumprelu's: use l0, l0_quadratic, tanh or auto");
  ExpectProblem("gated", "sae.penalty", "\"l1_norm\"",
                "sae.penalty: l1_norm: gated has l1 only: leave it auto");
  ExpectProblem("gated", "sae.frequency_coefficient", "0.1",
                "sae.frequency_coefficient: 0.1: only jumprelu has it, not gated: leave it 0");
  ExpectProblem("topk", "sae.skip", "true",
                "sae.skip: true: a linear skip needs another target than its input: set "
                "sae.transcoder too, or leave it false");
}

TEST(Validate, SparsityNeedsATargetOrACoefficient) {
  ExpectProblem("gated", "sae.target_l0", "0",
                "sae.l1_coefficient: 0: gated needs one above 0, or a sae.target_l0");
  ExpectProblem("jumprelu", "sae.target_l0", "0",
                "sae.l0_coefficient: 0: jumprelu needs one above 0, or a sae.target_l0");
  for (const char* architecture : {"relu_l1", "gated", "jumprelu"}) {
    ExpectProblem(architecture, "sae.target_l0", "2048",
                  "sae.target_l0: 2048 is not below sae.latents 2048: choose a smaller target or a "
                  "larger dictionary");
  }
  ExpectProblem("jumprelu", "sae.penalty", "\"l0_quadratic\"",
                "sae.l0_coefficient: 0: l0_quadratic is the control itself, so its weight is never "
                "controlled: set one above 0 (0.1 to begin with)");
  TrialConfig c = Good("jumprelu");
  c.sae.penalty = "l0_quadratic";
  c.sae.l0_coefficient = 1;
  c.sae.target_l0 = 0;
  EXPECT_EQ(Why(c), "sae.target_l0: 0: l0_quadratic pulls L0 to a target: set one above 0");
}

TEST(Validate, NumbersOutOfRangeAreRefused) {
  for (const auto& [architecture, path, value] :
       std::vector<std::array<std::string, 3>>{{"topk", "sae.latents", "0"},
                                               {"topk", "sae.aux_k", "-1"},
                                               {"topk", "sae.aux_k", "2049"},
                                               {"topk", "sae.aux_alpha", "-1"},
                                               {"topk", "sae.dead_after_tokens", "0"},
                                               {"relu_l1", "sae.l1_coefficient", "-1"},
                                               {"relu_l1", "sae.target_l0", "-1"},
                                               {"jumprelu", "sae.l0_coefficient", "-1"},
                                               {"jumprelu", "sae.bandwidth", "0"},
                                               {"jumprelu", "sae.threshold_init", "-1"},
                                               {"jumprelu", "sae.threshold_lr", "0"},
                                               {"jumprelu", "sae.frequency_coefficient", "-1"},
                                               {"topk", "train.tokens", "0"},
                                               {"topk", "train.lr", "0"},
                                               {"topk", "train.beta1", "1"},
                                               {"topk", "train.beta2", "-0.1"},
                                               {"topk", "train.epsilon", "0"},
                                               {"topk", "train.lr_decay_fraction", "1.5"},
                                               {"topk", "train.lr_warmup_steps", "-1"},
                                               {"topk", "train.sparsity_warmup_steps", "-1"},
                                               {"topk", "train.clip", "-1"},
                                               {"topk", "train.ema", "1"},
                                               {"topk", "train.log_every_steps", "0"},
                                               {"topk", "train.eval_every_tokens", "0"},
                                               {"topk", "train.checkpoint_every_seconds", "-1"},
                                               {"topk", "ranks", "0"}}) {
    TrialConfig c = Good(architecture);
    ASSERT_TRUE(SetField(c, path, value).ok()) << path;
    EXPECT_THAT(Why(c), HasSubstr(path + ": " + value)) << path << " of " << architecture;
  }
}

TEST(Validate, NotANumberNeverPasses) {
  TrialConfig filled = Good("jumprelu");
  for (const Field& f : Fields(filled)) {
    TrialConfig c = Good(f.path == "sae.aux_alpha"        ? "topk"
                         : f.path == "sae.l1_coefficient" ? "relu_l1"
                                                          : "jumprelu");
    c.sae.penalty =
        f.path == "sae.tanh_scale" || f.path == "sae.pre_act_coefficient" ? "tanh" : "auto";
    if (f.path == "sae.p_end") {
      c = Good("relu_l1");
      c.sae.penalty = "lp";
    }
    if (f.path == "sae.resample_exponent") {
      c = Good("gated");
      c.sae.resample = "on";
    }
    bool number = false;
    for (const Field& own : Fields(c)) {
      if (own.path != f.path) continue;
      if (auto* p = std::get_if<double*>(&own.pointer)) **p = kNaN, number = true;
      if (auto* p = std::get_if<std::optional<double>*>(&own.pointer)) **p = kNaN, number = true;
    }
    if (number) {
      EXPECT_THAT(Why(c), HasSubstr(f.path)) << f.path;
    }
  }
}

TEST(Validate, PrefixesRiseAndEndInTheDictionary) {
  const auto parse = [](const std::string& text, std::int64_t n) {
    const auto out = ParsePrefixes(text, n);
    return out.ok() ? *out : std::vector<std::int64_t>{};
  };
  using V = std::vector<std::int64_t>;
  EXPECT_EQ(parse("auto", 2048), (V{128, 256, 512, 1024, 2048}));
  EXPECT_EQ(parse("auto", 4), (V{1, 2, 4}));
  EXPECT_EQ(parse("128,512", 2048), (V{128, 512, 2048}));
  EXPECT_EQ(parse("128, 512,2048", 2048), (V{128, 512, 2048}));
  for (const char* text : {"", "0", "512,128", "128,128", "4096", "128,,512", "many", "1.5"}) {
    ExpectProblem("matryoshka", "sae.prefixes", std::string("\"") + text + "\"",
                  std::string("sae.prefixes: '") + text +
                      "': needs auto, or rising widths from 1 to 2048 (sae.latents), as 128,512");
  }
}

TEST(Validate, LazyRowsAreRefusedWithTheReason) {
  ExpectProblem("topk", "train.rows", "\"lazy\"",
                "train.rows: lazy: with train.beta1 0.9 a row moves on after its gradient has "
                "ended: set train.beta1 0, or use dense");
  TrialConfig c = Good("jumprelu");  // beta1 is 0 by itself
  c.train.rows = "lazy";
  EXPECT_EQ(Why(c), "");
  c.train.ema = 0.999;
  EXPECT_THAT(Why(c), HasSubstr("train.rows: lazy: train.ema 0.999 averages every row"));
  c.train.ema = 0;
  c.sae.penalty = "tanh";
  EXPECT_THAT(Why(c), HasSubstr("train.rows: lazy: penalty tanh has a pre-activation loss"));
  c.sae.penalty = "l0";
  c.sae.decoder = "on_the_fly";
  EXPECT_THAT(Why(c), HasSubstr("train.rows: lazy: not with sae.decoder on_the_fly"));
  c.sae.decoder = "auto";
  c.train.preset = "openai";  // its decoder is unit_before
  EXPECT_THAT(Why(c), HasSubstr("train.rows: lazy: not with sae.decoder unit_before"));
}

TEST(Validate, ReducedMomentsNeedDenseRows) {
  for (const char* moments : {"\"bf16\"", "\"int8\""}) {
    TrialConfig c = Good("topk");
    ASSERT_TRUE(SetField(c, "train.moments", moments).ok());
    EXPECT_TRUE(Validate(c).ok());
    c.train.beta1 = 0;
    c.train.rows = "lazy";
    EXPECT_THAT(Why(c), HasSubstr(absl::StrCat("train.moments: ", c.train.moments,
                                               ": not with train.rows lazy")));
    c.train.rows = "deferred";
    EXPECT_THAT(Why(c), HasSubstr("use f32, or dense rows"));
  }
  TrialConfig c = Good("topk");
  ASSERT_TRUE(SetField(c, "train.moments", "\"fp8\"").ok());
  EXPECT_THAT(Why(c), HasSubstr("train.moments: unknown 'fp8': use f32, bf16, int8"));
}

TEST(Validate, DeferredRowsAreRefusedWithTheReason) {
  TrialConfig c = Good();
  c.train.rows = "deferred";
  EXPECT_EQ(Why(c), "");
  c.train.ema = 0.9;
  c.train.clip = 1;
  c.sae.decoder = "on_the_fly";
  const std::string why = Why(c);
  EXPECT_THAT(why, HasSubstr("train.rows: deferred: train.ema 0.9 averages"));
  EXPECT_THAT(why, HasSubstr("train.rows: deferred: train.clip 1 needs the whole gradient"));
  EXPECT_THAT(why, HasSubstr("train.rows: deferred: not with sae.decoder on_the_fly"));
}

TEST(Validate, AFixedReductionNeedsSixteenEqualBlocks) {
  TrialConfig c = Good();
  c.train.reduction = "fixed";
  for (const std::int64_t ranks : {1, 2, 4, 8, 16}) {
    c.ranks = ranks;
    EXPECT_EQ(Why(c), "") << ranks;
  }
  c.ranks = 32;
  EXPECT_EQ(Why(c),
            "train.reduction: fixed: ranks 32 does not divide 16: use 1, 2, 4, 8 or 16 ranks, or "
            "fast");
  c.ranks = 1;
  c.sae.latents = 2056;
  EXPECT_EQ(Why(c),
            "train.reduction: fixed: sae.latents 2056 is no multiple of 16: choose one that is, or "
            "fast");
}

TEST(Validate, ATranscoderNeedsAStoreWithTargets) {
  TrialConfig c = Good();
  c.sae.transcoder = true;
  c.sae.skip = true;
  EXPECT_EQ(Why(c, 576), "");
  EXPECT_EQ(Why(c, 0),
            "sae.transcoder: true: the store has no targets: make one with `saeloom harvest --hook "
            "HOOK --target-hook HOOK`");
  EXPECT_EQ(Message(Validate(c)), "") << "the store is not known yet";
  EXPECT_EQ(Why(Resolve(c, 576), 576), "");
  c.sae.pre_bias = "on";
  EXPECT_THAT(Why(c, 576), HasSubstr("sae.pre_bias: on: a transcoder's output bias"));
  c.sae.pre_bias = "auto";
  c.sae.input_scale = "layer_norm";
  EXPECT_THAT(Why(c, 576), HasSubstr("sae.input_scale: layer_norm: a transcoder's output"));
}

}  // namespace
}  // namespace sae::config
