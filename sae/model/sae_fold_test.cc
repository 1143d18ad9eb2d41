#include "sae/model/sae_fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/model/test_sae.h"

namespace sae::model {
namespace {
using ::testing::HasSubstr;

constexpr std::int64_t kFoldTokens = 60, kFoldWidth = 7, kFoldLatents = 19;
const char* const kArchitectures[] = {"relu_l1",    "topk",  "batchtopk",
                                      "matryoshka", "gated", "jumprelu"};

// f and y of all rows as float64 loops; f without latents that a rounding could switch.
struct Result {
  std::vector<double> f, margin, y;
};
Result Evaluate(const Sae& sae, const std::vector<float>& rows) {
  Result out;
  const auto d = static_cast<std::size_t>(sae.d);
  for (std::size_t b = 0; b < rows.size() / d; ++b) {
    const auto x = std::span(rows).subspan(b * d, d);
    const ReferenceCodes codes = ReferenceEncode(sae, x);
    const std::vector<double> y = ReferenceDecode(sae, x, codes.f);
    out.f.insert(out.f.end(), codes.f.begin(), codes.f.end());
    out.margin.insert(out.margin.end(), codes.margin.begin(), codes.margin.end());
    out.y.insert(out.y.end(), y.begin(), y.end());
  }
  EXPECT_GT(*std::min_element(out.margin.begin(), out.margin.end()), 1e-6);  // of these seeds
  return out;
}

void ExpectNear(const std::vector<double>& got, const std::vector<double>& want,
                double tolerance = 1e-5) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::abs(want[i]))) << "element " << i;
  }
}

double Norm(const Sae& sae, std::size_t i) {
  double squares = 0;
  const auto width = static_cast<std::size_t>(sae.width());
  for (std::size_t j = 0; j < width; ++j)
    squares += double{sae.w_dec[i * width + j]} * sae.w_dec[i * width + j];
  return std::sqrt(squares);
}

TEST(SaeFold, InputScaleGivesRawUnits) {
  constexpr double kScale = 12.5;
  const std::vector<float> raw = RandomValues(11, kFoldTokens * kFoldWidth, kScale);
  std::vector<float> scaled = raw;
  for (float& v : scaled) v = static_cast<float>(v / kScale);
  for (const char* architecture : kArchitectures) {
    for (const bool transcoder : {false, true}) {
      SCOPED_TRACE(absl::StrCat(architecture, transcoder ? ", skip transcoder" : ""));
      const Sae trained = RandomSae({.architecture = architecture,
                                     .d_out = transcoder ? 5 : 0,
                                     .pre_bias = !transcoder,
                                     .transcoder = transcoder,
                                     .skip = transcoder});
      Sae folded = trained;
      FoldInputScale(kScale, &folded);
      EXPECT_EQ(folded.w_enc, trained.w_enc);
      EXPECT_EQ(folded.w_dec, trained.w_dec);
      EXPECT_EQ(folded.w_skip, trained.w_skip);
      EXPECT_EQ(folded.r_mag, trained.r_mag);
      Result want = Evaluate(trained, scaled);
      const Result got = Evaluate(folded, raw);
      for (double& v : want.f) v *= kScale;
      for (double& v : want.y) v *= kScale;
      ExpectNear(got.f, want.f);
      ExpectNear(got.y, want.y);
    }
  }
}

// Property 10.
TEST(SaeFold, DecoderNormsFoldWithoutChangingTheReconstruction) {
  const std::vector<float> rows = RandomValues(12, kFoldTokens * kFoldWidth);
  for (const char* architecture : {"relu_l1", "gated", "jumprelu", "batchtopk", "matryoshka"}) {
    for (const bool transcoder : {false, true}) {
      SCOPED_TRACE(absl::StrCat(architecture, transcoder ? ", transcoder" : ""));
      const Sae free = RandomSae({.architecture = architecture,
                                  .d_out = transcoder ? 5 : 0,
                                  .pre_bias = !transcoder,
                                  .transcoder = transcoder});
      Sae folded = free;
      ASSERT_TRUE(FoldDecoderNorms(&folded).ok());
      Result want = Evaluate(free, rows);
      const Result got = Evaluate(folded, rows);
      ExpectNear(got.y, want.y);
      for (std::size_t e = 0; e < want.f.size(); ++e) want.f[e] *= Norm(free, e % kFoldLatents);
      ExpectNear(got.f, want.f);
      for (std::size_t i = 0; i < kFoldLatents; ++i) EXPECT_NEAR(Norm(folded, i), 1, 1e-6);
    }
  }
}

