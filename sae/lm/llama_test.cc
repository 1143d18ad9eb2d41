#include <cmath>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "sae/base/safetensors.h"
#include "sae/lm/language_model.h"
#include "sae/lm/testing/gguf_builder.h"
#include "sae/lm/testing/golden.h"
#include "sae/lm/tokenizer.h"

namespace sae::lm {
namespace {

using nlohmann::json;

struct Loaded {
  std::unique_ptr<GgufReader> gguf;
  std::unique_ptr<LanguageModel> model;
};

/// nullptr in `model` and a skipped test in a build without LibTorch.
Loaded Load(const std::string& path, const LanguageModelOptions& options) {
  Loaded out;
  auto gguf = GgufReader::Open(path);
  EXPECT_TRUE(gguf.ok()) << gguf.status();
  out.gguf = *std::move(gguf);
  auto model = LoadLlama(*out.gguf, options);
  if (model.ok()) {
    out.model = *std::move(model);
  } else {
    EXPECT_EQ(model.status().code(), absl::StatusCode::kUnimplemented) << model.status();
  }
  return out;
}

std::string TinyPath() {
  return testing::WriteTemporary("tiny_llama.gguf", testing::TinyLlama().Build());
}

/// The largest |a - b|2 / |b|2 over rows of `d`.
double RowError(std::span<const float> a, std::span<const float> b, std::size_t d) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t begin = 0; begin < b.size(); begin += d) {
    double difference = 0;
    double norm = 0;
    for (std::size_t i = begin; i < begin + d; ++i) {
      difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
      norm += double{b[i]} * b[i];
    }
    worst = std::max(worst, std::sqrt(difference / norm));
  }
  return worst;
}

std::vector<std::vector<float>> RunHooks(LanguageModel& model, const TokenBatch& batch,
                                         const std::vector<std::string>& names) {
  std::vector<Hook> hooks;
  std::vector<std::vector<float>> values;
  for (const auto& name : names) {
    auto hook = ParseHook(name, static_cast<int>(model.config().blocks));
    EXPECT_TRUE(hook.ok()) << hook.status();
    hooks.push_back(*hook);
    values.emplace_back(static_cast<std::size_t>(batch.size() * model.config().d));
  }
  const absl::Status status = model.Run(batch, hooks, {values.begin(), values.end()});
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

const std::vector<std::string> kGoldenHooks = {"hook_embed",
                                               "blocks.8.hook_resid_pre",
                                               "blocks.8.hook_attn_out",
                                               "blocks.8.hook_mlp_out",
                                               "blocks.0.hook_resid_post",
                                               "blocks.8.hook_resid_post",
                                               "blocks.15.hook_resid_post",
                                               "blocks.29.hook_resid_post"};

struct Tolerance {
  double hook, logits, cross_entropy;
};

void ExpectText(const SafetensorsReader& golden, const json& text, LanguageModel& model,
                const Tolerance& tolerance) {
  const auto name = text["name"].get<std::string>();
  SCOPED_TRACE(name);
  TokenBatch batch;
  batch.StartSpan();
  batch.tokens = text["ids"].get<std::vector<std::int32_t>>();
  const auto d = static_cast<std::size_t>(model.config().d);
  double worst = 0;
  const auto values = RunHooks(model, batch, kGoldenHooks);
  for (std::size_t i = 0; i < kGoldenHooks.size(); ++i) {
    auto want = golden.GetFloats(name + "/" + kGoldenHooks[i], {batch.size(), model.config().d});
    ASSERT_TRUE(want.ok()) << want.status();
    const double error = RowError(values[i], *want, d);
    if (kGoldenHooks[i] == "hook_embed") {
      EXPECT_EQ(values[i], *want);
    } else {
      EXPECT_LT(error, tolerance.hook) << kGoldenHooks[i];
      worst = std::max(worst, error);
    }
  }
  const std::int64_t n = batch.size();
  auto logits = model.Logits(batch, {n - 4, n - 3, n - 2, n - 1});
  auto want = golden.GetFloats(name + "/logits.last4");
  ASSERT_TRUE(logits.ok() && want.ok()) << logits.status() << want.status();
  const double logit_error =
      RowError(*logits, *want, static_cast<std::size_t>(model.config().vocabulary));
  EXPECT_LT(logit_error, tolerance.logits);
  auto entropy = model.MeanCrossEntropy(batch);
  ASSERT_TRUE(entropy.ok()) << entropy.status();
  EXPECT_NEAR(*entropy, text["mean_ce"].get<double>(), tolerance.cross_entropy);
  std::printf("%s: hooks within %.2g, logits %.2g, cross-entropy %.2g\n", name.c_str(), worst,
              logit_error, std::fabs(*entropy - text["mean_ce"].get<double>()));
}

void ExpectGoldens(const LanguageModelOptions& options, const Tolerance& tolerance,
                   std::string path) {
  Loaded loaded = Load(testing::ModelPath(), options);
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  auto golden = SafetensorsReader::Open(path);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const json texts = json::parse(testing::ReadFileOrDie(testing::GoldenPath("forward.json")));
  auto tokenizer = Tokenizer::FromGguf(*loaded.gguf);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  int ran = 0;
  for (const json& text : texts) {
    EXPECT_EQ((*tokenizer)->Encode(text["text"].get<std::string>()),
              text["ids"].get<std::vector<std::int32_t>>());
    if ((*golden)->tensors().count(text["name"].get<std::string>() + "/mean_ce") == 0) continue;
    ExpectText(**golden, text, *loaded.model, tolerance);
    ++ran;
  }
  EXPECT_GE(ran, 3);
}

TEST(Llama, Float32WithinTheTolerancesOfTheGoldens) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  std::string path = testing::SharedGoldenPath("forward.safetensors");
  if (path.empty()) {
    path = testing::GoldenPath("forward_0_2.safetensors");
    std::printf(
        "texts 0-2 only: forward.safetensors is neither under $SAELOOM_SHARED nor beside the "
        "tree\n");
  } else {
    std::printf("all six texts of %s\n", path.c_str());
  }
  ExpectGoldens({.threads = 2}, {1e-4, 3e-4, 5e-5}, path);
}

