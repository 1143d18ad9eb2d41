// Frequencies by chi-square: sum_i (observed - expected)^2 / variance over independent features has
// as many degrees of freedom as features; the bounds are its quantiles at 1e-6 and 1 - 1e-6 (Wilson
// and Hilferty's approximation). Seeds are fixed.
#include "sae/data/synthetic_firing.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/data/synthetic.h"

namespace sae::data {
namespace {

std::unique_ptr<SyntheticSource> Make(const std::string& text) {
  auto spec = ParseSyntheticSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return SyntheticSource::Create(spec->options).value();
}

double ChiSquareQuantile(double degrees, double z) {
  const double v = 2 / (9 * degrees);
  return degrees * std::pow(1 - v + z * std::sqrt(v), 3);
}

void ExpectRates(const std::vector<double>& fired, const std::vector<double>& p, double rows) {
  double statistic = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    statistic += std::pow(fired[i] - rows * p[i], 2) / (rows * p[i] * (1 - p[i]));
  }
  const auto degrees = static_cast<double>(p.size());
  EXPECT_GT(statistic, ChiSquareQuantile(degrees, -4.75));
  EXPECT_LT(statistic, ChiSquareQuantile(degrees, 4.75));
}

struct Counts {
  std::vector<double> fired;
  double l0 = 0;
};

Counts Count(const SyntheticSource& source, std::int64_t rows) {
  Counts c;
  c.fired.resize(source.probabilities().size());
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::vector<float> a = source.Amplitudes(r);
    for (std::size_t i = 0; i < a.size(); ++i) c.fired[i] += a[i] > 0 ? 1 : 0;
  }
  for (const double f : c.fired) c.l0 += f / static_cast<double>(rows);
  return c;
}

// Property 84.
TEST(SyntheticFiring, IndependentFeaturesFireAtTheirProbabilities) {
  const auto source = Make("d=4,features=40,p_max=0.4,p_min=0.02,sigma=0");
  EXPECT_DOUBLE_EQ(source->probabilities().front(), 0.4);
  EXPECT_DOUBLE_EQ(source->probabilities().back(), 0.02);
  const std::int64_t rows = 20000;
  const Counts c = Count(*source, rows);
  ExpectRates(c.fired, source->probabilities(), rows);
  double l0 = 0, variance = 0;
  for (const double p : source->probabilities()) {
    l0 += p;
    variance += p * (1 - p);
  }
  EXPECT_NEAR(c.l0, l0, 5 * std::sqrt(variance / rows));
}

// Property 84.
TEST(SyntheticFiring, CopulaKeepsTheMarginalsAndCorrelatesPairsAsItsLoadingsSay) {
  const auto source =
      Make("d=4,features=24,p_max=0.4,p_min=0.05,sigma=0,correlation_rank=1,correlation_scale=0.7");
  const std::int64_t rows = 40000;
  std::vector<double> fired(24), both(24);  // both: i and i + 1
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::vector<float> a = source->Amplitudes(r);
    for (std::size_t i = 0; i < 24; ++i) {
      fired[i] += a[i] > 0 ? 1 : 0;
      both[i] += a[i] > 0 && a[(i + 1) % 24] > 0 ? 1 : 0;
    }
  }
  double farthest = 0;
  for (std::size_t i = 0; i < 24; ++i) {
    const double p = source->probabilities()[i];
    EXPECT_NEAR(fired[i] / rows, p, 5 * std::sqrt(p * (1 - p) / rows)) << i;
    // P(i and j) = integral of phi(z) Phi((l_i z - t_i) / r_i) Phi((l_j z - t_j) / r_j) dz.
    const std::size_t pair[2] = {i, (i + 1) % 24};
    double joint = 0;
    for (double z = -8; z <= 8; z += 0.01) {
      double product = 0.01 * std::exp(-z * z / 2) / std::sqrt(2 * M_PI);
      for (const std::size_t q : pair) {
        const double l = source->firing().loadings()[q];
        const double t = NormalQuantile(1 - source->probabilities()[q]);
        product *= 0.5 * std::erfc((t - l * z) / std::sqrt(1 - l * l) / std::sqrt(2.0));
      }
      joint += product;
    }
    EXPECT_NEAR(both[i] / rows, joint, 5 * std::sqrt(joint * (1 - joint) / rows)) << i;
    farthest = std::max(farthest, std::abs(joint - p * source->probabilities()[(i + 1) % 24]));
  }
  EXPECT_GT(farthest, 0.03);  // correlated indeed
}

TEST(SyntheticFiring, LoadingsLeaveVarianceToTheFeatureItself) {
  const auto source = Make("d=4,features=50,correlation_rank=3,correlation_scale=2");
  double largest = 0;
  for (std::size_t i = 0; i < 50; ++i) {
    double squares = 0;
    for (std::size_t r = 0; r < 3; ++r)
      squares += std::pow(source->firing().loadings()[i * 3 + r], 2);
    largest = std::max(largest, squares);
  }
  EXPECT_NEAR(largest, 0.99, 1e-12);
}