// The other direction: two latents, of which the fold would choose the other.
// Property 10.
TEST(SaeFold, DecoderNormsChangeWhatTopKSelectsUnlessItRanksByThem) {
  Sae sae;
  sae.architecture = "topk";
  sae.d = 2;
  sae.latents = 2;
  sae.k = 1;
  sae.pre_bias = false;
  sae.w_enc = {1, 0, 0, 1};
  sae.w_dec = {1, 0, 0, 4};
  sae.b_enc = {0, 0};
  sae.b_dec = {0, 0};
  const std::vector<float> x = {2, 1};  // z = (2, 1), z N = (2, 4)
  Sae refused = sae;
  const absl::Status status = FoldDecoderNorms(&refused);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("decoder row 1 has norm 4"));
  EXPECT_EQ(refused.w_dec, sae.w_dec);
  Sae folded = sae;
  ASSERT_TRUE(FoldDecoderNorms(&folded, true).ok());
  EXPECT_EQ(Evaluate(sae, x).y, (std::vector<double>{2, 0}));     // plain ranking takes latent 0
  EXPECT_EQ(Evaluate(folded, x).y, (std::vector<double>{0, 4}));  // a norm-aware one takes latent 1
}

// With norm-aware selection the fold is exact.
// Property 10.
TEST(SaeFold, NormAwareTopKFoldsWithoutChangingTheReconstruction) {
  const std::vector<float> rows = RandomValues(13, kFoldTokens * kFoldWidth);
  const Sae free = RandomSae({});
  Sae folded = free;
  ASSERT_TRUE(FoldDecoderNorms(&folded, true).ok());
  Sae all = free;  // every z, to rank by hand
  all.k = kFoldLatents;
  std::int64_t differ = 0;
  const Result got = Evaluate(folded, rows), plain = Evaluate(free, rows);
  for (std::size_t b = 0; b < kFoldTokens; ++b) {
    const auto x = std::span(rows).subspan(b * kFoldWidth, kFoldWidth);
    std::vector<double> f = ReferenceEncode(all, x).f;
    std::vector<double> ranked(kFoldLatents);
    for (std::size_t i = 0; i < kFoldLatents; ++i) ranked[i] = f[i] * Norm(free, i);
    std::vector<double> sorted = ranked;
    std::sort(sorted.rbegin(), sorted.rend());
    for (std::size_t i = 0; i < kFoldLatents; ++i) {
      if (ranked[i] < sorted[static_cast<std::size_t>(free.k) - 1]) f[i] = 0;
    }
    const std::vector<double> want = ReferenceDecode(free, x, f);
    for (std::size_t j = 0; j < kFoldWidth; ++j) {
      ASSERT_NEAR(got.y[b * kFoldWidth + j], want[j], 1e-5);
      differ += std::abs(plain.y[b * kFoldWidth + j] - want[j]) > 1e-3 ? 1 : 0;
    }
  }
  EXPECT_GT(differ, 0);
}

TEST(SaeFold, UnitRowsKeepEveryBit) {
  Sae sae = RandomSae({});
  NormaliseDecoder(&sae);
  for (std::size_t i = 0; i < kFoldLatents; ++i) EXPECT_NEAR(Norm(sae, i), 1, 1e-6);
  Sae folded = sae;
  ASSERT_TRUE(FoldDecoderNorms(&folded).ok());
  EXPECT_EQ(folded.w_enc, sae.w_enc);
  EXPECT_EQ(folded.w_dec, sae.w_dec);
  EXPECT_EQ(folded.b_enc, sae.b_enc);
}

