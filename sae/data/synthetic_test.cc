#include "sae/data/synthetic.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::data {
namespace {
using ::testing::HasSubstr;

std::unique_ptr<SyntheticSource> Make(const SyntheticOptions& options) {
  auto source = SyntheticSource::Create(options);
  EXPECT_TRUE(source.ok()) << source.status();
  return *std::move(source);
}

TEST(SyntheticTest, RowsAreTheSumOfTheirFeaturesAndTheBias) {
  SyntheticOptions o;
  o.d = 16;
  o.features = 40;
  auto source = Make(o);
  std::vector<float> rows(20 * 16);
  ASSERT_TRUE(source->Seek(100).ok());
  ASSERT_TRUE(source->Next(rows).ok());
  EXPECT_EQ(source->Position(), 120);
  for (std::int64_t r = 0; r < 20; ++r) {
    const auto a = source->Amplitudes(100 + r);
    for (std::size_t c = 0; c < 16; ++c) {
      double want = source->bias()[c];
      for (std::size_t i = 0; i < 40; ++i)
        want += static_cast<double>(a[i]) * source->dictionary()[i * 16 + c];
      EXPECT_NEAR(rows[static_cast<std::size_t>(r) * 16 + c], want, 1e-5);
    }
  }
}

TEST(SyntheticTest, FewFeaturesAreOrthonormalAndManyAreUnit) {
  for (const std::int64_t n : {16, 50}) {
    SyntheticOptions o;
    o.d = 16;
    o.features = n;
    auto source = Make(o);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        double dot = 0;
        for (std::int64_t c = 0; c < 16; ++c) {
          dot += static_cast<double>(source->dictionary()[static_cast<std::size_t>(i * 16 + c)]) *
                 source->dictionary()[static_cast<std::size_t>(j * 16 + c)];
        }
        if (i == j) {
          EXPECT_NEAR(dot, 1, 1e-5);
        } else if (n <= 16) {
          EXPECT_NEAR(dot, 0, 1e-5);
        }
      }
    }
  }
}

TEST(SyntheticTest, FiringRatesAreTheProbabilities) {
  SyntheticOptions o;
  o.d = 8;
  o.features = 12;
  o.p_max = 0.4;
  o.p_min = 0.02;
  o.sigma = 0;
  auto source = Make(o);
  EXPECT_DOUBLE_EQ(source->probabilities().front(), 0.4);
  EXPECT_DOUBLE_EQ(source->probabilities().back(), 0.02);
  const int rows = 20000;
  std::vector<int> fired(12);
  for (int r = 0; r < rows; ++r) {
    const auto a = source->Amplitudes(r);
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_TRUE(a[i] == 0.0F || a[i] == 1.0F);
      fired[i] += a[i] > 0 ? 1 : 0;
    }
  }
  for (std::size_t i = 0; i < 12; ++i) {
    const double p = source->probabilities()[i];
    EXPECT_NEAR(fired[i] / static_cast<double>(rows), p, 5 * std::sqrt(p * (1 - p) / rows)) << i;
  }
}

TEST(SyntheticTest, SpecIsParsedAndMistakesAreNamed) {
  auto spec = ParseSyntheticSpec("d=32,features=100,rows=77,seed=9,p_max=0.5,zipf=1.5");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->options.d, 32);
  EXPECT_EQ(spec->options.features, 100);
  EXPECT_EQ(spec->rows, 77);
  EXPECT_EQ(spec->options.seed, 9U);
  EXPECT_EQ(spec->options.p_max, 0.5);
  EXPECT_EQ(spec->options.zipf, 1.5);
  EXPECT_THAT(Message(ParseSyntheticSpec("feature=3").status()),
              HasSubstr("did you mean 'features'?"));
  EXPECT_THAT(Message(ParseSyntheticSpec("d=x").status()), HasSubstr("'d=x' is not KEY=NUMBER"));
  EXPECT_FALSE(ParseSyntheticSpec("d=0").ok());
  EXPECT_FALSE(ParseSyntheticSpec("rows=0").ok());
  EXPECT_FALSE(ParseSyntheticSpec("p_max=0.001").ok());
}

}  // namespace
}  // namespace sae::data
