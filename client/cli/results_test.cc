#include "client/cli/results.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/figure.h"
#include "client/cli/testing/trials.h"
#include "client/cli/trial_view.h"
#include "sae/config/sweep_spec.h"

namespace sae::cli {
namespace {
using config::TrialId;
using testing::DemoSweep;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Relu;
using testing::TopK;

std::vector<saeloom::v1::Trial> DemoTrials() {
  std::vector<saeloom::v1::Trial> trials = {
      TopK("0000", 16, 0.31),      TopK("0001", 32, 0.22),        TopK("0002", 64, 0.15),
      TopK("0003", 128, 0.09),     Relu("0004", 0.02, 0.12, 150), Relu("0005", 0.1, 0.33, 40),
      TopK("0006", 32, 0.25, 0.35)};
  trials[6].mutable_config()->mutable_sae()->set_aux_k(0);
  (*trials[6].mutable_parameters())["sae.aux_k"].set_number_value(0);
  return trials;
}

TEST(Results, TableLinesUpAndComparesAtEqualL0) {
  EXPECT_EQ(ResultsText(CollectResults(DemoSweep(), DemoTrials())),
            R"(demo: metrics on held-out rows. * = on the Pareto front of FVU against L0.
DEAD = latents that fired on no held-out row and in none of the last max(5e5, 25%) training tokens.

   TRIAL  PARAMETERS                      FVU  EXPL.VAR     L0   DEAD   GAMMA  TOKENS/S  STATE
*  0000   topk k=16                    0.3100    0.6900  16.00  0.40%  0.9980     12.3k  SUCCEEDED
*  0001   topk k=32                    0.2200    0.7800  32.00  0.40%  0.9980     12.3k  SUCCEEDED
   0006   topk aux_k=0 k=32            0.2500    0.7500  32.00  35.0%  0.9980     12.3k  SUCCEEDED
*  0002   topk k=64                    0.1500    0.8500  64.00  0.40%  0.9980     12.3k  SUCCEEDED
*  0003   topk k=128                   0.0900    0.9100  128.0  0.40%  0.9980     12.3k  SUCCEEDED
   0005   relu_l1 l1_coefficient=0.1   0.3300    0.6700  40.00  3.10%  0.9100     9.10k  SUCCEEDED
   0004   relu_l1 l1_coefficient=0.02  0.1200    0.8800  150.0  3.10%  0.9100     9.10k  SUCCEEDED

topk and relu_l1 at equal L0: held-out FVU, interpolated along each front in log L0
  L0    topk  relu_l1  LOWER
40.0  0.1975   0.3300  topk
64.0  0.1500   0.2553  topk
 128  0.0900   0.1452  topk
topk has the lower FVU at 3 of 3 points

AuxK (topk k=32): dead 0.40% with it, 35.0% without; FVU 0.2200 with it, 0.2500 without

best (smallest heldout.fvu with heldout.l0 <= 64): 0002  topk k=64  0.1500
)");
}

TEST(Results, BestMeetsTheConstraints) {
  EXPECT_EQ(CollectResults(DemoSweep(), DemoTrials()).best,
            2);  // k = 128 is better, but has L0 above 64
  auto sweep = DemoSweep();
  sweep.mutable_spec()->mutable_objective()->clear_constraints();
  EXPECT_EQ(CollectResults(sweep, DemoTrials()).best, 3);
  sweep.mutable_spec()->mutable_objective()->set_goal(saeloom::v1::Objective::GOAL_MAXIMIZE);
  EXPECT_EQ(CollectResults(sweep, DemoTrials()).best, 5);
}

TEST(Results, RunningFailedAndNonFiniteTrialsAreNeverTheBest) {
  auto trials = DemoTrials();
  trials[2].set_state(saeloom::v1::Trial::STATE_FAILED);
  (*trials[1].mutable_metrics())["heldout.fvu"] = std::numeric_limits<double>::quiet_NaN();
  trials[6].set_state(saeloom::v1::Trial::STATE_RUNNING);
  const Results r = CollectResults(DemoSweep(), trials);
  EXPECT_EQ(r.best, 0);
  EXPECT_FALSE(r.rows[1].on_front);
  for (auto& t : trials) t.clear_metrics();
  const Results none = CollectResults(DemoSweep(), trials);
  EXPECT_EQ(none.best, -1);
  EXPECT_THAT(ResultsText(none), HasSubstr("best (smallest heldout.fvu with heldout.l0 <= 64): no "
                                           "trial that has ended well meets it"));
  EXPECT_THAT(
      ResultsText(none),
      HasSubstr("not comparable: topk has no finished trial, relu_l1 has no finished trial"));
}

TEST(Results, FrontsThatDoNotOverlapAreSaidToBeNotComparable) {
  const std::vector<saeloom::v1::Trial> trials = {TopK("0000", 16, 0.31), TopK("0001", 32, 0.22),
                                                  Relu("0002", 0.02, 0.12, 150)};
  EXPECT_THAT(ResultsText(CollectResults(DemoSweep(), trials)),
              HasSubstr("not comparable: topk spans L0 16.0 to 32.0, relu_l1 is at L0 150\n"));
}

/// Every architecture and a few variants, each near L0 32 and 64.
std::vector<saeloom::v1::Trial> EveryArchitecture() {
  std::vector<saeloom::v1::Trial> trials;
  const auto add = [&](const std::string& architecture, double fvu, bool ranked) {
    for (const int l0 : {32, 64}) {
      auto t = testing::MakeTrial(TrialId(static_cast<std::int64_t>(trials.size())), architecture);
      (*t.mutable_parameters())["sae.architecture"].set_string_value(architecture);
      (*t.mutable_parameters())[ranked ? "sae.k" : "sae.target_l0"].set_number_value(l0);
      auto& m = *t.mutable_metrics();
      m["heldout.fvu"] = fvu * 32 / l0;
      m["heldout.l0"] = ranked ? l0 : l0 * 1.02;
      trials.push_back(std::move(t));
    }
  };
  for (const char* name : {"topk", "batchtopk", "matryoshka"}) add(name, 0.20, true);
  for (const char* name : {"relu_l1", "gated", "jumprelu", "relu_l1", "jumprelu"})
    add(name, 0.30, false);
  for (const std::size_t i : {12U, 13U, 14U, 15U}) {
    const std::string penalty = i < 14 ? "lp" : "tanh";
    (*trials[i].mutable_parameters())["sae.penalty"].set_string_value(penalty);
    trials[i].mutable_config()->mutable_sae()->set_penalty(penalty);
  }
  (*trials[2].mutable_metrics())["heldout.fvu"] = 0.15;  // batchtopk at 32
  return trials;
}

TEST(Results, VariantsAreSeriesOfTheirOwn) {
  auto t = testing::MakeTrial("0000", "relu_l1");
  auto* sae = t.mutable_config()->mutable_sae();
  for (const auto& [penalty, series] :
       {std::pair{"", "relu_l1"}, {"auto", "relu_l1"}, {"l1", "relu_l1"}, {"lp", "relu_l1/lp"}}) {
    sae->set_penalty(penalty);
    EXPECT_EQ(SeriesText(t), series);
  }
  (*t.mutable_parameters())["sae.penalty"].set_string_value("lp");
  (*t.mutable_parameters())["sae.target_l0"].set_number_value(32);
  EXPECT_EQ(ParameterText(t), "relu_l1/lp target_l0=32");
  sae->set_penalty("auto");
  sae->set_architecture("topk");
  sae->set_multi_topk(true);
  EXPECT_EQ(SeriesText(t), "topk/multi");
  sae->set_transcoder(true);
  sae->set_multi_topk(false);
  EXPECT_EQ(SeriesText(t), "topk/transcoder");
  sae->set_skip(true);
  EXPECT_EQ(SeriesText(t), "topk/skip");
}

TEST(Results, ManySeriesAreComparedInOneTable) {
  const std::string text = ResultsText(CollectResults(DemoSweep(), EveryArchitecture()));
  EXPECT_THAT(text, HasSubstr(R"(
held-out FVU along each front, linear in log L0, up to 10% beyond its ends; * = lowest
AT EQUAL L0     L0 32.0   L0 64.0
jumprelu         0.3043    0.1543
jumprelu/tanh    0.3043    0.1543
gated            0.3043    0.1543
matryoshka       0.2000  * 0.1000
batchtopk      * 0.1500  * 0.1000
topk             0.2000  * 0.1000
relu_l1          0.3043    0.1543
relu_l1/lp       0.3043    0.1543
)"));
  EXPECT_THAT(text, HasSubstr("jumprelu/tanh target_l0=32"));
  EXPECT_THAT(text, Not(HasSubstr("at equal L0: held-out")));  // no pairs beside it
}

TEST(Results, TranscodersHaveAFrontOfTheirOwn) {
  auto trials = EveryArchitecture();
  for (const std::size_t i : {0U, 1U})
    trials[i].mutable_config()->mutable_sae()->set_transcoder(true);
  (*trials[0].mutable_metrics())["heldout.fvu"] = 0.01;  // topk/transcoder at 32
  (*trials[1].mutable_metrics())["heldout.fvu"] = 0.02;
  const Results r = CollectResults(DemoSweep(), trials);
  EXPECT_TRUE(r.rows[0].on_front);
  EXPECT_FALSE(r.rows[1].on_front);
  EXPECT_TRUE(r.rows[2].on_front) << "the best autoencoder, though a transcoder is below it";
  const std::string text = ResultsText(r);
  EXPECT_THAT(text, HasSubstr("batchtopk        * 0.1500  * 0.1000\n"));
}

TEST(Results, AuxKIsJudgedForEveryRankedArchitecture) {
  auto trials = EveryArchitecture();
  trials[3] = trials[2];  // batchtopk at 32, once more without AuxK
  trials[3].set_name(TrialName("demo", "0003"));
  trials[3].mutable_config()->mutable_sae()->set_aux_k(0);
  const Results r = CollectResults(DemoSweep(), trials);
  ASSERT_EQ(r.aux.size(), 1U);
  EXPECT_EQ(r.aux[0].with, 2U);
  EXPECT_EQ(r.aux[0].without, 3U);
}

TEST(Results, JsonHasTheSameNumbers) {
  const auto j = nlohmann::json::parse(ResultsJson(CollectResults(DemoSweep(), DemoTrials())));
  EXPECT_EQ(j["best"], "0002");
  EXPECT_EQ(j["trials"].size(), 7U);
  EXPECT_EQ(j["trials"][3]["fvu"], 0.09);
  EXPECT_EQ(j["trials"][3]["on_front"], true);
  EXPECT_EQ(j["comparisons"][0]["a"], "topk");
  EXPECT_EQ(j["comparisons"][0]["comparable"], true);
  EXPECT_EQ(j["aux_k"][0]["with"], "0001");
  EXPECT_EQ(j["aux_k"][0]["without"], "0006");
}

TEST(Figure, HasAxesLegendAndEveryPoint) {
  const std::string svg = ParetoSvg(CollectResults(DemoSweep(), DemoTrials()));
  EXPECT_THAT(svg, HasSubstr("L0: active latents per token, held-out rows (log scale)"));
  EXPECT_THAT(svg, HasSubstr("FVU, held-out rows"));
  for (const char* label : {">topk<", ">relu_l1<", ">k=16<", ">k=128<", ">λ=0.02<",
                            ">aux_k=0 k=32<", ">20<", ">100<", ">0.1<"}) {
    EXPECT_THAT(svg, HasSubstr(label));
  }
  const auto count = [&](const std::string& what) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = svg.find(what, at)) != std::string::npos; ++at) ++n;
    return n;
  };
  EXPECT_EQ(count("<polyline"), 2U);
  EXPECT_EQ(count("<circle"), 6U);          // 5 topk and its legend
  EXPECT_EQ(count("<path transform"), 3U);  // 2 relu_l1 and its legend
  // Log axis from 16 / 1.25 to 150 * 1.25, 664 pixels wide from 72 on; FVU 0.31 between the ticks
  // 0.05 and 0.35.
  EXPECT_THAT(svg, HasSubstr("<circle cx=\"127.2\" cy=\"97.6\""));
}

