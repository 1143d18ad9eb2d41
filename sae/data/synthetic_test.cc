#include "sae/data/synthetic.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sae::data {
namespace {

std::unique_ptr<SyntheticSource> MakeSource(const std::string& text) {
  auto spec = ParseSyntheticSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return SyntheticSource::Create(spec->options).value();
}

TEST(SyntheticTest, RowsAreTheSumOfTheirFeaturesAndTheBias) {
  auto source = MakeSource("d=16,features=40");
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

// Rows are a function of the seed and their number: stores made earlier can be made again.
TEST(SyntheticTest, FirstRowStaysWhatItWas) {
  auto source = MakeSource("d=4,features=8,p=0.5");
  std::vector<float> row(4);
  ASSERT_TRUE(source->Next(row).ok());
  const std::vector<float> a = source->Amplitudes(0);
  Random random(HashCounter(0, 0, 3));
  for (std::size_t i = 0; i < 8; ++i) {
    const bool fires = random.Uniform() < 0.5;
    const double want = fires ? std::max(0.0, 1 + 0.25 * random.Normal()) : 0;
    EXPECT_EQ(a[i], static_cast<float>(want)) << i;
  }
}

TEST(SyntheticTest, UniformMagnitudesFillTheirRange) {
  const auto source = MakeSource("preset=toy_a");
  double sum = 0, squares = 0;
  int count = 0;
  for (std::int64_t r = 0; r < 5000; ++r) {
    for (const float v : source->Amplitudes(r)) {
      if (v == 0) continue;
      EXPECT_TRUE(v >= 0.5F && v <= 1.5F);
      sum += v;
      squares += static_cast<double>(v) * v;
      ++count;
    }
  }
  EXPECT_NEAR(count / 5000.0, 3.2, 5 * std::sqrt(32 * 0.09 / 5000));
  EXPECT_NEAR(sum / count, 1, 5 * std::sqrt(1.0 / 12 / count));
  EXPECT_NEAR(squares / count, 13.0 / 12, 0.02);
}

TEST(SyntheticTest, MagnitudesRunFromFirstToLastWithTheirOwnSpreads) {
  const auto source = MakeSource("d=4,features=5,mu=5,mu_end=4,sigma=0.5,sigma_spread=0.5");
  const SyntheticMagnitudes& m = source->magnitudes();
  EXPECT_EQ(m.mean(), (std::vector<double>{5, 4.75, 4.5, 4.25, 4}));
  for (const double s : m.sigma()) EXPECT_GE(s, 0);
  EXPECT_NE(m.sigma()[0], m.sigma()[1]);
}

TEST(SyntheticTest, AbsorptionToyIsAParentWithOneChildAndTwoOthers) {
  auto source = MakeSource("preset=absorption");
  const int rows = 20000;
  int parent = 0, child = 0, other = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto a = source->Amplitudes(r);
    for (const float v : a) EXPECT_TRUE(v == 0 || v == 1);
    EXPECT_TRUE(a[0] > 0 || a[1] == 0);
    parent += a[0] > 0;
    child += a[1] > 0;
    other += a[2] > 0;
  }
  EXPECT_NEAR(parent, 0.25 * rows, 5 * std::sqrt(0.25 * 0.75 * rows));
  EXPECT_NEAR(child, 0.05 * rows, 5 * std::sqrt(0.05 * 0.95 * rows));
  EXPECT_NEAR(other, 0.05 * rows, 5 * std::sqrt(0.05 * 0.95 * rows));
}

TEST(SyntheticTest, BadPositionsAndPartsOfRowsAreRefused) {
  auto source = MakeSource("d=4,features=8");
  std::vector<float> rows(6);
  EXPECT_EQ(source->Next(rows).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(source->Seek(-1).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sae::data
