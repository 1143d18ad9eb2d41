#include "sae/checkpoint/saelens.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/safetensors.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/model/sae_fold.h"
#include "sae/model/test_sae.h"

namespace sae::checkpoint {
namespace {
using model::Normalisation;
using model::RandomSae;
using model::Sae;
using ::testing::HasSubstr;

const std::string kGolden = std::string(SAE_SOURCE_DIR) + "/tests/golden/formats/saelens/";
constexpr std::int64_t kGoldenTokens = 40;

std::string ScratchFolder(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/saelens_test_" + name + "_" +
                           std::to_string(getpid());  // tests run side by side
  std::filesystem::remove_all(path);
  return path;
}

double RelativeError(const std::vector<double>& got, const std::vector<float>& want) {
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error = std::max(error, std::abs(got[i] - want[i]));
    scale = std::max(scale, std::abs(double{want[i]}));
  }
  return error / scale;
}

struct Output {
  std::vector<double> f;
  std::vector<float> y;
};
Output Compute(const Sae& sae, std::span<const float> rows) {
  ThreadPool pool(2);
  const auto runner = model::SaeRunner::Create(sae, pool);
  EXPECT_TRUE(runner.ok()) << runner.status();
  Output out;
  out.y.resize(rows.size() / static_cast<std::size_t>(sae.d) *
               static_cast<std::size_t>(sae.width()));
  const auto codes = (*runner)->Forward(rows, std::span(out.y));
  EXPECT_TRUE(codes.ok()) << codes.status();
  out.f = model::Dense(**codes);
  return out;
}

// f and x_hat of the library that wrote `folder`'s golden.safetensors, against ours.
void ExpectReproduces(const Sae& sae, const std::string& golden) {
  const auto file = SafetensorsReader::Open(golden);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<float> x = *(*file)->GetFloats("x"), f = *(*file)->GetFloats("f"),
                           x_hat = *(*file)->GetFloats("x_hat");
  const Output got = Compute(sae, x);
  ASSERT_EQ(got.f.size(), f.size());
  ASSERT_EQ(got.y.size(), x_hat.size());
  for (std::size_t i = 0; i < f.size(); ++i) ASSERT_EQ(got.f[i] > 0, f[i] > 0) << "element " << i;
  EXPECT_LE(RelativeError(got.f, f), 1e-5);
  EXPECT_LE(RelativeError({got.y.begin(), got.y.end()}, x_hat), 1e-5);
}

std::vector<std::string> GoldenCases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(SaeLens, EveryCaseReproducesTheLibrary) {
  const std::vector<std::string> names = GoldenCases();
  EXPECT_EQ(names.size(), 16U);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto sae = LoadSae(RealEnv(), kGolden + name);
    ASSERT_TRUE(sae.ok()) << sae.status();
    ExpectReproduces(*sae, kGolden + name + "/golden.safetensors");
    EXPECT_EQ(sae->source.at("model"), "gpt2");
  }
}

TEST(SaeLens, CasesExportedAndImportedAgainReproduceTheLibrary) {
  for (const std::string& name : GoldenCases()) {
    SCOPED_TRACE(name);
    const auto sae = LoadSae(RealEnv(), kGolden + name);
    ASSERT_TRUE(sae.ok()) << sae.status();
    const std::string folder = ScratchFolder("again");
    const absl::Status written = WriteSaeLens(RealEnv(), folder, *sae);
    ASSERT_TRUE(written.ok()) << written;
    const auto back = LoadSae(RealEnv(), folder);
    ASSERT_TRUE(back.ok()) << back.status();
    // The export may have folded norms into the codes: y is what must agree.
    const auto file = SafetensorsReader::Open(kGolden + name + "/golden.safetensors");
    const std::vector<float> y = Compute(*back, *(*file)->GetFloats("x")).y;
    EXPECT_LE(RelativeError({y.begin(), y.end()}, *(*file)->GetFloats("x_hat")), 1e-5);
    EXPECT_EQ(back->source, sae->source);
    EXPECT_EQ(back->transcoder, sae->transcoder);
  }
}

