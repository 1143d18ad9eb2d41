#include "sae/config/sweep_spec.h"

#include <cmath>
#include <limits>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::config {
namespace {
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDemo[] = R"({
  "apiVersion": "saeloom/v1", "name": "demo", "store": "/data/store",
  "trial": {"ranks": 2, "sae": {"architecture": "topk", "latents": 2048, "aux_k": 64},
            "train": {"tokens": 5e5, "batch": 2048, "lr": "auto", "seed": 0}},
  "parameters": [{"sae.k": {"values": [8, 16.0, 32]}, "train.seed": {"values": [0, 1]}},
                 {"sae.architecture": {"values": ["relu_l1"]}, "sae.l1_coefficient": {"values": [0.5, 1e-3]}}],
  "objective": {"metric": "heldout.fvu", "goal": "minimize", "constraints": ["heldout.l0 <= 64"]},
  "search": {"grid": {}}})";

SweepSpec Demo() {
  auto spec = ParseSweepSpec(kDemo);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *std::move(spec);
}

std::string ParseError(const std::string& text) { return Message(ParseSweepSpec(text).status()); }
std::string Why(const SweepSpec& spec) { return Message(Validate(spec)); }

Parameter Values(std::string path, std::vector<std::string> values) {
  return {std::move(path), Parameter::Kind::kValues, std::move(values), 0, 0, 0};
}
Parameter Range(std::string path, Parameter::Kind kind, double min, double max, double step = 0) {
  return {std::move(path), kind, {}, min, max, step};
}

TEST(SweepSpec, ParsesTheDemo) {
  const SweepSpec s = Demo();
  EXPECT_EQ(s.name, "demo");
  EXPECT_EQ(s.store, "/data/store");
  EXPECT_EQ(s.trial.ranks, 2);
  EXPECT_EQ(s.trial.sae.aux_k, std::optional<std::int64_t>(64));
  EXPECT_FALSE(s.trial.train.lr.has_value());
  ASSERT_EQ(s.parameters.size(), 2U);
  EXPECT_EQ(s.parameters[0][0].values, (std::vector<std::string>{"8", "16", "32"}));
  ASSERT_EQ(s.constraints.size(), 1U);
  EXPECT_EQ(s.constraints[0].metric, "heldout.l0");
  EXPECT_EQ(s.constraints[0].op, "<=");
  EXPECT_EQ(s.constraints[0].bound, 64);
  EXPECT_TRUE(Validate(s).ok()) << Validate(s);
}

TEST(SweepSpec, ExpandsAUnionOfGridsInOrderLastAxisFastest) {
  const auto points = ExpandTrials(Demo());
  ASSERT_TRUE(points.ok()) << points.status();
  std::vector<std::string> texts;
  for (const TrialPoint& p : *points) texts.push_back(ToText(p));
  EXPECT_EQ(texts, (std::vector<std::string>{"sae.k=8 train.seed=0", "sae.k=8 train.seed=1",
                                             "sae.k=16 train.seed=0", "sae.k=16 train.seed=1",
                                             "sae.k=32 train.seed=0", "sae.k=32 train.seed=1",
                                             "sae.architecture=relu_l1 sae.l1_coefficient=0.5",
                                             "sae.architecture=relu_l1 sae.l1_coefficient=0.001"}));
  EXPECT_EQ((*points)[3].config.sae.k, 16);
  EXPECT_EQ((*points)[3].config.train.seed, 1);
  EXPECT_EQ((*points)[7].config.sae.l1_coefficient, 1e-3);
  EXPECT_EQ((*points)[7].config.sae.latents, 2048);
}

TEST(SweepSpec, JsonRoundTripOfEveryField) {
  SweepSpec s = Demo();
  s.store_hash = "xxh3:0123456789abcdef";
  s.store_d = 576;
  s.store_target_d = 320;
  s.parameters[1].push_back(Range("train.lr", Parameter::Kind::kLogUniform, 1e-5, 1e-3));
  s.parameters[1].push_back(Range("train.seed", Parameter::Kind::kIntUniform, 0, 4, 2));
  s.parameters[0].push_back(Range("sae.aux_alpha", Parameter::Kind::kUniform, 0, 1, 0.25));
  s.objective_metric = "train.loss";
  s.minimize = false;
  s.search = "random";
  s.max_trials = 5;
  s.search_seed = 9;
  s.max_concurrent = 3;
  s.pack = 4;
  const auto back = ParseSweepSpec(ToJson(s));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ToJson(*back), ToJson(s));
  EXPECT_EQ(back->store_d, 576);
  EXPECT_EQ(back->store_target_d, 320);
  EXPECT_EQ(back->max_trials, 5);
  EXPECT_FALSE(back->minimize);
}