TEST(Figure, EightSeriesDifferInColourShapeAndDashes) {
  const std::string svg = ParetoSvg(CollectResults(DemoSweep(), EveryArchitecture()));
  const auto values = [&](const std::string& attribute) {
    std::set<std::string> out;
    for (std::size_t at = 0; (at = svg.find(attribute, at)) != std::string::npos; ++at) {
      const std::size_t begin = at + attribute.size();
      out.insert(svg.substr(begin, svg.find('"', begin) - begin));
    }
    return out;
  };
  EXPECT_EQ(values("stroke-dasharray=\"").size(), 8U);
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = svg.find("<polyline", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 8U);
  std::set<std::string> outlines;
  for (std::size_t at = 0; (at = svg.find(" d=\"M", at)) != std::string::npos; ++at) {
    if (svg[at - 1] == ')' || svg[at - 1] == '"') outlines.insert(svg.substr(at + 4, 18));
  }
  EXPECT_GE(outlines.size(), 7U);  // and the circle
  for (const char* name : {">jumprelu/tanh<", ">relu_l1/lp<", ">matryoshka<"})
    EXPECT_THAT(svg, HasSubstr(name));
  // Two lines of legend: the second one is 16 pixels below the first.
  EXPECT_THAT(svg, HasSubstr("y=\"41.0\""));
  EXPECT_THAT(svg, HasSubstr("y=\"57.0\""));
}

TEST(Figure, WithoutMetricsItSaysSo) {
  auto trials = DemoTrials();
  for (auto& t : trials) t.clear_metrics();
  EXPECT_THAT(ParetoSvg(CollectResults(DemoSweep(), trials)),
              HasSubstr("no trial has held-out metrics yet"));
}

TEST(Figure, EscapesWhatItPrints) {
  auto trials = DemoTrials();
  (*trials[0].mutable_parameters())["sae.k"].set_string_value("<&\">");
  const std::string svg = ParetoSvg(CollectResults(DemoSweep(), trials));
  EXPECT_THAT(svg, HasSubstr("k=&lt;&amp;&quot;&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("<&")));
}

TEST(Figure, Ticks) {
  EXPECT_EQ(LogTicks(12.8, 187), (std::vector<double>{20, 50, 100}));
  EXPECT_EQ(LogTicks(25, 82), (std::vector<double>{30, 40, 50, 60, 70, 80}));
  EXPECT_EQ(LinearTicks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(LinearTicks(0.5, 0.5, 5).size(), 6U);  // one value still gets an axis
}

}  // namespace
}  // namespace sae::cli
