#include "worker/trainer/check.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_replace.h"

#include "sae/base/hash.h"
#include "sae/data/store_manifest.h"
#include "tests/support/temp_dir.h"

namespace saeloom::trainer {
namespace {

// A manifest alone: the shards it names do not exist, and --check must not miss them.
class Check : public ::testing::Test {
 protected:
  Check() {
    sae::data::StoreManifest m;
    m.d = 32;
    m.dtype = sae::DType::kF32;
    m.rows = 1000;
    m.shards = {{"shard-00000.safetensors", 1000, 128000, "xxh3:0000000000000001"}};
    m.heldout_by = "row";
    m.order = "shuffled";
    m.mean.assign(32, 0.5);
    m.mean_squared_norm = 32;
    text_ = sae::data::ManifestToJson(m);
    std::ofstream(dir_ / "manifest.json") << text_;
    config_.store = dir_.path();
    config_.trial.ranks = 2;
    config_.trial.sae.latents = 64;
    config_.trial.sae.k = 4;
    config_.trial.train.tokens = 10240;
    config_.trial.train.batch = 512;
  }
  sae::testing::TempDir dir_;
  std::string text_;
  sae::config::RunConfig config_;
};

TEST_F(Check, ResolvesAndEstimatesWithoutTheShards) {
  config_.trial.train.replicas = 1;
  const auto report = CheckReport(sae::RealEnv(), config_, true);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto j = nlohmann::json::parse(*report);
  EXPECT_EQ(j["steps"], 20);
  EXPECT_EQ(j["d"], 32);
  EXPECT_EQ(j["config"]["trial"]["sae"]["aux_k"], 16);
  EXPECT_EQ(j["config"]["trial"]["train"]["eval_every_tokens"], 1024.0);
  EXPECT_EQ(j["memory_per_rank_bytes"]["parameters"], (32 * 65 + 32) * 4);
  EXPECT_EQ(j["disk_bytes"], 3 * j["checkpoint_bytes"].get<std::int64_t>());
  const std::string table = CheckReport(sae::RealEnv(), config_, false).value();
  EXPECT_NE(table.find("trial.sae.aux_k                    16\n"), std::string::npos) << table;
  // What stays auto is another architecture's.
  std::size_t automatic = 0;
  for (std::size_t at = 0; (at = table.find(" auto\n", at)) != std::string::npos; ++at) ++automatic;
  EXPECT_EQ(automatic, 3U) << table;
  for (const char* path : {"trial.sae.bandwidth", "trial.sae.prefixes", "trial.sae.threshold_init"}) {
    EXPECT_EQ(j["config"].value(nlohmann::json::json_pointer("/" + std::string(absl::StrReplaceAll(path, {{".", "/"}}))), ""),
              "auto") << path;
  }
}

TEST_F(Check, ATranscoderNeedsTargetsAndCountsTheirWidth) {
  config_.trial.sae.transcoder = true;
  config_.trial.train.replicas = 1;
  const absl::Status without = CheckReport(sae::RealEnv(), config_, true).status();
  EXPECT_EQ(without.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(sae::Message(without).find("saeloom harvest --hook HOOK --target-hook HOOK"), std::string::npos) << without;
  auto with = nlohmann::json::parse(text_);
  with["target_d"] = 8;
  with["target_mean"] = std::vector<double>(8, 0.25);
  with["target_mean_squared_norm"] = 8;
  std::ofstream(dir_ / "manifest.json") << with.dump();
  const auto report = CheckReport(sae::RealEnv(), config_, true);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto j = nlohmann::json::parse(*report);
  EXPECT_EQ(j["target_d"], 8);
  EXPECT_EQ(j["memory_per_rank_bytes"]["parameters"], (32 * (32 + 8 + 1) + 8) * 4);
  EXPECT_NE(CheckReport(sae::RealEnv(), config_, false)->find("width of the targets               8\n"), std::string::npos);
}

TEST_F(Check, AnotherStoreThanExpectedIsRefused) {
  config_.run.store_hash = sae::HashToText(sae::Xxh3(text_));
  EXPECT_TRUE(CheckReport(sae::RealEnv(), config_, true).ok());
  config_.run.store_hash = "xxh3:0";
  EXPECT_EQ(CheckReport(sae::RealEnv(), config_, true).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Check, AMissingStoreIsNamed) {
  config_.store = "/nonexistent/store";
  const absl::Status status = CheckReport(sae::RealEnv(), config_, true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(sae::Message(status).find("/nonexistent/store"), std::string::npos);
}

}  // namespace
}  // namespace saeloom::trainer