TEST(SweepSpec, AxesKeepTheOrderInWhichTheyWereWritten) {
  const auto s = ParseSweepSpec(
      R"({"apiVersion":"saeloom/v1","name":"a","store":"/s","trial":{"sae":{"latents":64},
    "train":{"tokens":1e4}},"parameters":{"train.seed":{"values":[0,1]},"sae.k":{"values":[4,8]}}})");
  ASSERT_TRUE(s.ok()) << s.status();
  for (const auto& spec : {*s, *ParseSweepSpec(ToJson(*s))}) {
    const auto points = ExpandTrials(spec);
    ASSERT_TRUE(points.ok()) << points.status();
    EXPECT_EQ(ToText((*points)[1]), "train.seed=0 sae.k=8");
  }
}

TEST(SweepSpec, NoParametersIsOneTrial) {
  SweepSpec s = Demo();
  s.parameters.clear();
  s.trial.sae.k = 4;
  const auto points = ExpandTrials(s);
  ASSERT_TRUE(points.ok());
  ASSERT_EQ(points->size(), 1U);
  EXPECT_TRUE((*points)[0].assignments.empty());
}

TEST(SweepSpec, UnknownKeysNameTheNearest) {
  const std::string e =
      ParseError(R"({"apiVersion":"saeloom/v1","nme":"x","trial":{"sae":{"latent":8},"rank":1},
    "objective":{"metrics":"x"},"parameters":{"sae.k":{"value":[1]}},"search":{"gird":{}}})");
  EXPECT_THAT(e, HasSubstr("unknown key nme, did you mean name?"));
  EXPECT_THAT(e, HasSubstr("unknown key trial.sae.latent, did you mean trial.sae.latents?"));
  EXPECT_THAT(e, HasSubstr("unknown key trial.rank, did you mean ranks?"));
  EXPECT_THAT(e, HasSubstr("unknown key objective.metrics, did you mean metric?"));
  EXPECT_THAT(e, HasSubstr("unknown key parameters.sae.k.value, did you mean values?"));
  EXPECT_THAT(e, HasSubstr("unknown key search.gird, did you mean grid?"));
}

TEST(SweepSpec, WrongTypesNamePathAndValue) {
  const std::string e = ParseError(
      R"({"apiVersion":"saeloom/v2","name":3,"trial":{"sae":"topk","train":{"tokens":"many"}},
    "parameters":{"sae.k":{"values":8}},"maxConcurrent":1.5})");
  EXPECT_THAT(e, HasSubstr("apiVersion: \"saeloom/v2\" is not saeloom/v1"));
  EXPECT_THAT(e, HasSubstr("name: 3 is not a string"));
  EXPECT_THAT(e, HasSubstr("trial.sae: \"topk\" is not a map"));
  EXPECT_THAT(e, HasSubstr("trial.train.tokens: \"many\" is not a number"));
  EXPECT_THAT(e, HasSubstr("parameters.sae.k.values: 8 is not a list: write [8]"));
  EXPECT_THAT(e, HasSubstr("maxConcurrent: 1.5 is not a whole number"));
}

TEST(SweepSpec, NotJsonIsAnErrorAndNumbersTooLargeAreToo) {
  EXPECT_THAT(ParseError("{"), HasSubstr("not JSON"));
  EXPECT_THAT(ParseError("[]"), HasSubstr("not a map"));
  EXPECT_THAT(ParseError(R"({"maxConcurrent": 1e999})"), HasSubstr("not JSON"));
}

