#include "client/cli/results.h"

#include <limits>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/figure.h"
#include "client/cli/testing/trials.h"

namespace sae::cli {
namespace {
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
  EXPECT_EQ(count("<circle"), 6U);  // 5 topk and its legend
  EXPECT_EQ(count("<rect"), 4U);    // background, 2 relu_l1 and its legend
  // Log axis from 16 / 1.25 to 150 * 1.25, 664 pixels wide from 72 on; FVU 0.31 between the ticks
  // 0.05 and 0.35.
  EXPECT_THAT(svg, HasSubstr("<circle cx=\"127.2\" cy=\"97.6\""));
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
  EXPECT_EQ(LinearTicks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(LinearTicks(0.5, 0.5, 5).size(), 6U);  // one value still gets an axis
}

}  // namespace
}  // namespace sae::cli