TEST(SaeLens, ImportedCheckpointGivesTheSameCodes) {
  std::int64_t refused = 0;
  for (const std::string& name : GoldenCases()) {
    SCOPED_TRACE(name);
    const auto sae = LoadSae(RealEnv(), kGolden + name);
    ASSERT_TRUE(sae.ok()) << sae.status();
    const std::string directory = ScratchFolder("import");
    const auto saved = SaveSae(RealEnv(), directory, *sae);
    if (absl::IsUnimplemented(saved.status())) {
      ++refused;  // topk_constant_norm, skip_transcoder_layer_norm
      continue;
    }
    ASSERT_TRUE(saved.ok()) << saved.status();
    const auto back = LoadSae(RealEnv(), directory + "/" + *saved);
    ASSERT_TRUE(back.ok()) << back.status();
    ExpectReproduces(*back, kGolden + name + "/golden.safetensors");
    EXPECT_EQ(back->source, sae->source);
  }
  EXPECT_EQ(refused, 2);
}

struct ExportCase {
  const char* theirs;
  model::TestSaeOptions options;
};
const ExportCase kExports[] = {
    {"standard", {.architecture = "relu_l1"}},
    {"topk", {.architecture = "topk"}},
    {"jumprelu", {.architecture = "batchtopk"}},
    {"jumprelu", {.architecture = "matryoshka"}},
    {"jumprelu", {.architecture = "jumprelu", .pre_bias = false}},
    {"gated", {.architecture = "gated"}},
    {"gated",
     {.architecture = "gated", .pre_bias = false, .normalisation = Normalisation::kLayerNorm}},
    {"standard", {.architecture = "relu_l1", .normalisation = Normalisation::kLayerNorm}},
    {"topk", {.architecture = "topk", .normalisation = Normalisation::kLayerNorm}},
    {"topk", {.architecture = "topk", .transcoder = true}},
    {"topk", {.architecture = "topk", .pre_bias = false, .transcoder = true}},
    {"transcoder", {.architecture = "relu_l1", .transcoder = true}},
    {"transcoder", {.architecture = "relu_l1", .d_out = 5, .pre_bias = false, .transcoder = true}},
    {"skip_transcoder",
     {.architecture = "relu_l1", .d_out = 9, .pre_bias = false, .transcoder = true, .skip = true}},
    {"jumprelu_transcoder",
     {.architecture = "jumprelu", .d_out = 5, .pre_bias = false, .transcoder = true}},
    {"jumprelu_transcoder",
     {.architecture = "gated", .d_out = 5, .pre_bias = false, .transcoder = true}},
    {"jumprelu_skip_transcoder", {.architecture = "gated", .transcoder = true, .skip = true}},
    {"jumprelu_skip_transcoder", {.architecture = "batchtopk", .transcoder = true, .skip = true}},
};

double RowNorm(const Sae& sae, std::size_t i) {
  double squares = 0;
  const auto width = static_cast<std::size_t>(sae.width());
  for (std::size_t j = 0; j < width; ++j)
    squares += double{sae.w_dec[i * width + j]} * sae.w_dec[i * width + j];
  return std::sqrt(squares);
}

TEST(SaeLens, EveryArchitectureIsExportedAndReadBack) {
  for (const ExportCase& c : kExports) {
    SCOPED_TRACE(
        absl::StrCat(c.options.architecture, " as ", c.theirs, ", pre-bias ", c.options.pre_bias));
    const Sae sae = RandomSae(c.options);
    const std::string folder = ScratchFolder("export");
    const absl::Status written = WriteSaeLens(RealEnv(), folder, sae);
    ASSERT_TRUE(written.ok()) << written;
    const auto config = nlohmann::json::parse(*RealEnv().Read(folder + "/cfg.json"));
    EXPECT_EQ(config["architecture"], c.theirs);
    EXPECT_EQ(config["metadata"]["training_architecture"], c.options.architecture);
    const auto back = LoadSae(RealEnv(), folder);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->transcoder, sae.transcoder);
    const std::vector<float> rows = model::RandomValues(3, kGoldenTokens * sae.d);
    const Output want = Compute(sae, rows), got = Compute(*back, rows);
    const bool folded = c.options.architecture != "topk";
    for (std::size_t e = 0; e < want.f.size(); ++e) {
      const std::size_t i = e % static_cast<std::size_t>(sae.latents);
      const double f = want.f[e] * (folded ? RowNorm(sae, i) : 1);
      ASSERT_NEAR(got.f[e], f, 1e-5 * (1 + f)) << "element " << e;
      ASSERT_TRUE(!folded || std::abs(RowNorm(*back, i) - 1) < 1e-6);
    }
    for (std::size_t e = 0; e < want.y.size(); ++e)
      ASSERT_NEAR(got.y[e], want.y[e], 2e-5 * (1 + std::abs(want.y[e])));
  }
}

