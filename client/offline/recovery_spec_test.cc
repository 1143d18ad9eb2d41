#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/offline/recovery.h"
#include "sae/config/yaml.h"

namespace sae::client {
namespace {
using ::testing::HasSubstr;

constexpr char kFile[] = SAE_SOURCE_DIR "/examples/recover.yaml";

std::string Error(const std::string& yaml) {
  return Message(ParseRecoverySpec(config::YamlToJson(yaml, "f").value()).status());
}

constexpr char kCase[] =
    "apiVersion: saeloom/v1\ncases:\n  - {name: x, method: TopK, data: preset=toy_a, steps: 10, "
    "trial: {sae: {latents: 8, k: 2}}, expect: {fvu: [0, 1]}}\n";

TEST(RecoverySpec, MistakesNameTheCaseAndTheKey) {
  EXPECT_EQ(Error(kCase), "");
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kCase;
    return Error(text.replace(text.find(from), from.size(), to));
  };
  EXPECT_EQ(with("method", "methud"), "case x: unknown key methud, did you mean method?");
  EXPECT_THAT(with("k: 2", "k: 9"), HasSubstr("case x: sae.k: 9 is more than sae.latents 8"));
  EXPECT_THAT(with("fvu", "fvo"), HasSubstr("unknown key fvo"));
  EXPECT_THAT(with("[0, 1]", "[1, 0]"), HasSubstr("case x: expect.fvu is not [low, high]"));
  EXPECT_THAT(with("toy_a", "toy_c"), HasSubstr("case x: synthetic data: unknown preset 'toy_c'"));
  EXPECT_THAT(with("steps: 10, ", ""), HasSubstr("case x: "));
  EXPECT_THAT(with("steps: 10", "steps: 10, seeds: 0"),
              HasSubstr("case x: steps, evaluation_rows and seeds need 1 or more"));
  EXPECT_THAT(with("saeloom/v1", "v2"), HasSubstr("apiVersion is not saeloom/v1"));
  EXPECT_THAT(Error(std::string(kCase) +
                    "separations: [{name: s, metric: fvu, below: {limit: 1, cases: [y]}, above: "
                    "{limit: 2, cases: []}}]"),
              HasSubstr("separation s: below: there is no case y"));
}

TEST(RecoverySpec, VerdictsSayWhatDoesNotHold) {
  RecoveryCase c;
  c.expect = {{"fvu", {0.1, 0.2}}, {"l0", {3, 4}}, {"hole", {0, 1}}};
  EXPECT_THAT(
      Failures(c, {{"fvu", 0.15}, {"l0", 4.5}}),
      ::testing::ElementsAre("hole is not measured on this data", "l0 4.5 is not in [3, 4]"));
  EXPECT_THAT(Failures(c, {{"fvu", NAN}, {"l0", 3}, {"hole", 1}}), ::testing::SizeIs(1));
  const Separation s = {"gap", "gamma", {"a", "b"}, {"c"}, 0.92, 0.99};
  EXPECT_THAT(
      Failures(s, {{"a", {{"gamma", 0.9}}}, {"b", {{"gamma", 0.95}}}, {"c", {{"gamma", 1}}}}),
      ::testing::ElementsAre("b: gamma 0.95 is not below 0.92"));
}

TEST(RecoverySpec, OnlyKeepsOneCaseOrThoseThatBeginSo) {
  RecoverySpec spec = LoadRecoverySpec(kFile).value();
  RecoverySpec one = spec, toy = spec;
  ASSERT_TRUE(KeepOnly("a_l1", &one).ok());
  EXPECT_EQ(one.cases.size(), 1U);
  EXPECT_TRUE(one.separations.empty());
  ASSERT_TRUE(KeepOnly("absorption", &toy).ok());
  EXPECT_EQ(toy.cases.size(), 3U);
  EXPECT_EQ(toy.separations.size(), 2U);
  EXPECT_THAT(Message(KeepOnly("zz", &spec)), HasSubstr("there are a_l1, a_l1_weak"));
}

}  // namespace
}  // namespace sae::client