/// (pre + attention) / rms in float64: what blocks.N.ln2.hook_normalized is.
std::vector<float> Normalized(std::span<const float> pre, std::span<const float> attention,
                              std::size_t d, double eps) {
  std::vector<float> out(pre.size());
  for (std::size_t begin = 0; begin < pre.size(); begin += d) {
    double squares = 0;
    for (std::size_t i = begin; i < begin + d; ++i)
      squares += std::pow(double{pre[i]} + attention[i], 2);
    const double rms = std::sqrt(squares / static_cast<double>(d) + eps);
    for (std::size_t i = begin; i < begin + d; ++i)
      out[i] = static_cast<float>((double{pre[i]} + attention[i]) / rms);
  }
  return out;
}

TEST(Llama, TheMlpsInputBeforeItsGainIsTheNormedStreamOfTheGoldens) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  Loaded loaded = Load(testing::ModelPath(), {.threads = 2, .blocks = 9});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  auto golden = SafetensorsReader::Open(testing::GoldenPath("forward_0_2.safetensors"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  const json texts = json::parse(testing::ReadFileOrDie(testing::GoldenPath("forward.json")));
  const LlamaConfig& config = loaded.model->config();
  int ran = 0;
  for (const json& text : texts) {
    const auto name = text["name"].get<std::string>();
    const auto pre = (*golden)->GetFloats(name + "/blocks.8.hook_resid_pre");
    const auto attention = (*golden)->GetFloats(name + "/blocks.8.hook_attn_out");
    if (!pre.ok() || !attention.ok()) continue;
    TokenBatch batch;
    batch.StartSpan();
    batch.tokens = text["ids"].get<std::vector<std::int32_t>>();
    const auto d = static_cast<std::size_t>(config.d);
    const auto values = RunHooks(*loaded.model, batch, {"blocks.8.ln2.hook_normalized"});
    EXPECT_LT(RowError(values[0], Normalized(*pre, *attention, d, config.norm_eps), d), 1e-4);
    ++ran;
  }
  EXPECT_GE(ran, 3);
}

// Rounding to bf16 moves the residual stream by about 6e-3 at block 8; the outputs of sublayers,
// where terms cancel, by up to ten times that.
TEST(Llama, Bfloat16StaysNearTheGoldens) {
  if (testing::ModelPath().empty()) GTEST_SKIP() << testing::NoModelReason();
  ExpectGoldens({.compute = Compute::kBf16, .threads = 2}, {1e-1, 5e-2, 3e-2},
                testing::GoldenPath("forward_0_2.safetensors"));
}

TokenBatch Batch(const std::vector<std::vector<std::int32_t>>& spans) {
  TokenBatch batch;
  for (const auto& span : spans) {
    batch.StartSpan();
    batch.tokens.insert(batch.tokens.end(), span.begin(), span.end());
  }
  return batch;
}

std::vector<std::int32_t> Tokens(std::int32_t first, int count) {
  std::vector<std::int32_t> out;
  for (int i = 0; i < count; ++i) out.push_back((first + 37 * i) % 258);
  return out;
}

const std::vector<std::string> kTinyHooks = {"hook_embed",
                                             "blocks.0.hook_attn_out",
                                             "blocks.0.ln2.hook_normalized",
                                             "blocks.1.hook_resid_pre",
                                             "blocks.1.hook_mlp_out",
                                             "blocks.1.hook_resid_post"};

TEST(Llama, TheMlpsInputIsNormedAndChangesNoOtherHook) {
  Loaded loaded = Load(TinyPath(), {});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  const TokenBatch batch = Batch({Tokens(3, 40), Tokens(9, 17)});
  const auto got = RunHooks(*loaded.model, batch,
                            {"blocks.1.hook_resid_pre", "blocks.1.hook_attn_out",
                             "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"});
  EXPECT_LT(RowError(got[2], Normalized(got[0], got[1], 64, loaded.model->config().norm_eps), 64),
            1e-6);
  const auto without = RunHooks(*loaded.model, batch, {"blocks.1.hook_mlp_out"});
  EXPECT_EQ(without[0], got[3]);
  // The last hook asked for: the pass ends there.
  EXPECT_EQ(RunHooks(*loaded.model, batch, {"blocks.1.ln2.hook_normalized"})[0], got[2]);
}

TEST(Llama, SpansOfABatchDoNotSeeEachOther) {
  Loaded loaded = Load(TinyPath(), {.threads = 2});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  std::vector<std::vector<std::int32_t>> spans;
  for (int i = 0; i < 40; ++i) spans.push_back(Tokens(i, 1 + (i * 13) % 90));
  spans.push_back(Tokens(7, 300));  // longer than a micro-batch
  const auto together = RunHooks(*loaded.model, Batch(spans), kTinyHooks);
  std::size_t at = 0;
  for (const auto& span : spans) {
    const auto alone = RunHooks(*loaded.model, Batch({span}), kTinyHooks);
    for (std::size_t h = 0; h < kTinyHooks.size(); ++h) {
      EXPECT_LT(RowError(std::span(together[h]).subspan(at * 64, span.size() * 64), alone[h], 64),
                1e-5)
          << kTinyHooks[h];
    }
    at += span.size();
  }
}

TEST(Llama, ALaterTokenChangesNoEarlierRow) {
  Loaded loaded = Load(TinyPath(), {});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  auto tokens = Tokens(3, 100);
  const auto before = RunHooks(*loaded.model, Batch({tokens}), {"blocks.1.hook_resid_post"});
  tokens[70] = 5;
  const auto after = RunHooks(*loaded.model, Batch({tokens}), {"blocks.1.hook_resid_post"});
  EXPECT_TRUE(std::equal(before[0].begin(), before[0].begin() + 70 * 64, after[0].begin()));
  EXPECT_FALSE(
      std::equal(before[0].begin() + 70 * 64, before[0].end(), after[0].begin() + 70 * 64));
}

TEST(Llama, OnlyTheLoadedBlocksCanBeAsked) {
  Loaded loaded = Load(TinyPath(), {.blocks = 1});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  std::vector<float> out(3 * 64);
  EXPECT_TRUE(loaded.model->Run(Batch({{1, 2, 3}}), {{0, HookPoint::kResidPost}}, {out}).ok());
  const auto status = loaded.model->Run(Batch({{1, 2, 3}}), {{1, HookPoint::kResidPost}}, {out});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

TEST(Llama, BadBatchesAreRefused) {
  Loaded loaded = Load(TinyPath(), {});
  if (!loaded.model) GTEST_SKIP() << "built without LibTorch";
  std::vector<float> out(3 * 64);
  const auto code = [&](const TokenBatch& batch) {
    return loaded.model->Run(batch, {Hook{}}, {out}).code();
  };
  EXPECT_EQ(code(Batch({{1, 2, 258}})), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Batch({{1, -2, 3}})), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Batch({{1, 2}})), absl::StatusCode::kInvalidArgument);  // output of another size
  EXPECT_EQ(code(TokenBatch{}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(Batch({{1, 2, 3}, {}})), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(loaded.model->MeanCrossEntropy(Batch({{1}})).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Llama, AMissingTensorIsNamed) {
  testing::GgufBuilder b;
  b.Text("general.architecture", "llama");
  auto gguf = GgufReader::Open(testing::WriteTemporary("bare.gguf", b.Build()));
  ASSERT_TRUE(gguf.ok());
  EXPECT_FALSE(LoadLlama(**gguf, {}).ok());
}

}  // namespace
}  // namespace sae::lm