TEST(SaeLens, WithUnitRowsEveryBitIsKept) {
  for (const ExportCase& c : kExports) {
    const bool rewritten =
        c.options.transcoder && (c.options.pre_bias || c.options.architecture == "gated");
    if (rewritten) continue;
    SCOPED_TRACE(absl::StrCat(c.options.architecture, " as ", c.theirs));
    Sae sae = RandomSae(c.options);
    model::NormaliseDecoder(&sae);
    sae.source = {{"model", "m"}, {"hook", "blocks.4.hook_resid_post"}, {"context", "256"}};
    if (sae.transcoder) sae.source["target_hook"] = "blocks.4.hook_mlp_out";
    const std::string folder = ScratchFolder("bits");
    ASSERT_TRUE(WriteSaeLens(RealEnv(), folder, sae).ok());
    const auto back = ReadSaeLens(RealEnv(), folder);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->w_enc, sae.w_enc);
    EXPECT_EQ(back->w_dec, sae.w_dec);
    EXPECT_EQ(back->b_enc, sae.b_enc);
    EXPECT_EQ(back->b_dec, sae.b_dec);
    EXPECT_EQ(back->threshold, sae.threshold);
    EXPECT_EQ(back->b_mag, sae.b_mag);
    EXPECT_EQ(back->r_mag, sae.r_mag);
    EXPECT_EQ(back->w_skip, sae.w_skip);
    EXPECT_EQ(back->k, sae.k);
    EXPECT_EQ(back->pre_bias, sae.pre_bias);
    EXPECT_EQ(back->normalisation, sae.normalisation);
    for (const auto& [key, value] : sae.source) EXPECT_EQ(back->source.at(key), value);
  }
}

TEST(SaeLens, SaysWhatTheFormatCannotHold) {
  const auto refusal = [](const model::TestSaeOptions& options) {
    const std::string folder = ScratchFolder("refused");
    const absl::Status status = WriteSaeLens(RealEnv(), folder, RandomSae(options));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_FALSE(RealEnv().Exists(folder));
    return Message(status);
  };
  EXPECT_THAT(refusal({.architecture = "topk", .d_out = 5, .pre_bias = false, .transcoder = true}),
              HasSubstr("no topk transcoder with two widths"));
  EXPECT_THAT(refusal({.architecture = "topk", .transcoder = true, .skip = true}),
              HasSubstr("no topk transcoder with a skip"));
  EXPECT_THAT(refusal({.architecture = "relu_l1",
                       .transcoder = true,
                       .normalisation = Normalisation::kLayerNorm}),
              HasSubstr("a transcoder's output is not mapped back after normalisation, in this one "
                        "it is mapped back"));
}

// A copy of a golden case with its cfg.json changed.
template <class F>
absl::Status ReadChanged(const std::string& name, const F& change) {
  const std::string folder = ScratchFolder("changed");
  std::filesystem::copy(kGolden + name, folder);
  auto config = nlohmann::json::parse(*RealEnv().Read(folder + "/cfg.json"));
  change(config);
  std::filesystem::remove(folder + "/cfg.json");
  std::ofstream(folder + "/cfg.json") << config.dump();
  return LoadSae(RealEnv(), folder).status();
}

