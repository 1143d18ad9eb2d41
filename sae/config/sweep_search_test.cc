// The search, scheduling and conditional keys of a sweep.
#include <limits>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/config/search_rungs.h"
#include "sae/config/sweep_spec.h"

namespace sae::config {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kFull[] = R"({
  "apiVersion": "saeloom/v1", "name": "topk-l12", "store": "/data/store",
  "labels": {"model": "gpt2", "layer": 12}, "queue": "research", "priority": 50,
  "topology": "same-rack",
  "trial": {"sae": {"latents": 2048}, "train": {"tokens": 1024000, "batch": 1000}},
  "parameters": {
    "sae.architecture": {"values": ["topk", "relu_l1"]},
    "sae.k": {"intUniform": {"min": 8, "max": 64, "step": 8}, "when": {"sae.architecture": "topk"}},
    "sae.target_l0": {"values": [16, 32], "when": {"sae.architecture": ["relu_l1"]}}},
  "objective": {"metric": "heldout.fvu", "constraints": ["heldout.l0 <= 64"]},
  "search": {"asha": {"mode": "promote", "maxTime": 1.024e6, "minTime": 4000, "eta": 4,
                      "maxRungs": 5, "brackets": 2, "maxTrials": 256, "seed": 3},
             "medianStop": {"graceTokens": 1e5, "minTrials": 7}},
  "maxConcurrent": 16,
  "checkpoints": {"keepLatest": 1, "keepBest": 2, "keepSweepBest": 3},
  "retry": [{"on": ["NODE_LOST", "GPU_FAULT"], "limit": "unlimited", "excludeNode": true},
            {"on": ["OOM_GPU"], "limit": 0}],
  "gracePeriod": "90s", "progressTimeout": "1h30m"})";

SweepSpec Full() {
  auto spec = ParseSweepSpec(kFull);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *std::move(spec);
}
std::string WhyInvalid(const SweepSpec& spec) { return Message(Validate(spec)); }

TEST(SweepSearch, EveryKeyIsRead) {
  const SweepSpec s = Full();
  EXPECT_TRUE(Validate(s).ok()) << WhyInvalid(s);
  EXPECT_EQ(s.search, "asha");
  EXPECT_EQ(s.asha, (AshaOptions{"promote", 1.024e6, 4000, 4, 5, 2}));
  EXPECT_EQ(s.max_trials, 256);
  EXPECT_EQ(s.search_seed, 3);
  EXPECT_EQ(s.median_stop, (MedianStopOptions{true, 1e5, 7}));
  EXPECT_EQ(s.labels, (std::map<std::string, std::string>{{"model", "gpt2"}, {"layer", "12"}}));
  EXPECT_EQ(s.queue, "research");
  EXPECT_EQ(s.priority, 50);
  EXPECT_EQ(s.topology, "same-rack");
  EXPECT_EQ(s.retry, (std::vector<RetryRule>{{{"NODE_LOST", "GPU_FAULT"}, -1, true},
                                             {{"OOM_GPU"}, 0, false}}));
  EXPECT_EQ(s.checkpoints, (CheckpointPolicy{1, 2, 3}));
  EXPECT_EQ(s.grace_seconds, 90);
  EXPECT_EQ(s.progress_timeout_seconds, 5400);
  EXPECT_EQ(s.parameters[0][1].when, (std::vector<Condition>{{"sae.architecture", {"\"topk\""}}}));
}

TEST(SweepSearch, UnknownKeysOfEveryPlaceNameTheNearest) {
  const auto error = [](const std::string& tail) {
    return Message(
        ParseSweepSpec(R"({"apiVersion":"saeloom/v1","name":"a",)" + tail + "}").status());
  };
  EXPECT_THAT(error(R"("search":{"asha":{"max_time":1}})"),
              HasSubstr("unknown key search.asha.max_time, did you mean maxTime?"));
  EXPECT_THAT(error(R"("search":{"hyperband":{"bracket":1}})"),
              HasSubstr("unknown key search.hyperband.bracket, did you mean brackets?"));
  EXPECT_THAT(error(R"("search":{"grid":{},"medianstop":{}})"),
              HasSubstr("unknown key search.medianstop, did you mean medianStop?"));
  EXPECT_THAT(error(R"("search":{"medianStop":{"minTrial":1}})"),
              HasSubstr("did you mean minTrials?"));
  EXPECT_THAT(error(R"("retry":[{"om":["HANG"],"limit":1}])"),
              HasSubstr("unknown key retry[0].om, did you mean on?"));
  EXPECT_THAT(error(R"("checkpoints":{"keepLast":1})"),
              HasSubstr("unknown key checkpoints.keepLast, did you mean keepLatest?"));
  EXPECT_THAT(error(R"("graceperiod":"1s")"), HasSubstr("did you mean gracePeriod?"));
  EXPECT_THAT(error(R"("search":{"grid":{},"random":{}})"), HasSubstr("needs exactly one of"));
}