TEST(SaeFold, ZeroDecoderRowsStay) {
  Sae sae = RandomSae({.architecture = "relu_l1"});
  std::fill_n(sae.w_dec.begin(), 7, 0.0F);
  const float bias = sae.b_enc[0];
  NormaliseDecoder(&sae);
  ASSERT_TRUE(FoldDecoderNorms(&sae).ok());
  EXPECT_EQ(sae.w_dec[0], 0.0F);
  EXPECT_EQ(sae.b_enc[0], bias);
}

// Property 23.
TEST(SaeFold, GatedIsJumpReluWithThatThreshold) {
  const std::vector<float> rows = RandomValues(14, kFoldTokens * kFoldWidth);
  const Sae gated = RandomSae({.architecture = "gated"});
  Sae jump = gated;
  ASSERT_TRUE(ToJumpRelu(&jump).ok());
  EXPECT_EQ(jump.architecture, "jumprelu");
  EXPECT_TRUE(Validate(jump).ok()) << Validate(jump);
  std::int64_t clamped = 0;
  for (std::size_t i = 0; i < kFoldLatents; ++i) {
    const double theta = gated.b_mag[i] - std::exp(double{gated.r_mag[i]}) * gated.b_enc[i];
    EXPECT_NEAR(jump.threshold[i], std::max(0.0, theta), 1e-6);
    clamped += theta < 0 ? 1 : 0;
  }
  EXPECT_GT(clamped, 0);  // gates that open at a negative magnitude occur
  EXPECT_LT(clamped, kFoldLatents);
  const Result want = Evaluate(gated, rows), got = Evaluate(jump, rows);
  ExpectNear(got.f, want.f);
  ExpectNear(got.y, want.y);
}

TEST(SaeFold, OtherKindsAsJumpRelu) {
  const std::vector<float> rows = RandomValues(15, kFoldTokens * kFoldWidth);
  for (const char* architecture : {"relu_l1", "batchtopk", "matryoshka", "jumprelu"}) {
    const Sae sae = RandomSae({.architecture = architecture});
    Sae jump = sae;
    ASSERT_TRUE(ToJumpRelu(&jump).ok());
    const Result want = Evaluate(sae, rows), got = Evaluate(jump, rows);
    EXPECT_EQ(got.f, want.f) << architecture;
    EXPECT_EQ(got.y, want.y) << architecture;
  }
  Sae topk = RandomSae({});
  EXPECT_THAT(Message(ToJumpRelu(&topk)), HasSubstr("topk has no threshold"));
  EXPECT_EQ(topk.architecture, "topk");
}

TEST(SaeFold, PreBiasMovesIntoTheEncodersBiases) {
  const std::vector<float> rows = RandomValues(16, kFoldTokens * kFoldWidth);
  for (const char* architecture : kArchitectures) {
    SCOPED_TRACE(architecture);
    const Sae sae = RandomSae({.architecture = architecture});
    Sae folded = sae;
    FoldPreBias(&folded);
    EXPECT_FALSE(folded.pre_bias);
    const Result want = Evaluate(sae, rows), got = Evaluate(folded, rows);
    ExpectNear(got.f, want.f);
    ExpectNear(got.y, want.y);
    const std::vector<float> once = folded.b_enc;
    FoldPreBias(&folded);
    EXPECT_EQ(folded.b_enc, once);
  }
}

TEST(SaeFold, BatchThresholdIsRoundedDown) {
  Sae sae = RandomSae({.architecture = "batchtopk"});
  for (const double theta : {0.1, 0.7, 3.3, 1e-20}) {
    ASSERT_TRUE(SetBatchThreshold(theta, &sae).ok());
    ASSERT_EQ(sae.threshold.size(), 19U);
    for (const float t : sae.threshold) {
      EXPECT_LE(double{t}, theta);
      EXPECT_GT(double{std::nextafter(t, 1e30F)}, theta);
    }
  }
  for (const double theta : {0.0, -1.0, std::nan(""), 1.0 / 0.0}) {
    EXPECT_EQ(SetBatchThreshold(theta, &sae).code(), absl::StatusCode::kInvalidArgument) << theta;
  }
}

}  // namespace
}  // namespace sae::model
