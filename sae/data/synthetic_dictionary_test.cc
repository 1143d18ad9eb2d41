#include "sae/data/synthetic_dictionary.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sae::data {
namespace {

double Dot(const std::vector<float>& f, std::int64_t i, std::int64_t j, std::int64_t d) {
  double sum = 0;
  for (std::int64_t c = 0; c < d; ++c) {
    sum += static_cast<double>(f[static_cast<std::size_t>(i * d + c)]) *
           f[static_cast<std::size_t>(j * d + c)];
  }
  return sum;
}

/// mean_i sum_{j != i} (F_i . F_j)^2 by its definition.
double Overlap(const std::vector<float>& f, std::int64_t d) {
  const std::int64_t n = static_cast<std::int64_t>(f.size()) / d;
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) sum += i == j ? 0 : std::pow(Dot(f, i, j, d), 2);
  }
  return sum / static_cast<double>(n);
}

TEST(SyntheticDictionary, FewFeaturesAreOrthonormalAndManyAreUnit) {
  for (const std::int64_t n : {16, 50}) {
    SyntheticOptions o;
    o.d = 16;
    o.features = n;
    const std::vector<float> f = MakeDictionary(o);
    for (std::int64_t i = 0; i < n; ++i) {
      EXPECT_NEAR(Dot(f, i, i, 16), 1, 1e-5);
      for (std::int64_t j = 0; n <= 16 && j < i; ++j) EXPECT_NEAR(Dot(f, i, j, 16), 0, 1e-5);
    }
  }
}

TEST(SyntheticDictionary, OrthogonalisingReachesTheLeastOverlapThatManyVectorsCanHave) {
  SyntheticOptions o;
  o.d = 16;
  o.features = 40;
  const std::vector<float> random = MakeDictionary(o);
  EXPECT_NEAR(MeanSquaredOverlap(random, 16), Overlap(random, 16), 1e-5);
  o.orthogonalise_steps = 200;
  const std::vector<float> f = MakeDictionary(o);
  for (std::int64_t i = 0; i < 40; ++i) EXPECT_NEAR(Dot(f, i, i, 16), 1, 1e-5);
  // Welch's bound: sum_ij (F_i . F_j)^2 >= N^2 / d, so at least N / d - 1 a row.
  const double bound = 40.0 / 16 - 1;
  EXPECT_GT(Overlap(random, 16), 1.3 * bound);
  EXPECT_GE(Overlap(f, 16), bound - 1e-5);
  EXPECT_LT(Overlap(f, 16), 1.01 * bound);
  EXPECT_EQ(MakeDictionary(o), f);
}

TEST(SyntheticDictionary, AxesAreTheFirstOnes) {
  SyntheticOptions o;
  o.d = 3;
  o.features = 2;
  o.axes = true;
  EXPECT_EQ(MakeDictionary(o), (std::vector<float>{1, 0, 0, 0, 1, 0}));
}

TEST(SyntheticDictionary, BiasHasItsNorm) {
  SyntheticOptions o;
  o.d = 20;
  o.bias_norm = 3;
  double squares = 0;
  for (const float v : MakeBias(o)) squares += static_cast<double>(v) * v;
  EXPECT_NEAR(std::sqrt(squares), 3, 1e-5);
}

}  // namespace
}  // namespace sae::data
