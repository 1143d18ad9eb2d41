#include "worker/trainer/load_config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temp_dir.h"

namespace saeloom::trainer {
namespace {

absl::StatusOr<sae::config::RunConfig> Load(const std::string& json) {
  sae::testing::TempDir dir;
  std::ofstream(dir / "run.json") << json;
  return LoadConfig(sae::RealEnv(), dir / "run.json");
}

TEST(LoadConfig, AValidOneComesBack) {
  const auto config = Load(R"({"store": "s", "trial": {"sae": {"latents": 64, "k": 4}, "train": {"tokens": 5e5}}})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trial.sae.latents, 64);
  EXPECT_EQ(config->run.directory, ".");
}

TEST(LoadConfig, EveryProblemIsNamedAtOnce) {
  const auto config = Load(R"({"trial": {"ranks": 3, "sae": {"latents": 64, "k": 100}, "train": {"tokens": 5e5}},
                               "run": {"threads": 0, "watchdog_seconds": -1, "keep_checkpoints": -1, "attempt": 0, "directory": ""}})");
  ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message = sae::Message(config.status());
  for (const char* part : {"run.json: ", "ranks: 3 does not divide", "sae.k: 100 is more", "store: not set", "run.threads: 0",
                           "run.watchdog_seconds: -1", "run.keep_checkpoints: -1", "run.attempt: 0", "run.directory: is empty"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " not in " << message;
  }
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(LoadConfig, AnUnknownKeyNamesTheNearest) {
  const std::string message = sae::Message(Load(R"({"trial": {"sae": {"latent": 64}}})").status());
  EXPECT_NE(message.find("unknown key trial.sae.latent, did you mean trial.sae.latents?"), std::string::npos) << message;
}

TEST(LoadConfig, AMissingFileIsNotFound) {
  EXPECT_EQ(LoadConfig(sae::RealEnv(), "/nonexistent/run.json").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace saeloom::trainer
