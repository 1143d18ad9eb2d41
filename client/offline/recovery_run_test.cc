// The cases of examples/recover.yaml, each toy as one test, and the theory of shrinkage.
#include <gtest/gtest.h>

#include "client/offline/recovery.h"

namespace sae::client {
namespace {

constexpr char kFile[] = SAE_SOURCE_DIR "/examples/recover.yaml";

void ExpectAllHold(const std::string& only) {
  RecoverySpec spec = LoadRecoverySpec(kFile).value();
  const std::size_t separations = spec.separations.size();
  ASSERT_TRUE(KeepOnly(only, &spec).ok());
  EXPECT_LT(spec.separations.size(), separations);
  EXPECT_FALSE(spec.separations.empty()) << "none is left for " << only;
  const std::vector<RecoveryRun> runs = RunRecoveryCases(spec.cases, 2);
  std::map<std::string, RecoveryMetrics> all;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RecoveryCase& c = spec.cases[i];
    ASSERT_TRUE(runs[i].status.ok()) << c.name << ": " << runs[i].status;
    for (const std::string& f : Failures(c, runs[i].metrics)) ADD_FAILURE() << c.name << ": " << f;
    // What training evaluated is what users of the saved SAE get.
    EXPECT_NEAR(runs[i].metrics.at("saved_fvu"), runs[i].metrics.at("fvu"), 1e-4) << c.name;
    all[c.name] = runs[i].metrics;
  }
  for (const Separation& s : spec.separations) {
    for (const std::string& f : Failures(s, all)) ADD_FAILURE() << s.name << ": " << f;
  }
}

// Property 85.
TEST(Recovery, ToyAIsRecoveredWithinItsBands) { ExpectAllHold("a_"); }

// Property 85.
TEST(Recovery, ToyBIsRecoveredWithinItsBands) { ExpectAllHold("b_"); }

// Property 85.
TEST(Recovery, AbsorptionAppearsUnderL1AndVanishesWithSlack) { ExpectAllHold("absorption_"); }

// One feature of probability p, a ~ U(0.5, 1.5), under lambda: f + b = a - lambda / 2 where it is
// on and b where it is off, b minimises p lambda (a - b) + (1 - p) b^2, so b = p lambda / (2 (1 -
// p)). Orthonormal features add up. Property 19.
TEST(Recovery, L1ShrinksByHalfOfLambda) {
  RecoverySpec spec = LoadRecoverySpec(kFile).value();
  std::erase_if(spec.cases,
                [](const auto& c) { return c.name != "a_l1" && c.name != "a_l1_weak"; });
  ASSERT_EQ(spec.cases.size(), 2U);
  const std::vector<RecoveryRun> runs = RunRecoveryCases(spec.cases, 2);
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(runs[i].status.ok()) << runs[i].status;
    const double lambda = spec.cases[i].trial.sae.l1_coefficient;
    const double p = 0.1, mean = 1, square = 13.0 / 12;
    const double b = p * lambda / (2 * (1 - p));
    const double shrunk = square - lambda * mean + lambda * lambda / 4;  // E (a - lambda / 2)^2
    const double off = (1 - p) * b * b;
    const double gamma = (p * shrunk + off) / (p * (square - lambda / 2 * mean));
    const double fvu = (p * lambda * lambda / 4 + off) / (p * square - p * p * mean * mean);
    EXPECT_NEAR(runs[i].metrics.at("gamma"), gamma, 0.002) << lambda;
    EXPECT_NEAR(runs[i].metrics.at("fvu"), fvu, 0.03 * fvu) << lambda;
    EXPECT_EQ(runs[i].metrics.at("l0"), runs[i].metrics.at("true_l0"));
  }
}

// Feature 0 alone: what the encoder and decoder make of each magnitude.
// Property 19.
TEST(Recovery, OneFeatureComesBackShrunkByHalfOfLambda) {
  const std::string json =
      R"({"apiVersion":"saeloom/v1","trial":{"sae":{"architecture":"relu_l1","latents":4,
          "input_scale":"none","l1_coefficient":0.4},"train":{"lr":3e-3,"batch":256,
          "lr_warmup_steps":100,"sparsity_warmup_steps":100}},
          "cases":[{"name":"one","method":"L1","data":"d=3,features=1,p=0.02,mu=1,sigma=0,bias_norm=0",
          "steps":3000,"evaluation_rows":8192,"expect":{}}]})";
  const RecoverySpec spec = ParseRecoverySpec(json).value();
  const RecoveryRun run = RunRecoveryCases(spec.cases, 1)[0];
  ASSERT_TRUE(run.status.ok()) << run.status;
  EXPECT_NEAR(run.metrics.at("mcc"), 1, 1e-3);
  // All magnitudes are 1: gamma is (a - lambda / 2) / a, but for b_dec, 0.004 on rows that are 0.
  EXPECT_NEAR(run.metrics.at("gamma"), 0.8, 0.005);
}

}  // namespace
}  // namespace sae::client
