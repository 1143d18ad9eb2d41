#include "sae/checkpoint/load_sae.h"

#include <unistd.h>
#include <filesystem>
#include <list>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/saelens.h"
#include "sae/model/sae_fold.h"
#include "sae/model/test_sae.h"

namespace sae::checkpoint {
namespace {
using model::Sae;
using ::testing::HasSubstr;

constexpr std::int64_t kWidth = 7, kLatents = 19, kTokens = 50;
constexpr double kScale = 6.5;
const char* const kArchitectures[] = {"relu_l1",    "topk",  "batchtopk",
                                      "matryoshka", "gated", "jumprelu"};

std::string Scratch(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/load_sae_test_" + name + "_" +
                           std::to_string(getpid());  // tests run side by side
  std::filesystem::remove_all(path);
  return path;
}

/// What a trainer writes: parameters of the scaled problem, with what `more` adds.
class Trained {
 public:
  explicit Trained(const Sae& scaled) : sae(scaled) {
    info.d = sae.d;
    info.step = 40;
    config().architecture = sae.architecture;
    config().latents = sae.latents;
    config().k = 4;
    config().transcoder = sae.transcoder;
    config().skip = !sae.w_skip.empty();
    config().pre_bias = sae.pre_bias ? "on" : "off";
    if (sae.normalisation == model::Normalisation::kLayerNorm) config().input_scale = "layer_norm";
    info.source["hook"] = "blocks.4.hook_resid_post";
    const std::int64_t n = sae.latents;
    AddParameter("W_enc", {n, sae.d}, sae.w_enc);
    AddParameter("W_dec", {n, sae.width()}, sae.w_dec);
    AddParameter("b_enc", {n}, sae.b_enc);
    AddParameter("b_dec", {sae.width()}, sae.b_dec, false);
    if (sae.architecture == "gated") {
      AddParameter("b_mag", {n}, sae.b_mag);
      AddParameter("r_mag", {n}, sae.r_mag);
    }
    if (sae.architecture == "jumprelu") {
      std::vector<float> log = sae.threshold;
      for (float& t : log) t = std::log(t);
      AddParameter("log_threshold", {n}, log);
    }
    if (!sae.w_skip.empty()) AddParameter("W_skip", {sae.width(), sae.d}, sae.w_skip, false);
    AddScalar("input_scale", sae.normalisation == model::Normalisation::kNone ? kScale : 1.0);
    if (sae.architecture == "batchtopk" || sae.architecture == "matryoshka") {
      AddScalar("batch_threshold", 0.3 * 0.25);
      AddScalar("batch_threshold_weight", 0.25);
    }
  }
  config::SaeConfig& config() { return info.config.sae; }
  void Add(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> values,
           bool per_latent = true) {
    tensors_.push_back(std::move(values));
    state_.tensors.push_back(
        {name, DType::kF32, std::move(shape), tensors_.back().data(), per_latent});
  }
  void AddParameter(const std::string& name, const std::vector<std::int64_t>& shape,
                    const std::vector<float>& values, bool per_latent = true) {
    Add(name, shape, values, per_latent);
    Add(name + ".adam_m", shape, std::vector<float>(values.size(), 5.0F), per_latent);
  }
  void AddScalar(const std::string& name, double value) {
    scalars_.push_back(value);
    state_.scalars.push_back({name, &scalars_.back()});
  }
  void SetScalar(const std::string& name, double value) {
    for (auto& s : state_.scalars) {
      if (s.name == name) *std::get<double*>(s.value) = value;
    }
  }
  /// Every parameter p gets a mean p.ema that holds `factor` p: of weight `factor` it stands for p
  /// itself.
  void AddMeans(double factor) {
    info.config.train.ema = 0.9;
    AddScalar("ema_weight", factor);
    const std::vector<model::StateTensor> parameters = state_.tensors;
    auto values = tensors_.begin();
    for (const model::StateTensor& t : parameters) {
      std::vector<float> mean = *values++;
      if (t.name.ends_with(".adam_m")) continue;
      for (float& v : mean) v = static_cast<float>(v * factor);
      Add(t.name + ".ema", t.shape, mean, t.per_latent);
    }
    auto at = tensors_.begin();
    for (const model::StateTensor& t : parameters) {
      if (!t.name.ends_with(".adam_m")) std::fill(at->begin(), at->end(), 99.0F);  // not to be read
      ++at;
    }
  }
  std::string Save(const std::string& name) {
    state_.shard = model::ShardOf(sae.latents, 1, 0);
    const auto self = comm::CreateSelf();
    const std::string directory = Scratch(name);
    EXPECT_TRUE(RealEnv().MakeDirectories(directory).ok());
    const auto saved = SaveCheckpoint(RealEnv(), *self, directory, state_, info);
    EXPECT_TRUE(saved.ok()) << saved.status();
    return directory;
  }