TEST(SweepSpec, TranscodersNeedAStoreWithTargets) {
  SweepSpec s = Demo();
  s.parameters = {{Values("sae.k", {"8"}), Values("sae.transcoder", {"false", "true"})}};
  EXPECT_TRUE(Validate(s).ok()) << "the store is not known yet";
  s.store_d = 576;
  EXPECT_THAT(Why(s), HasSubstr("trial.sae.transcoder: true: the store has no targets"));
  EXPECT_THAT(Why(s), HasSubstr("saeloom harvest --hook HOOK --target-hook HOOK` (in trial 0001: "
                                "sae.k=8 sae.transcoder=true)"));
  s.store_target_d = 576;
  EXPECT_TRUE(Validate(s).ok()) << Why(s);
  s.store_target_d = -1;
  EXPECT_THAT(Why(s), HasSubstr("store.target_d: -1 is negative"));
}

TEST(SweepSpec, AUnionHoldsEveryArchitecture) {
  SweepSpec s = Demo();
  s.parameters = {{Values("sae.architecture", {"\"topk\"", "\"batchtopk\"", "\"matryoshka\""}),
                   Values("sae.k", {"32", "64"})},
                  {Values("sae.architecture", {"\"relu_l1\"", "\"gated\"", "\"jumprelu\""}),
                   Values("sae.target_l0", {"32", "64"})}};
  EXPECT_TRUE(Validate(s).ok()) << Why(s);
  EXPECT_EQ(ExpandTrials(s)->size(), 12U);
  s.trial.sae.target_l0 = 32;  // for all: the ranked ones say no
  EXPECT_THAT(Why(s), HasSubstr("trial.sae.target_l0: 32: topk sets its L0 itself"));
}

TEST(SweepSpec, HarvestIsUnimplemented) {
  const auto harvest = ParseSweepSpec(R"({"apiVersion":"saeloom/v1","name":"a","harvest":{}})");
  EXPECT_EQ(harvest.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(harvest.status()), HasSubstr("saeloom harvest --out DIR"));
}

TEST(SweepSpec, NamesThatWouldLeaveTheirFolderAreRefused) {
  for (const char* name : {"..", "../x", "a/b", "", "A", "-x", "a b", "."}) {
    SweepSpec s = Demo();
    s.name = name;
    EXPECT_EQ(Validate(s).code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(Why(s), HasSubstr("name")) << name;
  }
}

TEST(SweepSpec, EveryProblemAtOnceWithTheTrialThatHasIt) {
  SweepSpec s = Demo();
  s.store = "rel/store";
  s.trial.ranks = 3;
  s.parameters[0][0].values = {"8", "4096"};
  s.objective_metric = "heldout.fuv";
  s.constraints[0].metric = "l0";
  const std::string why = Why(s);
  EXPECT_THAT(why, HasSubstr("store: 'rel/store' is not absolute"));
  EXPECT_THAT(why, HasSubstr("unknown metric 'heldout.fuv', did you mean heldout.fvu?"));
  EXPECT_THAT(why, HasSubstr("objective.constraints[0]: unknown metric 'l0'"));
  EXPECT_THAT(
      why,
      HasSubstr("trial.ranks: 3 does not divide sae.latents 2048: choose ranks that divide it"));
  EXPECT_THAT(why, HasSubstr("trial.sae.k: 4096 is more than sae.latents 2048: choose a smaller k "
                             "or a larger dictionary "
                             "(in 2 trials, the first is 0002: sae.k=4096 train.seed=0)"));
}

TEST(SweepSpec, AxesAreChecked) {
  SweepSpec s = Demo();
  s.parameters = {{Values("sae.kk", {"8"}), Values("train.data_seed", {"1"}), Values("sae.k", {}),
                   Values("train.batch", {"8", "\"x\"", "8"}), Values("sae.k", {"1"}),
                   Range("sae.architecture", Parameter::Kind::kUniform, 0, 1, 0.5)}};
  const std::string why = Why(s);
  EXPECT_THAT(why, HasSubstr("unknown key parameters.sae.kk, did you mean sae.k?"));
  EXPECT_THAT(why, HasSubstr("parameters.train.data_seed: the order of data belongs to the sweep"));
  EXPECT_THAT(why, HasSubstr("parameters.sae.k.values: empty"));
  EXPECT_THAT(
      why, HasSubstr("parameters.train.batch.values[1]: train.batch: \"x\" is not a whole number"));
  EXPECT_THAT(why, HasSubstr("parameters.train.batch.values[2]: 8 is there twice"));
  EXPECT_THAT(why, HasSubstr("parameters.sae.k: is there twice"));
  EXPECT_THAT(why, HasSubstr("parameters.sae.architecture: a range of numbers does not fit"));
}

TEST(SweepSpec, BoundsThatAreNaNOrReversedAreRefused) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  SweepSpec s = Demo();
  s.search = "random";
  s.max_trials = 3;
  s.parameters = {{Range("train.lr", Parameter::Kind::kUniform, kNaN, 1),
                   Range("train.epsilon", Parameter::Kind::kUniform, 2, 1, -1),
                   Range("train.beta1", Parameter::Kind::kLogUniform, 0, 1),
                   Range("train.seed", Parameter::Kind::kIntUniform, 0.5, HUGE_VAL)}};
  const std::string why = Why(s);
  EXPECT_THAT(why, HasSubstr("parameters.train.lr.min: nan is not finite"));
  EXPECT_THAT(why, HasSubstr("parameters.train.epsilon: min 2 is more than max 1"));
  EXPECT_THAT(why, HasSubstr("parameters.train.epsilon.step: -1 is not 0 or more"));
  EXPECT_THAT(why,
              HasSubstr("parameters.train.beta1.min: 0: a logarithmic range needs min above 0"));
  EXPECT_THAT(why, HasSubstr("parameters.train.seed.min: 0.5 is not a whole number"));
  EXPECT_THAT(why, HasSubstr("parameters.train.seed.max: inf is not finite"));
  EXPECT_FALSE(ExpandTrials(s).ok());
}