TEST(SyntheticFiring, QuantileInvertsTheNormalDistribution) {
  for (const double p : {1e-12, 5e-4, 0.02, 0.1, 0.3, 0.5, 0.8, 0.9995}) {
    EXPECT_NEAR(0.5 * std::erfc(-NormalQuantile(p) / std::sqrt(2.0)), p, 1e-13 * p + 1e-16) << p;
  }
  EXPECT_NEAR(NormalQuantile(0.975), 1.959963984540054, 1e-12);
  EXPECT_EQ(NormalQuantile(0), -INFINITY);
  EXPECT_EQ(NormalQuantile(1), INFINITY);
}

// Property 84.
TEST(SyntheticFiring, ChildrenFireOnlyWithTheirParentAndSiblingsOneAtATime) {
  const auto source = Make(
      "d=4,features=60,p_max=0.5,p_min=0.05,sigma=0.3,roots=4,branching=3,depth=2,exclusive=1,"
      "scale_by_parent=1,correlation_rank=2,correlation_scale=0.3");
  const std::vector<std::int64_t>& parents = source->parents();
  EXPECT_EQ(parents[3], -1);
  EXPECT_EQ(parents[4], 0);
  EXPECT_EQ(parents[15], 3);
  EXPECT_EQ(parents[16], 4);
  EXPECT_EQ(parents[51], 15);
  EXPECT_EQ(parents[52], -1);  // beyond the forest of 4 + 12 + 36
  int with_child = 0;
  for (std::int64_t r = 0; r < 3000; ++r) {
    const std::vector<float> a = source->Amplitudes(r);
    std::vector<int> children(60);
    for (std::size_t i = 0; i < 60; ++i) {
      if (parents[i] < 0 || a[i] == 0) continue;
      EXPECT_GT(a[static_cast<std::size_t>(parents[i])], 0) << "row " << r << " feature " << i;
      EXPECT_EQ(++children[static_cast<std::size_t>(parents[i])], 1);
      ++with_child;
    }
  }
  EXPECT_GT(with_child, 1000);
}

// Property 84.
TEST(SyntheticFiring, CompensatedSiblingsFireAsOneOfThemIsKept) {
  // One root with three children and nothing else: P(child i kept | root) = q_i * E[1 / (1 + the
  // number of others)].
  const auto source = Make(
      "d=4,features=4,p_max=0.6,p_min=0.1,zipf=1,sigma=0,roots=1,branching=3,depth=1,exclusive=1,"
      "compensate=1");
  const std::vector<double>& p = source->probabilities();
  const std::vector<double>& q = source->firing().drawn();
  EXPECT_EQ(q[0], p[0]);
  EXPECT_NEAR(q[1], p[1] / p[0] * (1 + (p[2] + p[3]) / p[0]), 1e-12);
  std::vector<double> expected = {p[0]};
  for (std::size_t i = 1; i < 4; ++i) {
    const std::size_t j = i == 1 ? 2 : 1, k = i == 3 ? 2 : 3;
    const double kept =
        (1 - q[j]) * (1 - q[k]) + (q[j] + q[k] - 2 * q[j] * q[k]) / 2 + q[j] * q[k] / 3;
    expected.push_back(p[0] * q[i] * kept);
    EXPECT_NEAR(expected[i], p[i], 0.35 * p[i]);  // compensation is of first order
  }
  const std::int64_t rows = 30000;
  ExpectRates(Count(*source, rows).fired, expected, rows);
}

TEST(SyntheticFiring, ChildrenScaleWithTheirParent) {
  const auto source =
      Make("d=4,features=2,p=1,mu=2,sigma=0.5,roots=1,branching=1,depth=1,scale_by_parent=1");
  const auto plain = Make("d=4,features=2,p=1,mu=2,sigma=0.5,roots=1,branching=1,depth=1");
  for (std::int64_t r = 0; r < 50; ++r) {
    const auto a = source->Amplitudes(r), b = plain->Amplitudes(r);
    EXPECT_EQ(a[0], b[0]);
    EXPECT_NEAR(a[1], b[1] * a[0] / 2, 1e-5);
  }
}

// The published L0 is about 34, 25 of them among the first 4096 features.
// Property 84.
TEST(SyntheticFiring, SixteenThousandFeaturesHaveThePublishedL0) {
  const auto source = Make("preset=synthsaebench_16k,d=2,orthogonalise_steps=0");
  EXPECT_EQ(source->parents()[127], -1);
  EXPECT_EQ(source->parents()[128], 0);
  EXPECT_EQ(source->parents()[10879], 128 + 512 + 2048 - 1);
  EXPECT_EQ(source->parents()[10880], -1);
  double l0 = 0, first = 0;
  const std::int64_t rows = 400;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::vector<float> a = source->Amplitudes(r);
    for (std::size_t i = 0; i < a.size(); ++i) {
      l0 += a[i] > 0 ? 1.0 / rows : 0;
      first += a[i] > 0 && i < 4096 ? 1.0 / rows : 0;
    }
  }
  EXPECT_NEAR(l0, 34, 2);
  EXPECT_NEAR(first, 25, 2);
}

}  // namespace
}  // namespace sae::data