TEST(SweepSearch, WrongTypesNameTheRemedy) {
  const auto parsed = ParseSweepSpec(
      R"({"apiVersion":"saeloom/v1","name":"a","gracePeriod":120,"progressTimeout":"soon",
          "labels":{"x":[1]},"retry":[{"on":"HANG"}],"priority":"high",
          "parameters":{"sae.k":{"values":[1],"when":"topk"}}})");
  const std::string e = Message(parsed.status());
  EXPECT_THAT(e, HasSubstr("gracePeriod: 120 is not a duration: write \"120s\""));
  EXPECT_THAT(e, HasSubstr("progressTimeout: \"soon\" is not a duration"));
  EXPECT_THAT(e, HasSubstr("labels.x: [1] is not a text"));
  EXPECT_THAT(e, HasSubstr("retry[0].on: \"HANG\" is not a list"));
  EXPECT_THAT(e, HasSubstr("retry[0].limit: missing"));
  EXPECT_THAT(e, HasSubstr("priority: \"high\" is not a whole number"));
  EXPECT_THAT(e, HasSubstr("parameters.sae.k.when: \"topk\" is not a map"));
}

TEST(SweepSearch, DeepNestingDuplicatesAndLongTextsAreRefused) {
  EXPECT_THAT(Message(ParseSweepSpec(std::string(100'000, '[')).status()), HasSubstr("JSON"));
  std::string deep = R"({"name":)" + std::string(50'000, '[') + std::string(50'000, ']') + "}";
  EXPECT_THAT(Message(ParseSweepSpec(deep).status()), HasSubstr("nested more than 32 deep"));
  EXPECT_THAT(Message(ParseSweepSpec(R"({"name":"a","trial":{"ranks":1,"ranks":2}})").status()),
              HasSubstr("key ranks is there twice"));
  const std::string big(5000, 'x');
  const std::string e = Message(ParseSweepSpec(R"({"apiVersion":"saeloom/v1","name":")" + big +
                                               R"(","trial":{"sae":{"architecture":")" + big +
                                               R"("}},")" + big + R"(":1})")
                                    .status());
  EXPECT_THAT(e, HasSubstr("name: 5000 bytes, a text may have 4096"));
  EXPECT_THAT(e, HasSubstr("trial.sae.architecture: 5002 bytes"));
  EXPECT_LT(e.size(), 1000U) << "errors repeat no long text";
}

TEST(SweepSearch, AnAxisWhoseConditionFailsIsLeftOut) {
  SweepSpec s = Full();
  s.search = "grid";
  s.median_stop.enabled = false;
  const auto points = ExpandTrials(s);
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 10U) << "8 k of topk, 2 targets of relu_l1";
  EXPECT_EQ(ToText((*points)[7]), "sae.architecture=topk sae.k=64");
  EXPECT_EQ(ToText((*points)[8]), "sae.architecture=relu_l1 sae.target_l0=16");
  EXPECT_EQ((*points)[7].config.sae.target_l0, 0);
  EXPECT_TRUE(Validate(s).ok()) << WhyInvalid(s);
}

TEST(SweepSearch, ConditionsDoNotShiftOtherDraws) {
  SweepSpec s = Full();
  const auto with = ExpandTrials(s);
  ASSERT_TRUE(with.ok()) << with.status();
  for (Parameter& p : s.parameters[0]) p.when.clear();
  const auto without = ExpandTrials(s);
  ASSERT_TRUE(without.ok());
  int topk = 0;
  for (std::size_t i = 0; i < with->size(); ++i) {
    const auto& a = (*with)[i].assignments;
    ASSERT_EQ(a.size(), 2U);
    EXPECT_EQ(a[0], (*without)[i].assignments[0]);
    const bool is_topk = a[0].second == "\"topk\"";
    EXPECT_EQ(a[1], (*without)[i].assignments[is_topk ? 1 : 2]);
    topk += is_topk ? 1 : 0;
  }
  EXPECT_GT(topk, 90);
  EXPECT_LT(topk, 170);
}

TEST(SweepSearch, ConditionsOnConditionsFollow) {
  SweepSpec s = Full();
  s.search = "grid";
  s.median_stop.enabled = false;
  Parameter seed{"train.seed", Parameter::Kind::kValues, {"1", "2"}};
  seed.when = {{"sae.k", {"8"}}};
  s.parameters[0].push_back(seed);
  const auto points = ExpandTrials(s);
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_EQ(points->size(), 11U) << "one more seed where k is 8; none where there is no k";
}

TEST(SweepSearch, ConditionsAreChecked) {
  SweepSpec s = Full();
  s.parameters[0][1].when = {
      {"sae.target_l0", {"16"}}, {"sae.architecture", {"\"gated\""}}, {"sae.architecture", {}}};
  const std::string why = WhyInvalid(s);
  EXPECT_THAT(why, HasSubstr("parameters.sae.k.when.sae.target_l0: is no axis before sae.k"));
  EXPECT_THAT(why, HasSubstr("when.sae.architecture: \"gated\" is none of that axis's values"));
  EXPECT_THAT(why, HasSubstr("parameters.sae.k.when.sae.architecture: is there twice"));
  EXPECT_THAT(why, HasSubstr("parameters.sae.k.when.sae.architecture: empty"));
}

TEST(SweepSearch, RungsAreSharesOfTheTop) {
  SweepSpec s = Full();
  EXPECT_THAT(RungTokens(s), ElementsAre(4000, 16000, 64000, 256000, 1024000));
  EXPECT_EQ(BracketCount(s), 2);
  s.asha.min_time = 5000;
  EXPECT_THAT(RungTokens(s), ElementsAre(16000, 64000, 256000, 1024000));
  s.asha = {};
  s.max_trials = 200;
  EXPECT_THAT(RungTokens(s), ElementsAre(16000, 64000, 256000, 1024000)) << "log4(200) + 1 rungs";
  EXPECT_EQ(BracketCount(s), 1);
  s.max_trials = 256;
  EXPECT_EQ(RungTokens(s).size(), 5U);
  s.search = "hyperband";
  EXPECT_EQ(BracketCount(s), 5);
  s.trial.train.tokens = 3;
  EXPECT_THAT(RungTokens(s), ElementsAre(3)) << "no rung below a token";
  s.search = "random";
  EXPECT_TRUE(RungTokens(s).empty());
  EXPECT_EQ(BracketCount(s), 0);
}

TEST(SweepSearch, TrialsAreEvaluatedOftenEnough) {
  SweepSpec s = Full();
  EXPECT_EQ(*(*ExpandTrials(s))[0].config.train.eval_every_tokens, 4000);
  s.trial.train.eval_every_tokens = 5000;
  EXPECT_THAT(WhyInvalid(s),
              HasSubstr("trial.train.eval_every_tokens: 5000 is more than the first rung's "
                        "4000 tokens"));
  s.trial.train.eval_every_tokens = 2000;
  EXPECT_TRUE(Validate(s).ok()) << WhyInvalid(s);
  s.trial.train.eval_every_tokens.reset();
  s.search = "random";
  EXPECT_FALSE((*ExpandTrials(s))[0].config.train.eval_every_tokens.has_value());
}

TEST(SweepSearch, OptionsOfRungsAreChecked) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  SweepSpec s = Full();
  s.asha = {"halve", 2e9, -1, 1, 99, -2};
  s.max_trials = 0;
  s.median_stop = {true, kNaN, 0};
  s.pack = 8;
  s.constraints[0].metric = "train.l0";
  Parameter tokens{"train.tokens", Parameter::Kind::kValues, {"1e6"}};
  s.parameters[0].push_back(tokens);
  const std::string why = WhyInvalid(s);
  EXPECT_THAT(why, HasSubstr("search.asha.mode: 'halve' is not stop or promote"));
  EXPECT_THAT(why, HasSubstr("search.asha.maxTime: 2e+09 is more than trial.train.tokens"));
  EXPECT_THAT(why, HasSubstr("search.asha.minTime: -1 is not a number of tokens"));
  EXPECT_THAT(why, HasSubstr("search.asha.eta: 1 is not in [2, 1000]"));
  EXPECT_THAT(why, HasSubstr("search.asha.maxRungs: 99 is not in [1, 20]"));
  EXPECT_THAT(why, HasSubstr("search.asha.brackets: -2 is not in [1, 20]"));
  EXPECT_THAT(why, HasSubstr("search.asha.maxTrials: 0: needs 1 or more"));
  EXPECT_THAT(why, HasSubstr("search.medianStop.graceTokens: nan is not 0 or more"));
  EXPECT_THAT(why, HasSubstr("search.medianStop.minTrials: 0 is not in [1, 1e6]"));
  EXPECT_THAT(why, HasSubstr("parameters.train.tokens: rungs are shares of one length"));
  EXPECT_THAT(why, HasSubstr("objective.constraints[0]: train.l0 is not measured together with"));
  EXPECT_THAT(why, HasSubstr("pack: 8: a search ends trials one by one"));
}

TEST(SweepSearch, HugeSweepsAreCountedNotMade) {
  SweepSpec s = Full();
  s.max_trials = 1'000'000'000;
  EXPECT_THAT(WhyInvalid(s), HasSubstr("search.asha.maxTrials: 1000000000: at most 1e6"));
  s = Full();
  s.search = "grid";
  s.median_stop.enabled = false;
  s.parameters[0][1].max = 8e9;
  EXPECT_THAT(WhyInvalid(s),
              HasSubstr("4000000000 trials, counted as if every `when` held: a sweep can "
                        "have at most 1e6"))
      << WhyInvalid(s);
}

TEST(SweepSearch, SchedulingIsChecked) {
  SweepSpec s = Full();
  s.labels = {
      {"../x", "a"}, {".hidden", "b"}, {"ok", "line\nbreak"}, {"a/b", std::string(300, 'y')}};
  s.queue = "../queue";
  s.priority = 101;
  s.topology = "same-rak";
  s.retry = {{{"NODE_LOSS"}, 1, false}, {{}, -2, false}, {{"HANG", "HANG"}, 1, false}};
  s.checkpoints = {0, -1, 5000};
  s.grace_seconds = -1;
  s.progress_timeout_seconds = std::numeric_limits<double>::infinity();
  const std::string why = WhyInvalid(s);
  EXPECT_THAT(why, HasSubstr("labels: '../x' is not 1 to 63 of letters"));
  EXPECT_THAT(why, HasSubstr("labels: '.hidden' is not"));
  EXPECT_THAT(why, HasSubstr("labels: 'a/b' is not"));
  EXPECT_THAT(why, HasSubstr("labels.ok: "));
  EXPECT_THAT(why, HasSubstr("labels.a/b: "));
  EXPECT_THAT(why, HasSubstr("queue: '../queue' is not a name"));
  EXPECT_THAT(why, HasSubstr("priority: 101 is not in [0, 100]"));
  EXPECT_THAT(why, HasSubstr("topology: unknown 'same-rak', did you mean same-rack?"));
  EXPECT_THAT(why, HasSubstr("retry[0].on: unknown failure class 'NODE_LOSS', did you mean "
                             "NODE_LOST?"));
  EXPECT_THAT(why, HasSubstr("retry[1].on: empty"));
  EXPECT_THAT(why, HasSubstr("retry[1].limit: -2 is not 0 to 1e6, or unlimited"));
  EXPECT_THAT(why, HasSubstr("retry[2].on: HANG has a rule before"));
  EXPECT_THAT(why, HasSubstr("checkpoints.keepLatest: 0 is not in [1, 100]"));
  EXPECT_THAT(why, HasSubstr("checkpoints.keepBest: -1 is not in [0, 100]"));
  EXPECT_THAT(why, HasSubstr("checkpoints.keepSweepBest: 5000 is not in [0, 1000]"));
  EXPECT_THAT(why, HasSubstr("gracePeriod: -1 s is not in [0s, 168h]"));
  EXPECT_THAT(why, HasSubstr("progressTimeout: inf s is not in [0s, 168h]"));
}

TEST(SweepSearch, NamesAndStoresWithControlCharactersAreRefused) {
  for (const std::string name : {"a\nb", "a\x1b[2J", "a\x7f", ".a", "a..", "a/../b"}) {
    SweepSpec s = Full();
    s.name = name;
    EXPECT_THAT(WhyInvalid(s), HasSubstr("is not a name")) << name;
  }
  SweepSpec s = Full();
  s.store = "/data/\x01store";
  EXPECT_THAT(WhyInvalid(s), HasSubstr("without control characters"));
  s.store = "/" + std::string(5000, 'd');
  EXPECT_THAT(WhyInvalid(s), HasSubstr("at most 4096 bytes"));
}

}  // namespace
}  // namespace sae::config
