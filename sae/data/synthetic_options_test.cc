#include "sae/data/synthetic_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::data {
namespace {
using ::testing::HasSubstr;

std::string Error(const std::string& text) { return Message(ParseSyntheticSpec(text).status()); }

TEST(SyntheticOptions, SpecIsParsedAndMistakesAreNamed) {
  auto spec = ParseSyntheticSpec("d=32,features=100,rows=77,seed=9,p_max=0.5,zipf=1.5");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->options.d, 32);
  EXPECT_EQ(spec->options.features, 100);
  EXPECT_EQ(spec->rows, 77);
  EXPECT_EQ(spec->options.seed, 9U);
  EXPECT_EQ(spec->options.p_max, 0.5);
  EXPECT_EQ(spec->options.zipf, 1.5);
  EXPECT_THAT(Error("feature=3"), HasSubstr("did you mean 'features'?"));
  EXPECT_THAT(Error("d=x"), HasSubstr("'d=x' is not KEY=NUMBER"));
  EXPECT_THAT(Error("d=0"), HasSubstr("d=0 needs 1 or more"));
  EXPECT_THAT(Error("rows=0"), HasSubstr("rows=0 must be at least 1"));
  EXPECT_THAT(Error("p_max=0.001"), HasSubstr("0 <= p_min <= p_max <= 1"));
  EXPECT_THAT(Error("low=2,high=1"), HasSubstr("0 <= low <= high"));
  EXPECT_THAT(Error("roots=300,branching=2"), HasSubstr("roots=300 is more than features=256"));
  EXPECT_THAT(Error("d=3,features=4,axes=1"), HasSubstr("axes=1 needs features=4 of at most d=3"));
  EXPECT_THAT(Error("roots=3,depth=1"), HasSubstr("branching 1 or more"));
}

TEST(SyntheticOptions, PresetsAreNamedFirstAndCanBeChanged) {
  auto spec = ParseSyntheticSpec("preset=toy_b,seed=3,p=0.1,rows=5");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->options.features, 64);
  EXPECT_EQ(spec->options.d, 32);
  EXPECT_EQ(spec->options.p_max, 0.1);
  EXPECT_EQ(spec->options.p_min, 0.1);
  EXPECT_EQ(spec->options.high, 1.5);
  EXPECT_THAT(Error("preset=absorbtion"), HasSubstr("did you mean 'absorption'?"));
  EXPECT_THAT(Error("d=3,preset=toy_a"), HasSubstr("has to be the first key"));
  EXPECT_THAT(Error("preset=absorption,features=5"), HasSubstr("4 probabilities are given"));
}

TEST(SyntheticOptions, TextParsesToTheSameOptions) {
  for (const std::string text :
       {"seed=4", "preset=synthsaebench_16k,rows=9,depth=2,exclusive=0", "preset=toy_a,seed=1",
        "roots=4,branching=3,depth=1,mu_end=0.25,sigma_spread=0.5", "preset=absorption,mu=2"}) {
    const SyntheticSpec spec = ParseSyntheticSpec(text).value();
    const std::string written = ToText(spec);
    const SyntheticSpec again = ParseSyntheticSpec(written).value();
    EXPECT_EQ(ToText(again), written);
    EXPECT_EQ(again.options.depth, spec.options.depth) << written;
    EXPECT_EQ(again.options.exclusive, spec.options.exclusive) << written;
    EXPECT_EQ(again.options.mu_end, spec.options.mu_end) << written;
    EXPECT_EQ(again.options.parents, spec.options.parents) << written;
    EXPECT_EQ(again.options.sigma_spread, spec.options.sigma_spread) << written;
  }
  EXPECT_EQ(ToText({}),
            "d=64,features=256,rows=50000,seed=0,p_max=0.1,p_min=0.005,zipf=0.5,mu=1,"
            "sigma=0.25,bias_norm=0.5");
}

}  // namespace
}  // namespace sae::data