TEST(SweepSpec, GridsCountRangesWithAStep) {
  SweepSpec s = Demo();
  s.trial.sae.k = 8;
  s.parameters = {{Range("train.beta1", Parameter::Kind::kUniform, 0, 0.3, 0.1),
                   Range("train.seed", Parameter::Kind::kIntUniform, 1, 5, 2)}};
  const auto points = ExpandTrials(s);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 12U);
  EXPECT_EQ(ToText((*points)[1]), "train.beta1=0 train.seed=3");
  EXPECT_NEAR(*(*points)[11].config.train.beta1, 0.3, 1e-12);
  s.parameters[0][0].step = 0;
  EXPECT_THAT(Why(s), HasSubstr("parameters.train.beta1.step: missing: a grid needs a step"));
  s.parameters[0][0] = Range("train.lr", Parameter::Kind::kLogUniform, 1e-5, 1e-3, 0.1);
  EXPECT_THAT(Why(s), HasSubstr("a grid cannot count a logarithmic range"));
}

TEST(SweepSpec, MoreThanAMillionPointsAreRefusedBeforeTheyAreMade) {
  SweepSpec s = Demo();
  s.parameters = {{Range("train.seed", Parameter::Kind::kIntUniform, 0, 1e6)}};
  EXPECT_THAT(Why(s), HasSubstr("parameters: 1000001 trials: a sweep can have at most 1e6"));
  EXPECT_FALSE(ExpandTrials(s).ok());
  s.parameters = {{Range("train.seed", Parameter::Kind::kIntUniform, 0, 9e15),
                   Range("train.batch", Parameter::Kind::kIntUniform, 1, 9e15)}};
  EXPECT_THAT(Why(s), HasSubstr("at most 1e6"));
  s.search = "random";
  s.max_trials = 2'000'000;
  EXPECT_THAT(Why(s), HasSubstr("search.random.maxTrials: 2000000: at most 1e6"));
}

TEST(SweepSpec, NumbersThatJsonCannotHoldAreRefusedEvenWhereNothingReadsThem) {
  for (const double x : {std::nan(""), static_cast<double>(INFINITY)}) {
    SweepSpec s = Demo();  // topk: no penalty, so no tanh either
    s.trial.sae.tanh_scale = x;
    EXPECT_THAT(Why(s), HasSubstr("trial.sae.tanh_scale: ")) << x;
    EXPECT_THAT(Why(s), HasSubstr(" is not a finite number")) << x;
    s = Demo();
    s.trial.sae.threshold_lr = x;
    EXPECT_THAT(Why(s), HasSubstr("trial.sae.threshold_lr: ")) << x;
  }
}