  Sae sae;
  Info info;

 private:
  std::list<std::vector<float>> tensors_;
  std::list<double> scalars_;
  model::State state_;
};

/// The loaded SAE on raw rows against the float64 loops over the scaled parameters on x / S.
void ExpectSameFunction(const Sae& loaded, const Sae& scaled, double scale) {
  ThreadPool pool(2);
  const std::vector<float> raw = model::RandomValues(17, kTokens * kWidth, scale);
  const auto runner = model::SaeRunner::Create(loaded, pool);
  ASSERT_TRUE(runner.ok()) << runner.status();
  std::vector<float> y(static_cast<std::size_t>(kTokens * loaded.width()));
  const auto codes = (*runner)->Forward(raw, std::span(y));
  ASSERT_TRUE(codes.ok()) << codes.status();
  const std::vector<double> f = model::Dense(**codes);
  for (std::size_t b = 0; b < kTokens; ++b) {
    std::vector<float> x(raw.begin() + static_cast<std::ptrdiff_t>(b * kWidth),
                         raw.begin() + static_cast<std::ptrdiff_t>((b + 1) * kWidth));
    for (float& v : x) v = static_cast<float>(v / scale);
    const model::ReferenceCodes want = model::ReferenceEncode(scaled, x);
    for (std::size_t i = 0; i < kLatents; ++i) {
      ASSERT_GT(want.margin[i], 1e-6);  // of these seeds
      ASSERT_NEAR(f[b * kLatents + i], scale * want.f[i], 1e-5 * scale * (1 + want.f[i]))
          << "token " << b << ", latent " << i << ", margin " << want.margin[i];
    }
    const std::vector<double> y_want = model::ReferenceDecode(scaled, x, want.f);
    for (std::size_t j = 0; j < y_want.size(); ++j) {
      ASSERT_NEAR(y[b * y_want.size() + j], scale * y_want[j],
                  2e-5 * scale * (1 + std::abs(y_want[j])));
    }
  }
}

/// RandomSae with the threshold that the hand-made checkpoints hold.
Sae Scaled(model::TestSaeOptions options) {
  Sae sae = model::RandomSae(options);
  if (options.architecture == "batchtopk" || options.architecture == "matryoshka") {
    EXPECT_TRUE(model::SetBatchThreshold(0.3, &sae).ok());
  }
  return sae;
}

TEST(LoadSae, EveryArchitectureInRawUnits) {
  for (const char* architecture : kArchitectures) {
    for (const bool transcoder : {false, true}) {
      for (const bool layer_norm : {false, true}) {
        SCOPED_TRACE(absl::StrCat(architecture, transcoder ? ", skip transcoder" : "",
                                  layer_norm ? ", layer norm" : ""));
        const Sae scaled = Scaled({.architecture = architecture,
                                   .d_out = transcoder && !layer_norm ? 5 : 0,
                                   .pre_bias = !transcoder,
                                   .transcoder = transcoder,
                                   .skip = transcoder,
                                   .normalisation = layer_norm ? model::Normalisation::kLayerNorm
                                                               : model::Normalisation::kNone});
        const auto loaded = LoadSae(RealEnv(), Trained(scaled).Save("every"));
        ASSERT_TRUE(loaded.ok()) << loaded.status();
        EXPECT_EQ(loaded->architecture, architecture);
        EXPECT_EQ(loaded->transcoder, transcoder);
        EXPECT_EQ(loaded->source.at("hook"), "blocks.4.hook_resid_post");
        ExpectSameFunction(*loaded, scaled, layer_norm ? 1 : kScale);
      }
    }
  }
}

TEST(LoadSae, MeansOfParametersAreUsedWhereTheRunKeepsThem) {
  for (const char* architecture : kArchitectures) {
    SCOPED_TRACE(architecture);
    const Sae scaled = Scaled({.architecture = architecture, .transcoder = true, .skip = true});
    Trained trained(scaled);
    trained.AddMeans(0.25);
    const auto loaded = LoadSae(RealEnv(), trained.Save("ema"));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ExpectSameFunction(*loaded, scaled, kScale);
  }
}

TEST(LoadSae, AMeanWithoutWeightIsNotUsed) {
  const Sae scaled = Scaled({});
  Trained trained(scaled);
  trained.info.config.train.ema = 0.9;
  trained.AddScalar("ema_weight", 0);
  const auto loaded = LoadSae(RealEnv(), trained.Save("ema0"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ExpectSameFunction(*loaded, scaled, kScale);
}

TEST(LoadSae, AMeanThatIsMissingIsDataLoss) {
  Trained trained(Scaled({}));
  trained.info.config.train.ema = 0.9;
  trained.AddScalar("ema_weight", 0.5);
  const auto loaded = LoadSae(RealEnv(), trained.Save("ema_missing"));
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(loaded.status()), HasSubstr("no tensor W_enc.ema"));
}

TEST(LoadSae, OnTheFlyDecodersGiveDirections) {
  Sae scaled = Scaled({.architecture = "relu_l1"});
  Trained trained(scaled);
  trained.config().decoder = "on_the_fly";
  const auto loaded = LoadSae(RealEnv(), trained.Save("fly"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_NE(loaded->w_dec, scaled.w_dec);
  model::NormaliseDecoder(&scaled);
  ExpectSameFunction(*loaded, scaled, kScale);
}

TEST(LoadSae, RawThresholds) {
  const Sae scaled = Scaled({.architecture = "jumprelu"});
  Trained trained(scaled);
  trained.config().threshold_parameter = "raw";
  trained.AddParameter("threshold", {kLatents}, scaled.threshold);
  const auto loaded = LoadSae(RealEnv(), trained.Save("raw"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  for (std::size_t i = 0; i < kLatents; ++i) {
    EXPECT_EQ(loaded->threshold[i], static_cast<float>(scaled.threshold[i] * kScale));
  }
}

TEST(LoadSae, OldConfigurationsMeanPreBias) {
  const Sae scaled = Scaled({});
  Trained trained(scaled);
  trained.config().pre_bias = "auto";
  const auto loaded = LoadSae(RealEnv(), trained.Save("auto"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(loaded->pre_bias);
}

TEST(LoadSae, AnUndefinedBatchThresholdIsRefused) {
  for (const char* architecture : {"batchtopk", "matryoshka"}) {
    Trained trained(Scaled({.architecture = architecture}));
    trained.SetScalar("batch_threshold", 0);
    trained.SetScalar("batch_threshold_weight", 0);
    const auto loaded = LoadSae(RealEnv(), trained.Save("undefined"));
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(
        Message(loaded.status()),
        HasSubstr(absl::StrCat("at which ", architecture, " encodes is not defined at step 40")));
    EXPECT_THAT(Message(loaded.status()), HasSubstr("use a later checkpoint"));
  }
}

void ExpectSameCodes(const Sae& got, const Sae& want, const std::vector<float>& rows) {
  ThreadPool pool(1);
  const auto a = model::SaeRunner::Create(got, pool), b = model::SaeRunner::Create(want, pool);
  std::vector<float> y(static_cast<std::size_t>(kTokens * got.width())), y_want = y;
  const auto codes = (*a)->Forward(rows, std::span(y)),
             codes_want = (*b)->Forward(rows, std::span(y_want));
  ASSERT_TRUE(codes.ok() && codes_want.ok());
  EXPECT_EQ((*codes)->indptr, (*codes_want)->indptr);
  EXPECT_EQ((*codes)->ids, (*codes_want)->ids);
  EXPECT_EQ((*codes)->values, (*codes_want)->values);
  EXPECT_EQ(y, y_want);
}

// Property 50.
TEST(LoadSae, JumpReluWithTheBatchThresholdIsBatchTopKInferenceBitForBit) {
  const std::vector<float> rows = model::RandomValues(23, kTokens * kWidth, kScale);
  for (const char* architecture : {"batchtopk", "matryoshka"}) {
    SCOPED_TRACE(architecture);
    Sae scaled = Scaled({.architecture = architecture});
    model::NormaliseDecoder(&scaled);  // as training leaves it: nothing to fold on the way out
    const auto batch = LoadSae(RealEnv(), Trained(scaled).Save("batch"));
    ASSERT_TRUE(batch.ok()) << batch.status();
    // BatchTopK inference by definition: ReLU codes above theta, in float64.
    Sae relu = *batch;
    relu.architecture = "relu_l1";
    relu.threshold.clear();
    ThreadPool pool(1);
    const auto dense = model::SaeRunner::Create(relu, pool),
               runner = model::SaeRunner::Create(*batch, pool);
    std::vector<double> want = model::Dense(**(*dense)->Encode(rows));
    const double theta = kScale * (0.3 * 0.25 / 0.25);
    std::int64_t cut = 0;
    for (double& f : want) {
      cut += f > 0 && f <= theta ? 1 : 0;
      f = f > theta ? f : 0;
    }
    EXPECT_GT(cut, 10);
    EXPECT_EQ(model::Dense(**(*runner)->Encode(rows)), want);

    const std::string checkpoints = Scratch("as_jumprelu");
    ASSERT_TRUE(SaveSae(RealEnv(), checkpoints, *batch).ok());
    const auto jump = LoadSae(RealEnv(), checkpoints);
    ASSERT_TRUE(jump.ok()) << jump.status();
    EXPECT_EQ(jump->architecture, "jumprelu");
    ExpectSameCodes(*jump, *batch, rows);

    const std::string exported = Scratch("as_saelens");
    ASSERT_TRUE(WriteSaeLens(RealEnv(), exported, *batch).ok());
    const auto back = LoadSae(RealEnv(), exported);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->architecture, "jumprelu");
    ExpectSameCodes(*back, *batch, rows);
  }
}

TEST(SaveSae, EveryKindComesBackBitForBit) {
  const std::vector<float> rows = model::RandomValues(24, kTokens * kWidth);
  for (const char* architecture : kArchitectures) {
    for (const bool transcoder : {false, true}) {
      for (const bool layer_norm : {false, true}) {
        SCOPED_TRACE(absl::StrCat(architecture, transcoder, layer_norm));
        const Sae sae =
            model::RandomSae({.architecture = architecture,
                              .d_out = transcoder && !layer_norm ? 5 : 0,
                              .pre_bias = false,
                              .transcoder = transcoder,
                              .skip = transcoder,
                              .normalisation = layer_norm ? model::Normalisation::kLayerNorm
                                                          : model::Normalisation::kNone});
        const std::string directory = Scratch("save");
        ASSERT_TRUE(SaveSae(RealEnv(), directory, sae).ok());
        const auto back = LoadSae(RealEnv(), directory);
        ASSERT_TRUE(back.ok()) << back.status();
        ExpectSameCodes(*back, sae, rows);
      }
    }
  }
}

TEST(SaveSae, RefusesWhatACheckpointCannotSay) {
  const Sae sae = model::RandomSae({.normalisation = model::Normalisation::kConstantNorm});
  EXPECT_EQ(SaveSae(RealEnv(), Scratch("constant"), sae).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace sae::checkpoint
