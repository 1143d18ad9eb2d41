#include "sae/eval/detection.h"

#include <gtest/gtest.h>

#include "sae/eval/eval_testing.h"

namespace sae::eval {
namespace {

TEST(Detection, CountsHitsOfEachLatentForItsFeature) {
  // Latents 0 and 1 are matched with features 1 and 0; latent 2 with none.
  DetectionAccumulator a({1, 0, -1}, 2);
  const std::vector<float> truth = {0, 1, /**/ 1, 1, /**/ 0, 0, /**/ 0, 2};
  const auto codes =
      testing::CodesOf({{{0, 1.0F}, {2, 3.0F}}, {{1, 0.5F}}, {{0, 1.0F}}, {{0, 0.0F}}}, 3);
  a.Add(codes, truth);
  ASSERT_EQ(a.rows(), 4);
  const std::vector<Detection> d = a.PerLatent();
  // Latent 0 fires on rows 0 and 2; feature 1 is present on 0, 1 and 3. A value of 0 is not firing.
  EXPECT_DOUBLE_EQ(d[0].precision, 1.0 / 2);
  EXPECT_DOUBLE_EQ(d[0].recall, 1.0 / 3);
  EXPECT_DOUBLE_EQ(d[0].f1, 2 * (1.0 / 2) * (1.0 / 3) / (1.0 / 2 + 1.0 / 3));
  EXPECT_DOUBLE_EQ(d[1].precision, 1);
  EXPECT_DOUBLE_EQ(d[1].recall, 1);
  EXPECT_DOUBLE_EQ(d[1].f1, 1);
  EXPECT_EQ(d[2].precision, 0);
  EXPECT_EQ(d[2].f1, 0);
  EXPECT_DOUBLE_EQ(a.Mean().precision, (0.5 + 1) / 3);
  EXPECT_DOUBLE_EQ(a.Mean().recall, (1.0 / 3 + 1) / 3);
  DetectionAccumulator parts({1, 0, -1}, 2);  // any split of the rows gives the same
  parts.Add(testing::CodesOf({{{0, 1.0F}, {2, 3.0F}}}, 3), std::span(truth).first(2));
  parts.Add(testing::CodesOf({{{1, 0.5F}}, {{0, 1.0F}}, {{0, 0.0F}}}, 3),
            std::span(truth).subspan(2));
  EXPECT_EQ(parts.Mean().f1, a.Mean().f1);
}

TEST(Detection, UndefinedIsZero) {
  EXPECT_EQ(DetectionOf(0, 0, 5).precision, 0);
  EXPECT_EQ(DetectionOf(0, 5, 0).recall, 0);
  EXPECT_EQ(DetectionOf(0, 0, 0).f1, 0);
}

}  // namespace
}  // namespace sae::eval
