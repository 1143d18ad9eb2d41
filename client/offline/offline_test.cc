// The program itself: exit codes, one clear line for each error, nothing half-written.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "sae/base/process.h"
#include "sae/lm/testing/gguf_builder.h"
#include "tests/support/temp_dir.h"

namespace sae::client {
namespace {

class OfflineTest : public ::testing::Test {
 protected:
  struct Outcome {
    int code;
    std::string output, errors;
  };
  void SetUp() override {
    model_ = lm::testing::WriteTemporary("tiny.gguf", lm::testing::TinyLlama().Build());
    std::string text;
    for (int i = 0; i < 40; ++i) text += "document number " + std::to_string(i) + "\n\n";
    text_ = lm::testing::WriteTemporary("text.txt", text);
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
  Outcome Harvest(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"harvest",
                                          "--model",
                                          model_,
                                          "--text",
                                          text_,
                                          "--hook",
                                          "blocks.1.hook_resid_post",
                                          "--out",
                                          folder_ / "store",
                                          "--threads",
                                          "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
  void ExpectRefused(const Outcome& outcome, int code, const std::string& words) {
    EXPECT_EQ(outcome.code, code) << outcome.errors;
    EXPECT_NE(outcome.errors.find(words), std::string::npos) << outcome.errors;
    EXPECT_EQ(outcome.errors.find("saeloom: "), 0U) << outcome.errors;
    EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
    EXPECT_EQ(outcome.output, "");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "store"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "store.partial"));
  }

  sae::testing::TempDir folder_;
  std::string model_, text_;
};

TEST_F(OfflineTest, HarvestWritesAStoreThatVerifies) {
  const Outcome harvest = Harvest({"-o", "json", "--heldout", "0.2"});
  ASSERT_EQ(harvest.code, 0) << harvest.errors;
  const auto j = nlohmann::json::parse(harvest.output);
  EXPECT_EQ(j["d"], 64);
  EXPECT_EQ(j["documents"], 40);
  EXPECT_GT(j["heldout_rows"], 0);
  EXPECT_EQ(j["rows"].get<int>() + j["heldout_rows"].get<int>() + 40, j["tokens"]);
  const Outcome verify = Run({"store", "verify", folder_ / "store"});
  EXPECT_EQ(verify.code, 0) << verify.errors;
  const Outcome again = Harvest({});
  EXPECT_EQ(again.code, 5) << again.errors;  // it is there already
}

TEST_F(OfflineTest, HarvestWithATargetHookMakesAStoreForTranscoders) {
  const std::string store = folder_ / "pairs";
  const Outcome harvest =
      Run({"harvest", "--model", model_, "--text", text_, "--hook", "blocks.0.ln2.hook_normalized",
           "--target-hook", "blocks.1.hook_mlp_out", "--out", store, "--threads", "1"});
  ASSERT_EQ(harvest.code, 0) << harvest.errors;
  EXPECT_NE(harvest.output.find("targets      of width 64, at blocks.1.hook_mlp_out\n"),
            std::string::npos)
      << harvest.output;
  EXPECT_EQ(Run({"store", "verify", store}).code, 0);
  const Outcome info = Run({"store", "info", store});
  EXPECT_NE(info.output.find("targets     64 x bf16 of the same rows, blocks.1.hook_mlp_out\n"),
            std::string::npos)
      << info.output;
  EXPECT_NE(info.output.find("of targets  mean squared norm "), std::string::npos) << info.output;
  // Rows of a norm without gain have norm sqrt(d).
  const auto j = nlohmann::json::parse(Run({"store", "info", store, "-o", "json"}).output);
  EXPECT_NEAR(j["mean_squared_norm"].get<double>(), 64, 0.5);
  EXPECT_EQ(j["target_d"], 64);
  EXPECT_EQ(j["source"]["target_hook"], "blocks.1.hook_mlp_out");
  ExpectRefused(Harvest({"--target-hook", "blocks.1.hook_resid_post"}), 2,
                "hook and target hook are both blocks.1.hook_resid_post");
}

TEST_F(OfflineTest, LmInfoAndTokenize) {
  const Outcome info = Run({"lm", "info", "--model", model_, "-o", "json"});
  ASSERT_EQ(info.code, 0) << info.errors;
  EXPECT_EQ(nlohmann::json::parse(info.output)["blocks"], 2);
  const std::string two = lm::testing::WriteTemporary("two.txt", "ab\n\nc\n");
  const Outcome tokens = Run({"lm", "tokenize", "--model", model_, "--text", two});
  EXPECT_EQ(tokens.code, 0) << tokens.errors;
  EXPECT_EQ(tokens.output, "{\"ids\":[99,100]}\n{\"ids\":[101]}\n");
}

TEST_F(OfflineTest, BadInputsGiveOneClearErrorAndNoStore) {
  ExpectRefused(Harvest({"--hook", "blocks.7.hook_resid_post"}), 2, "--hook");  // given twice
  ExpectRefused(Run({"harvest", "--model", model_, "--text", text_, "--hook",
                     "blocks.7.hook_resid_post", "--out", folder_ / "store"}),
                2, "saeloom: harvest: no hook \"blocks.7.hook_resid_post\"");
  ExpectRefused(Harvest({"--context", "100000"}), 2, "context 100000 is outside 2 to 512");
  ExpectRefused(Harvest({"--pack", "pad"}), 2, "--pack");
  ExpectRefused(Harvest({"--drop-norm-above", "0.5x"}), 2, "norm limit");
  ExpectRefused(Harvest({"--unknown"}), 2, "--unknown");
  text_ = lm::testing::WriteTemporary("empty.txt", "\n\n");
  ExpectRefused(Harvest({}), 2, "is empty");
  text_ = folder_ / "absent";
  ExpectRefused(Harvest({}), 3, "absent");
}

TEST_F(OfflineTest, BadModelsAreNamed) {
  const std::string whole = lm::testing::TinyLlama().Build();
  model_ = lm::testing::WriteTemporary("cut.gguf", whole.substr(0, whole.size() / 2));
  ExpectRefused(Harvest({}), 1, "cut short");
  model_ = lm::testing::WriteTemporary("other.gguf", "hello, this is no model");
  ExpectRefused(Harvest({}), 2, "not a GGUF file");
  model_ = lm::testing::WriteTemporary("iq4.gguf",
                                       lm::testing::TinyLlama(1, lm::GgmlType::kIQ4_NL).Build());
  ExpectRefused(Harvest({}), 1, "quantisation IQ4_NL is not supported");
}

TEST_F(OfflineTest, HelpHasExamples) {
  for (const auto& verb :
       std::vector<std::vector<std::string>>{{"harvest"}, {"lm", "info"}, {"lm", "tokenize"}}) {
    auto arguments = verb;
    arguments.push_back("--help");
    const Outcome help = Run(arguments);
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.output.find("Example"), std::string::npos) << help.output;
  }
}

}  // namespace
}  // namespace sae::client
