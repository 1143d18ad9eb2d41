#include "sae/eval/absorption.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/data/synthetic.h"
#include "sae/eval/eval_testing.h"

namespace sae::eval {
namespace {
using ::testing::ElementsAre;

/// The absorption toy's rows with the codes of the true dictionary, or of one whose parent latent
/// is silent where the child's, a mix of both features, fires.
AbsorptionReport Measure(bool absorbing) {
  const auto source =
      data::SyntheticSource::Create(data::SyntheticPreset("absorption").value()).value();
  std::vector<float> decoder = source->dictionary();
  if (absorbing) {
    for (std::size_t c = 0; c < 4; ++c)
      decoder[4 + c] = (source->dictionary()[c] + source->dictionary()[4 + c]) / std::sqrt(2.0F);
  }
  const std::int64_t own[] = {0};
  AbsorptionAccumulator a(std::span(source->dictionary()).first(4), own, {decoder, 4});
  const std::int64_t batch = 500;
  for (std::int64_t r = 0; r < 4000; r += batch) {
    std::vector<float> x(static_cast<std::size_t>(batch * 4));
    EXPECT_TRUE(source->Seek(r).ok() && source->Next(x).ok());
    std::vector<testing::Row> rows;
    std::vector<std::uint8_t> parent, child;
    for (std::int64_t b = 0; b < batch; ++b) {
      const std::vector<float> truth = source->Amplitudes(r + b);
      parent.push_back(truth[0] > 0);
      child.push_back(truth[1] > 0);
      testing::Row row;
      for (int i = 0; i < 4; ++i) {
        const float value = truth[static_cast<std::size_t>(i)];
        if (value == 0 || (absorbing && i == 0 && truth[1] > 0)) continue;
        row.emplace_back(i, absorbing && i == 1 ? value * std::sqrt(2.0F) : value);
      }
      rows.push_back(row);
    }
    a.Add(x, testing::CodesOf(rows, 4), parent, child);
  }
  return a.Result();
}

// Property 72.
TEST(Absorption, TheTrueDictionaryAbsorbsNothing) {
  const AbsorptionReport r = Measure(false);
  EXPECT_GT(r.active, 800);
  EXPECT_EQ(r.rate, 0);
  EXPECT_EQ(r.recall, 1);
  EXPECT_EQ(r.recall_with_child, 1);
}

// Property 72.
TEST(Absorption, AnAbsorbingDictionaryAbsorbsTheParentOnEveryRowOfTheChild) {
  const AbsorptionReport r = Measure(true);
  EXPECT_NEAR(r.rate, 0.2, 0.05);  // P(child | parent)
  EXPECT_DOUBLE_EQ(r.rate, 1 - r.recall);
  EXPECT_EQ(r.recall_without_child, 1);
  EXPECT_EQ(r.recall_with_child, 0);
}

TEST(Absorption, ALatentThatCarriesTooLittleOrPointsElsewhereIsNoAbsorber) {
  const std::vector<float> parent = {1, 0};
  const std::vector<float> decoder = {1, 0, /**/ 0.6F, 0.8F, /**/ 0.05F, 1};
  const std::int64_t own[] = {0};
  AbsorptionAccumulator a(parent, own, {decoder, 2});
  const std::vector<float> x = {1, 0, 1, 0, 1, 0, 1, 0};
  const auto codes = testing::CodesOf({{{1, 0.7F}}, {{1, 0.6F}}, {{2, 20.0F}}, {}}, 3);
  const std::vector<std::uint8_t> on(4, 1), none(4, 0);
  a.Add(x, codes, on, none);
  EXPECT_EQ(a.Result().active, 4);
  EXPECT_EQ(a.Result().rate, 0.25);  // 0.7 * 0.6 >= 0.4 alone
  EXPECT_TRUE(std::isnan(a.Result().recall_with_child));
}

TEST(SplitLatents, AreTakenWhileTheyRaiseF1) {
  // Latents 0 and 2 each find half of the feature, latent 1 is noise, latent 3 a copy of 0.
  const std::vector<std::uint8_t> truth = {1, 1, 1, 1, 0, 0, 0, 0};
  const std::vector<std::uint8_t> fires = {1, 1, 0, 0, 0, 0, 0, 0,  //
                                           1, 0, 0, 0, 1, 1, 0, 0,  //
                                           0, 0, 1, 1, 0, 0, 0, 0,  //
                                           1, 1, 0, 0, 0, 0, 0, 0};
  EXPECT_THAT(SplitLatents(fires, 4, truth, 0), ElementsAre(0, 2));
  EXPECT_THAT(SplitLatents(fires, 4, truth, 1), ElementsAre(1, 0, 2));
}

}  // namespace
}  // namespace sae::eval
