// export, import, encode and latents as a user runs them, on SAEs of every architecture.

#include <filesystem>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "sae/base/process.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/data/store_reader.h"
#include "sae/data/store_writer.h"
#include "sae/model/test_sae.h"
#include "tests/support/temp_dir.h"

namespace sae::client {
namespace {
using ::testing::HasSubstr;

constexpr std::int64_t kWidth = 7, kLatents = 19, kRows = 60;
const char* const kArchitectures[] = {"relu_l1",    "topk",  "batchtopk",
                                      "matryoshka", "gated", "jumprelu"};

class SaeVerbsTest : public ::testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output, errors;
    nlohmann::json json() const { return nlohmann::json::parse(output, nullptr, false); }
  };
  void SetUp() override {
    data::StoreWriterOptions options;
    options.directory = store_ = folder_ / "store";
    options.d = kWidth;
    options.dtype = DType::kF32;
    options.heldout_fraction = 0;
    auto writer = data::StoreWriter::Create(options);
    ASSERT_TRUE(writer.ok()) << writer.status();
    const std::vector<float> rows = model::RandomValues(31, kRows * kWidth);
    ASSERT_TRUE((*writer)->Append({rows, {}, {}, {}}).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  Outcome Run(std::vector<std::string> arguments) {
    ProcessSpec spec;
    spec.argv = {SAE_OFFLINE_BINARY};
    spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
    spec.output = folder_ / "stdout";
    spec.errors = folder_ / "stderr";
    for (const auto& path : {spec.output, spec.errors}) std::filesystem::remove(path);
    auto process = Process::Spawn(spec);
    EXPECT_TRUE(process.ok()) << process.status();
    auto ended = (*process)->Wait(absl::Seconds(50));
    EXPECT_TRUE(ended.ok() && ended->has_value());
    return {(*ended)->ShellCode(), RealEnv().Read(spec.output).value_or(""),
            RealEnv().Read(spec.errors).value_or("")};
  }
  std::string Checkpoint(const std::string& name, const model::Sae& sae) {
    const std::string directory = folder_ / name;
    EXPECT_TRUE(checkpoint::SaveSae(RealEnv(), directory, sae).ok());
    return directory;
  }
  /// f [rows, latents] and x_hat as `encode --dense --recon` writes them, the sparse form checked
  /// against f.
  struct Encoded {
    std::vector<float> f, x_hat;
  };
  Encoded Encode(const std::string& sae) {
    const std::string out = folder_ / "codes.safetensors";
    const Outcome encode =
        Run({"encode", "--sae", sae, "--store", store_, "--out", out, "--dense", "--recon"});
    EXPECT_EQ(encode.code, 0) << encode.errors;
    const auto file = SafetensorsReader::Open(out);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return {};
    Encoded e{*(*file)->GetFloats("f"), *(*file)->GetFloats("x_hat")};
    const std::vector<float> values = *(*file)->GetFloats("values");
    std::vector<float> nonzero;
    std::copy_if(e.f.begin(), e.f.end(), std::back_inserter(nonzero),
                 [](float v) { return v != 0; });
    EXPECT_EQ(values, nonzero);
    return e;
  }

  sae::testing::TempDir folder_;
  std::string store_;
};

TEST_F(SaeVerbsTest, ExportsImportsAndEncodesEveryArchitecture) {
  for (const char* architecture : kArchitectures) {
    for (const bool transcoder : {false, true}) {
      SCOPED_TRACE(absl::StrCat(architecture, transcoder ? ", transcoder" : ""));
      const bool skip = transcoder && std::string(architecture) != "topk";
      const model::Sae sae = model::RandomSae({.architecture = architecture,
                                               .d_out = skip ? 5 : 0,
                                               .pre_bias = !transcoder,
                                               .transcoder = transcoder,
                                               .skip = skip});
      const std::string name = absl::StrCat(architecture, transcoder);
      const std::string exported = folder_ / ("exported" + name),
                        imported = folder_ / ("imported" + name);
      const std::string from = Checkpoint("checkpoint" + name, sae);
      const Outcome out = Run({"export", "--checkpoint", from, "--out", exported, "--golden", "16",
                               "--store", store_, "-o", "json"});
      ASSERT_EQ(out.code, 0) << out.errors;
      EXPECT_EQ(out.json()["latents"], kLatents);
      const Outcome in = Run({"import", "--in", exported, "--out", imported});
      ASSERT_EQ(in.code, 0) << in.errors;

      const Encoded a = Encode(from), b = Encode(exported), c = Encode(imported);
      ASSERT_EQ(a.f.size(), static_cast<std::size_t>(kRows * kLatents));
      ASSERT_EQ(a.x_hat.size(), static_cast<std::size_t>(kRows * sae.width()));
      EXPECT_EQ(b.f, c.f);
      EXPECT_EQ(b.x_hat, c.x_hat);
      for (std::size_t i = 0; i < a.x_hat.size(); ++i) ASSERT_NEAR(a.x_hat[i], b.x_hat[i], 2e-5);
      for (std::size_t i = 0; i < a.f.size(); ++i) ASSERT_EQ(a.f[i] > 0, b.f[i] > 0);

      // The golden file holds what the export gives for the store's first rows.
      const auto golden = SafetensorsReader::Open(exported + "/golden.safetensors");
      ASSERT_TRUE(golden.ok()) << golden.status();
      const std::vector<float> f = *(*golden)->GetFloats("f", {16, kLatents});
      EXPECT_TRUE(std::equal(f.begin(), f.end(), b.f.begin()));
      // And the definition gives it too.
      const std::vector<float> x = *(*golden)->GetFloats("x", {16, kWidth});
      const auto read = checkpoint::LoadSae(RealEnv(), exported);
      ASSERT_TRUE(read.ok()) << read.status();
      for (std::size_t r = 0; r < 16; ++r) {
        const auto want = model::ReferenceEncode(*read, std::span(x).subspan(r * kWidth, kWidth));
        for (std::size_t i = 0; i < kLatents; ++i) {
          if (want.margin[i] < 1e-5) continue;
          ASSERT_NEAR(f[r * kLatents + i], want.f[i], 1e-5 * (1 + want.f[i]));
        }
      }
    }
  }
}

TEST_F(SaeVerbsTest, LatentsOfEveryArchitecture) {
  for (const char* architecture : kArchitectures) {
    SCOPED_TRACE(architecture);
    const model::Sae sae = model::RandomSae({.architecture = architecture});
    const std::string from = Checkpoint(architecture, sae);
    const Outcome latents =
        Run({"latents", "--sae", from, "--store", store_, "--latents", "3,11", "-o", "json"});
    ASSERT_EQ(latents.code, 0) << latents.errors;
    const Encoded e = Encode(from);
    const auto reports = latents.json()["latents"];
    ASSERT_EQ(reports.size(), 2U);
    for (const auto& report : reports) {
      const auto i = report["latent"].get<std::size_t>();
      float max = 0;
      std::int64_t fired = 0;
      for (std::size_t r = 0; r < kRows; ++r) {
        max = std::max(max, e.f[r * kLatents + i]);
        fired += e.f[r * kLatents + i] > 0 ? 1 : 0;
      }
      EXPECT_EQ(report["fired"], fired);
      EXPECT_FLOAT_EQ(report["max"].get<float>(), max);
    }
  }
}

TEST_F(SaeVerbsTest, WhatSaeLensCannotHoldIsRefusedWithTheReason) {
  const std::string from = Checkpoint(
      "skip", model::RandomSae({.d_out = 5, .pre_bias = false, .transcoder = true, .skip = true}));
  const Outcome out = Run({"export", "--checkpoint", from, "--out", folder_ / "refused"});
  EXPECT_EQ(out.code, 1);
  EXPECT_THAT(out.errors,
              HasSubstr("saeloom: export: SAELens v6 has no topk transcoder with a skip"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "refused"));
  EXPECT_EQ(Encode(from).x_hat.size(),
            static_cast<std::size_t>(kRows * 5));  // but the checkpoint can be used
}

TEST_F(SaeVerbsTest, GoldenWithoutAStoreSaysSo) {
  const std::string from = Checkpoint("plain", model::RandomSae({}));
  const Outcome out =
      Run({"export", "--checkpoint", from, "--out", folder_ / "none", "--golden", "4"});
  EXPECT_EQ(out.code, 2);
  EXPECT_THAT(out.errors, HasSubstr("give --store"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none"));
}

TEST_F(SaeVerbsTest, HelpHasExamples) {
  for (const char* verb : {"export", "import", "encode", "latents"}) {
    const Outcome help = Run({verb, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("  saeloom ", verb, " --")));
  }
}

}  // namespace
}  // namespace sae::client