TEST(SaeLens, FlatFieldsOfBeforeVersionSix) {
  const std::string folder = ScratchFolder("flat");
  std::filesystem::copy(kGolden + "topk", folder);
  std::filesystem::remove(folder + "/cfg.json");
  std::ofstream(folder + "/cfg.json")
      << R"({"architecture": "standard", "d_in": 24, "d_sae": 96, "activation_fn_str": "topk",
      "activation_fn_kwargs": {"k": 6}, "normalize_activations": false, "model_name": "gpt2",
      "hook_name": "blocks.8.hook_resid_pre", "hook_layer": 8, "context_size": 128,
      "dtype": "torch.float32"})";
  const auto sae = LoadSae(RealEnv(), folder);
  ASSERT_TRUE(sae.ok()) << sae.status();
  EXPECT_EQ(sae->architecture, "topk");
  EXPECT_EQ(sae->source.at("hook"), "blocks.8.hook_resid_pre");
  ExpectReproduces(*sae, folder + "/golden.safetensors");
  const absl::Status other = ReadChanged("standard", [](nlohmann::json& j) {
    j.erase("metadata");
    j["activation_fn"] = "tanh-relu";
  });
  EXPECT_THAT(Message(other), HasSubstr("activation_fn \"tanh-relu\" cannot be read"));
}

TEST(SaeLens, RefusesWhatItCannotRead) {
  using Json = nlohmann::json;
  const auto message = [](const char* name, const auto& change) {
    return Message(ReadChanged(name, change));
  };
  EXPECT_THAT(message("standard", [](Json& j) { j["architecture"] = "abstopk"; }),
              HasSubstr("architecture abstopk cannot be read: these can: standard, topk"));
  EXPECT_THAT(message("standard", [](Json& j) { j.erase("d_in"); }), HasSubstr("d_in is missing"));
  EXPECT_THAT(message("standard", [](Json& j) { j["d_sae"] = "many"; }),
              HasSubstr("d_sae is \"many\", of the wrong type"));
  EXPECT_THAT(message("standard", [](Json& j) { j["normalize_activations"] = "other"; }),
              HasSubstr("normalize_activations other cannot be read"));
  EXPECT_THAT(message("batchtopk_training",
                      [](Json& j) { j["normalize_activations"] = "expected_average_only_in"; }),
              HasSubstr("save_inference_model"));
  EXPECT_THAT(message("skip_transcoder", [](Json& j) { j["architecture"] = "transcoder"; }),
              HasSubstr("tensor W_skip is none that architecture transcoder has"));
  EXPECT_THAT(message("transcoder", [](Json& j) { j["apply_b_dec_to_input"] = true; }),
              HasSubstr("apply_b_dec_to_input is true"));
  EXPECT_THAT(message("topk", [](Json& j) { j["k"] = 0; }), HasSubstr("k is 0"));
  EXPECT_EQ(LoadSae(RealEnv(), "/nonexistent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadSae(RealEnv(), kGolden).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SaeLens, AnUntrainedBatchThresholdIsRefused) {
  const std::string folder = ScratchFolder("untrained");
  std::filesystem::copy(kGolden + "batchtopk_training", folder);
  const auto file = SafetensorsReader::Open(folder + "/sae_weights.safetensors");
  ASSERT_TRUE(file.ok());
  const double zero = 0;
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, view] : (*file)->tensors()) {
    tensors.push_back(
        {name, view.dtype, view.shape, name == "topk_threshold" ? AsBytes(&zero, 1) : view.data});
  }
  std::filesystem::create_directory(folder + "/new");
  ASSERT_TRUE(WriteSafetensors(RealEnv(), folder + "/new/sae_weights.safetensors", tensors).ok());
  std::filesystem::copy(folder + "/cfg.json", folder + "/new/cfg.json");
  const absl::Status status = LoadSae(RealEnv(), folder + "/new").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), HasSubstr("topk_threshold is 0"));
}

TEST(SaeLens, RefusesToOverwrite) {
  const std::string folder = ScratchFolder("overwrite");
  ASSERT_TRUE(WriteSaeLens(RealEnv(), folder, RandomSae({})).ok());
  EXPECT_EQ(WriteSaeLens(RealEnv(), folder, RandomSae({})).code(),
            absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace sae::checkpoint