TEST(SweepSpec, AThousandFailedTrialsAreEnoughToSayWhatIsWrong) {
  SweepSpec s = Demo();
  s.trial.sae.k = 8;
  s.parameters = {{Range("train.seed", Parameter::Kind::kIntUniform, 0, 1999),
                   Values("train.clip", {"-1", "0"})}};
  EXPECT_EQ(Why(s),
            "trial.train.clip: -1: needs a finite number of 0 or more (in at least 1000 trials, "
            "the first is 0000: train.seed=0 train.clip=-1)");
  s.parameters[0][0].max = 499;
  EXPECT_THAT(Why(s), HasSubstr("(in 500 trials, the first is 0000: "));
}

TEST(SweepSpec, TheSameConfigurationTwiceInAUnionIsRefused) {
  SweepSpec s = Demo();
  s.parameters = {{Values("sae.k", {"8", "16"})},
                  {Values("sae.k", {"16"}), Values("train.seed", {"0"})}};
  EXPECT_THAT(Why(s),
              HasSubstr("trials 0001 and 0002 are the same configuration (sae.k=16 train.seed=0)"));
  s.parameters[1][1].values = {"1"};
  EXPECT_TRUE(Validate(s).ok()) << Why(s);
}

TEST(SweepSpec, RandomDrawsDependOnSeedAndIndexAlone) {
  SweepSpec s = Demo();
  s.search = "random";
  s.max_trials = 40;
  s.search_seed = 3;
  s.parameters = {{Range("train.lr", Parameter::Kind::kLogUniform, 1e-5, 1e-3),
                   Range("sae.k", Parameter::Kind::kIntUniform, 8, 64, 8),
                   Values("train.seed", {"0", "1", "2"}),
                   Range("train.beta1", Parameter::Kind::kUniform, 0.5, 0.9)}};
  const auto all = ExpandTrials(s);
  s.max_trials = 10;
  const auto few = ExpandTrials(s);
  ASSERT_TRUE(all.ok() && few.ok());
  EXPECT_EQ(all->size(), 40U);
  EXPECT_EQ(*CountTrials(s), few->size());
  std::set<std::int64_t> ks, seeds;
  for (std::size_t i = 0; i < 40; ++i) {
    if (i < 10) {
      EXPECT_EQ(ToText((*all)[i]), ToText((*few)[i]));
    }
    const TrialConfig& c = (*all)[i].config;
    EXPECT_GE(*c.train.lr, 1e-5);
    EXPECT_LE(*c.train.lr, 1e-3);
    EXPECT_EQ(c.sae.k % 8, 0);
    EXPECT_GE(*c.train.beta1, 0.5);
    EXPECT_LT(*c.train.beta1, 0.9);
    ks.insert(c.sae.k);
    seeds.insert(c.train.seed);
  }
  EXPECT_GE(*ks.begin(), 8);
  EXPECT_LE(*ks.rbegin(), 64);
  EXPECT_GE(ks.size(), 6U);
  EXPECT_EQ(seeds.size(), 3U);
  s.search_seed = 4;
  EXPECT_NE(ToText((*ExpandTrials(s))[0]), ToText((*few)[0]));
}

TEST(SweepSpec, Constraints) {
  for (const char* text :
       {"heldout.l0 <= 64", "heldout.l0 < 0.5", "train.loss >= -1", "train.loss > 100000"}) {
    const auto c = ParseConstraint(text);
    ASSERT_TRUE(c.ok()) << text;
    EXPECT_EQ(ToText(*c), text);
  }
  EXPECT_EQ(ParseConstraint("heldout.l0<=1e3")->bound, 1000);
  for (const char* text : {"", "heldout.l0", "<= 4", "heldout.l0 <= many", "heldout.l0 = 4",
                           "heldout.l0 <= 4 5", "a <= nan"}) {
    EXPECT_THAT(Message(ParseConstraint(text).status()), HasSubstr("is not METRIC")) << text;
  }
}

}  // namespace
}  // namespace sae::config
