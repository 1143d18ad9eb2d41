#include "sae/checkpoint/saelens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "sae/base/random.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/load_sae.h"

namespace sae::checkpoint {
namespace {
using ::testing::HasSubstr;

const std::string kGolden = std::string(SAE_SOURCE_DIR) + "/tests/golden/formats/saelens/";

std::string Scratch(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/saelens_test_" + name;
  std::filesystem::remove_all(path);
  return path;
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error = std::max(error, std::abs(double{got[i]} - want[i]));
    scale = std::max(scale, std::abs(double{want[i]}));
  }
  return error / scale;
}

// f and x_hat of the library that wrote `folder`'s golden.safetensors, against ours.
void ExpectReproduces(const model::Sae& sae, const std::string& golden) {
  const auto file = SafetensorsReader::Open(golden);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<float> x = *(*file)->GetFloats("x"), f = *(*file)->GetFloats("f"),
                           x_hat = *(*file)->GetFloats("x_hat");
  ThreadPool pool(2);
  const auto runner = model::SaeRunner::Create(sae, pool);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto codes = (*runner)->Encode(x);
  ASSERT_TRUE(codes.ok()) << codes.status();
  std::vector<float> dense(f.size(), 0.0F), decoded(x.size());
  for (std::int64_t b = 0; b < (*codes)->tokens; ++b) {
    for (std::int64_t e = (*codes)->indptr[b]; e < (*codes)->indptr[b + 1]; ++e) {
      dense[static_cast<std::size_t>(b * sae.latents + (*codes)->ids[e])] = (*codes)->values[e];
    }
  }
  for (std::size_t i = 0; i < f.size(); ++i) ASSERT_EQ(dense[i] > 0, f[i] > 0) << "element " << i;
  EXPECT_LE(RelativeError(dense, f), 1e-5);
  ASSERT_TRUE((*runner)->Decode(**codes, x, decoded).ok());
  EXPECT_LE(RelativeError(decoded, x_hat), 1e-5);
}

model::Sae RandomSae(const std::string& architecture, bool pre_bias) {
  model::Sae sae;
  sae.architecture = architecture;
  sae.d = 7;
  sae.latents = 19;
  sae.k = architecture == "topk" ? 4 : 0;
  sae.pre_bias = pre_bias;
  Random random(5);
  const auto fill = [&](std::vector<float>& v, std::int64_t n) {
    v.resize(static_cast<std::size_t>(n));
    for (float& x : v) x = static_cast<float>(random.Normal());
  };
  fill(sae.w_enc, 19 * 7);
  fill(sae.w_dec, 19 * 7);
  fill(sae.b_enc, 19);
  fill(sae.b_dec, 7);
  sae.source = {{"model", "m"}, {"hook", "blocks.4.hook_resid_post"}, {"context", "256"}};
  return sae;
}

TEST(SaeLens, StandardReproducesTheLibrary) {
  const auto sae = LoadSae(RealEnv(), kGolden + "standard");
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ(sae->architecture, "relu_l1");
  ExpectReproduces(*sae, kGolden + "standard/golden.safetensors");
}

TEST(SaeLens, TopKReproducesTheLibrary) {
  const auto sae = LoadSae(RealEnv(), kGolden + "topk");
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ(sae->k, 6);
  EXPECT_EQ(sae->source.at("hook"), "blocks.8.hook_resid_pre");
  ExpectReproduces(*sae, kGolden + "topk/golden.safetensors");
}

TEST(SaeLens, ImportedCheckpointGivesTheSameCodes) {
  for (const char* name : {"standard", "topk"}) {
    const auto sae = LoadSae(RealEnv(), kGolden + name);
    ASSERT_TRUE(sae.ok());
    const std::string directory = Scratch(std::string("import_") + name);
    const auto saved = SaveSae(RealEnv(), directory, *sae);
    ASSERT_TRUE(saved.ok()) << saved.status();
    const auto back = LoadSae(RealEnv(), directory + "/" + *saved);
    ASSERT_TRUE(back.ok()) << back.status();
    ExpectReproduces(*back, kGolden + name + "/golden.safetensors");
    EXPECT_EQ(back->source, sae->source);
  }
}

TEST(SaeLens, WriteThenReadKeepsEveryBit) {
  for (const char* architecture : {"topk", "relu_l1"}) {
    for (const bool pre_bias : {true, false}) {
      const model::Sae sae = RandomSae(architecture, pre_bias);
      const std::string folder = Scratch("roundtrip");
      ASSERT_TRUE(WriteSaeLens(RealEnv(), folder, sae).ok());
      const auto back = ReadSaeLens(RealEnv(), folder);
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(back->w_enc, sae.w_enc);
      EXPECT_EQ(back->w_dec, sae.w_dec);
      EXPECT_EQ(back->b_enc, sae.b_enc);
      EXPECT_EQ(back->b_dec, sae.b_dec);
      EXPECT_EQ(back->k, sae.k);
      EXPECT_EQ(back->pre_bias, pre_bias);
      EXPECT_EQ(back->source.at("context"), "256");
    }
  }
}

TEST(SaeLens, WithoutPreBiasACheckpointKeepsTheFunction) {
  const model::Sae sae = RandomSae("relu_l1", false);
  const std::string directory = Scratch("nobias");
  const auto saved = SaveSae(RealEnv(), directory, sae);
  ASSERT_TRUE(saved.ok()) << saved.status();
  const auto back = LoadSae(RealEnv(), directory);
  ASSERT_TRUE(back.ok()) << back.status();
  ThreadPool pool(1);
  std::vector<float> x(7 * 5);
  Random random(9);
  for (float& v : x) v = static_cast<float>(random.Normal());
  const auto a = model::SaeRunner::Create(sae, pool), b = model::SaeRunner::Create(*back, pool);
  const auto codes_a = (*a)->Encode(x), codes_b = (*b)->Encode(x);
  ASSERT_EQ((*codes_a)->ids, (*codes_b)->ids);
  for (std::size_t i = 0; i < (*codes_a)->ids.size(); ++i) {
    EXPECT_NEAR((*codes_a)->values[i], (*codes_b)->values[i], 2e-6);
  }
}

TEST(SaeLens, RefusesWhatItCannotRead) {
  EXPECT_EQ(LoadSae(RealEnv(), kGolden + "gated").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(LoadSae(RealEnv(), kGolden + "gated").status()), HasSubstr("architecture gated"));
  EXPECT_EQ(LoadSae(RealEnv(), "/nonexistent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadSae(RealEnv(), kGolden).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SaeLens, RefusesToOverwrite) {
  const std::string folder = Scratch("overwrite");
  ASSERT_TRUE(WriteSaeLens(RealEnv(), folder, RandomSae("topk", true)).ok());
  EXPECT_EQ(WriteSaeLens(RealEnv(), folder, RandomSae("topk", true)).code(), absl::StatusCode::kAlreadyExists);
}

TEST(Sae, ValidateFindsBadShapesAndValues) {
  model::Sae sae = RandomSae("topk", true);
  sae.k = 20;
  EXPECT_THAT(Message(model::Validate(sae)), HasSubstr("k is 20, needs 1 to 19"));
  sae = RandomSae("topk", true);
  sae.b_dec[0] = std::nanf("");
  EXPECT_THAT(Message(model::Validate(sae)), HasSubstr("b_dec has values that are not finite"));
  sae = RandomSae("topk", true);
  sae.w_dec.pop_back();
  EXPECT_THAT(Message(model::Validate(sae)), HasSubstr("W_dec has 132 values, needs 133"));
}

}  // namespace
}  // namespace sae::checkpoint
