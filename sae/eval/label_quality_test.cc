#include "sae/eval/label_quality.h"

#include <gtest/gtest.h>

#include "sae/data/synthetic.h"

namespace sae::eval {
namespace {

// Property 82.
TEST(LabelQuality, PrecisionFallsWithTheBaseRate) {
  EXPECT_NEAR(PrecisionAtBaseRate(0.9, 0.02, 0.001), 0.043, 5e-4);
  EXPECT_NEAR(PrecisionAtBaseRate(0.9, 0.02, 0.5), 0.9 / 0.92, 1e-12);
  EXPECT_EQ(PrecisionAtBaseRate(0.7, 0, 0.01), 1);
}

// The latent of the parent feature, labelled with its child: every child is found, one in five
// firings is one, and examples of the strongest activations show nothing else.
// Property 82.
TEST(LabelQuality, AParentsLatentLabelledAsItsChildHasRecallOneAndPrecisionOneInFive) {
  const auto source =
      data::SyntheticSource::Create(data::SyntheticPreset("absorption").value()).value();
  std::vector<float> f;
  std::vector<std::uint8_t> child;
  for (std::int64_t r = 0; r < 40000; ++r) {
    const std::vector<float> a = source->Amplitudes(r);
    child.push_back(a[1] > 0 ? 1 : 0);
    f.push_back(a[0] * (1 + 0.5F * a[1]));  // the child raises its parent's magnitude
  }
  const LabelQuality q = MeasureLabel(f, child);
  EXPECT_EQ(q.recall, 1);
  EXPECT_NEAR(q.precision, 0.2, 0.02);
  EXPECT_NEAR(q.coverage, 0.2 * 1.5 / (0.8 + 0.2 * 1.5), 0.02);
  EXPECT_EQ(q.precision_by_decile[9], 1);
  EXPECT_EQ(q.precision_by_decile[0], 0);
  EXPECT_EQ(q.rows, 40000);
}

TEST(LabelQuality, CountsAtTheThreshold) {
  const std::vector<float> f = {0, 1, 2, 3};
  const std::vector<std::uint8_t> label = {1, 1, 0, 1};
  const LabelQuality q = MeasureLabel(f, label, 1);
  EXPECT_EQ(q.fired, 2);
  EXPECT_EQ(q.labelled, 3);
  EXPECT_DOUBLE_EQ(q.recall, 1.0 / 3);
  EXPECT_DOUBLE_EQ(q.precision, 0.5);
  EXPECT_DOUBLE_EQ(q.coverage, 0.6);
}

}  // namespace
}  // namespace sae::eval
