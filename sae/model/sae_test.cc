#include "sae/model/sae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/model/test_sae.h"

namespace sae::model {
namespace {
using ::testing::HasSubstr;

// More than one chunk of tokens and of latents.
constexpr std::int64_t kTokens = 530, kLatents = 600, kWidth = 20;
constexpr double kTolerance = 2e-5;

struct Case {
  const char* name;
  TestSaeOptions options;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* architecture :
       {"relu_l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu"}) {
    for (const bool pre_bias : {true, false}) {
      cases.push_back({"plain", {.architecture = architecture, .pre_bias = pre_bias}});
      cases.push_back({"layer norm",
                       {.architecture = architecture,
                        .pre_bias = pre_bias,
                        .normalisation = Normalisation::kLayerNorm}});
    }
    cases.push_back(
        {"constant norm",
         {.architecture = architecture, .normalisation = Normalisation::kConstantNorm}});
    cases.push_back(
        {"transcoder",
         {.architecture = architecture, .d_out = 11, .pre_bias = false, .transcoder = true}});
    cases.push_back({"skip",
                     {.architecture = architecture,
                      .d_out = 33,
                      .pre_bias = false,
                      .transcoder = true,
                      .skip = true}});
    cases.push_back(
        {"skip, pre-bias", {.architecture = architecture, .transcoder = true, .skip = true}});
    cases.push_back({"layer norm, skip",
                     {.architecture = architecture,
                      .transcoder = true,
                      .skip = true,
                      .normalisation = Normalisation::kLayerNorm}});
    cases.push_back({"layer norm of the input alone",
                     {.architecture = architecture,
                      .d_out = 9,
                      .pre_bias = false,
                      .transcoder = true,
                      .skip = true,
                      .normalisation = Normalisation::kLayerNorm,
                      .restore = false}});
  }
  for (Case& c : cases) {
    c.options.d = kWidth;
    c.options.latents = kLatents;
    c.options.k = 13;
  }
  return cases;
}

TEST(Sae, EncodesEveryKindAsTheFloat64Loops) {
  ThreadPool pool(2);
  const std::vector<float> rows = RandomValues(99, kTokens * kWidth);
  for (const Case& c : Cases()) {
    SCOPED_TRACE(
        absl::StrCat(c.options.architecture, ", ", c.name, ", pre-bias ", c.options.pre_bias));
    const Sae sae = RandomSae(c.options);
    const auto runner = SaeRunner::Create(sae, pool);
    ASSERT_TRUE(runner.ok()) << runner.status();
    const auto codes = (*runner)->Encode(rows);
    ASSERT_TRUE(codes.ok()) << codes.status();
    ASSERT_EQ((*codes)->tokens, kTokens);
    const std::vector<double> f = Dense(**codes);
    std::int64_t active = 0;
    for (std::int64_t b = 0; b < kTokens; ++b) {
      const ReferenceCodes want = ReferenceEncode(
          sae, std::span(rows).subspan(static_cast<std::size_t>(b * kWidth), kWidth));
      for (std::size_t i = 0; i < kLatents; ++i) {
        const double got = f[static_cast<std::size_t>(b) * kLatents + i];
        if (want.margin[i] > kTolerance) {
          ASSERT_NEAR(got, want.f[i], kTolerance) << "token " << b << ", latent " << i;
        }
        active += got > 0 ? 1 : 0;
      }
      for (auto e = (*codes)->indptr[static_cast<std::size_t>(b)];
           e < (*codes)->indptr[static_cast<std::size_t>(b) + 1]; ++e) {
        ASSERT_GT((*codes)->values[static_cast<std::size_t>(e)], 0);
        if (e > (*codes)->indptr[static_cast<std::size_t>(b)]) {
          ASSERT_GT((*codes)->ids[static_cast<std::size_t>(e)],
                    (*codes)->ids[static_cast<std::size_t>(e) - 1]);
        }
      }
    }
    EXPECT_EQ(active, (*codes)->nnz());
    EXPECT_GT(active, kTokens);  // the case is not empty
  }
}

TEST(Sae, DecodesEveryKindAsTheFloat64Loops) {
  ThreadPool pool(2);
  constexpr std::int64_t kRows = 37;
  const std::vector<float> rows = RandomValues(98, kRows * kWidth);
  for (const Case& c : Cases()) {
    SCOPED_TRACE(
        absl::StrCat(c.options.architecture, ", ", c.name, ", pre-bias ", c.options.pre_bias));
    const Sae sae = RandomSae(c.options);
    const auto runner = SaeRunner::Create(sae, pool);
    ASSERT_TRUE(runner.ok()) << runner.status();
    std::vector<float> y(static_cast<std::size_t>(kRows * sae.width()), -7.0F);
    const auto codes = (*runner)->Forward(rows, std::span(y));
    ASSERT_TRUE(codes.ok()) << codes.status();
    const std::vector<double> f = Dense(**codes);
    for (std::size_t b = 0; b < kRows; ++b) {
      const std::vector<double> want =
          ReferenceDecode(sae, std::span(rows).subspan(b * kWidth, kWidth),
                          std::span(f).subspan(b * kLatents, kLatents));
      for (std::size_t j = 0; j < want.size(); ++j) {
        ASSERT_NEAR(y[b * want.size() + j], want[j], 1e-5 * (1 + std::abs(want[j])))
            << "token " << b << ", " << j;
      }
    }
    std::vector<float> again(y.size());
    const absl::Status without = (*runner)->Decode(**codes, {}, std::span(again));
    EXPECT_EQ(without.ok(), !(*runner)->needs_rows()) << without;
    if (without.ok()) {
      EXPECT_EQ(again, y);
    }
  }
}

// Property 42.
TEST(Sae, JumpReluWithThresholdZeroIsRelu) {
  ThreadPool pool(1);
  const Sae relu = RandomSae({.architecture = "relu_l1"});
  Sae jump = relu;
  jump.architecture = "jumprelu";
  jump.threshold.assign(19, 0.0F);
  Sae below = jump;
  below.threshold.assign(19, -3.0F);  // acts as 0
  const std::vector<float> rows = RandomValues(1, 40 * 7);
  const auto a = SaeRunner::Create(relu, pool), b = SaeRunner::Create(jump, pool),
             c = SaeRunner::Create(below, pool);
  const auto want = (*a)->Encode(rows), got = (*b)->Encode(rows), low = (*c)->Encode(rows);
  for (const auto* codes : {*got, *low}) {
    EXPECT_EQ(codes->indptr, (*want)->indptr);
    EXPECT_EQ(codes->ids, (*want)->ids);
    EXPECT_EQ(codes->values, (*want)->values);
  }
}

TEST(Sae, AtTheThresholdALatentIsOff) {
  ThreadPool pool(1);
  Sae sae;
  sae.architecture = "jumprelu";
  sae.d = 1;
  sae.latents = 2;
  sae.w_enc = {1, 1};
  sae.w_dec = {1, 1};
  sae.b_enc = {0, 0};
  sae.b_dec = {0};
  sae.threshold = {0.5F, std::nextafter(0.5F, 0.0F)};
  const auto runner = SaeRunner::Create(sae, pool);
  const auto codes = (*runner)->Encode(std::vector<float>{0.5F});
  EXPECT_EQ((*codes)->ids, std::vector<std::int32_t>{1});
}

TEST(Sae, RefusesRowsThatAreNotFinite) {
  ThreadPool pool(1);
  for (const char* architecture : {"relu_l1", "topk", "gated", "jumprelu"}) {
    const Sae sae = RandomSae({.architecture = architecture});
    const auto runner = SaeRunner::Create(sae, pool);
    std::vector<float> rows = RandomValues(3, 14);
    rows[9] = std::nanf("");
    EXPECT_THAT(Message((*runner)->Encode(rows).status()), HasSubstr("not finite")) << architecture;
    rows.pop_back();
    EXPECT_THAT(Message((*runner)->Encode(rows).status()),
                HasSubstr("13 values are not whole rows of width 7"));
  }
}

TEST(Sae, ValidateFindsBadShapesAndValues) {
  const auto problem = [](const TestSaeOptions& options, const auto& change) {
    Sae sae = RandomSae(options);
    EXPECT_TRUE(Validate(sae).ok()) << Validate(sae);
    change(sae);
    return Message(Validate(sae));
  };
  EXPECT_THAT(problem({}, [](Sae& s) { s.k = 20; }), HasSubstr("k is 20, needs 1 to 19"));
  EXPECT_THAT(problem({}, [](Sae& s) { s.b_dec[0] = std::nanf(""); }),
              HasSubstr("b_dec has values that are not finite"));
  EXPECT_THAT(problem({}, [](Sae& s) { s.w_dec.pop_back(); }),
              HasSubstr("W_dec has 132 values, needs 133"));
  EXPECT_THAT(problem({}, [](Sae& s) { s.threshold = {1}; }),
              HasSubstr("threshold has 1 values, needs 0"));
  EXPECT_THAT(problem({}, [](Sae& s) { s.architecture = "abstopk"; }),
              HasSubstr("architecture abstopk is none of"));
  EXPECT_THAT(problem({}, [](Sae& s) { s.w_skip.assign(49, 0.0F); }),
              HasSubstr("only a transcoder has a W_skip"));
  EXPECT_THAT(problem({.architecture = "jumprelu"}, [](Sae& s) { s.threshold.clear(); }),
              HasSubstr("threshold has 0 values, needs 19"));
  EXPECT_THAT(problem({.architecture = "gated"}, [](Sae& s) { s.r_mag[2] = 90; }),
              HasSubstr("r_mag has the value 90"));
  EXPECT_THAT(problem({.d_out = 3, .pre_bias = false, .transcoder = true},
                      [](Sae& s) { s.pre_bias = true; }),
              HasSubstr("b_dec of width 3 cannot be subtracted from inputs of width 7"));
  EXPECT_THAT(problem({.d_out = 3, .pre_bias = false, .transcoder = true},
                      [](Sae& s) { s.normalisation = Normalisation::kLayerNorm; }),
              HasSubstr("layer_norm: an output of width 3"));
}

}  // namespace
}  // namespace sae::model
