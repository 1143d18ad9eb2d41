// What is wrong is said once, clearly, with the right exit code, and nothing is left half done.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "sae/base/env.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
using config::Event;
using config::EventKind;

/// run.json with one of its parts replaced.
std::string JsonWith(const TrialRig& rig, const std::string& from, const std::string& to) {
  config::RunConfig config = rig.config;
  config.run.directory = rig.folder() + "/absent";
  std::string json = config::ToJson(config);
  const std::size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from << " not in " << json;
  return json.replace(at, from.size(), to);
}

void ExpectRefused(const std::string& from, const std::string& to, const std::string& message) {
  TrialRig rig(200);
  EXPECT_EQ(rig.RunJson(JsonWith(rig, from, to)), 78) << rig.Output();
  const std::string output = rig.Output();
  EXPECT_NE(output.find(message), std::string::npos) << output;
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << output;
  EXPECT_FALSE(RealEnv().Exists(rig.folder() + "/absent"));
  EXPECT_FALSE(RealEnv().Exists(rig.checkpoints()));
}

TEST(TrainerErrors, UnknownKey) {
  ExpectRefused("\"latents\"", "\"latent\"", "unknown key trial.sae.latent, did you mean trial.sae.latents?");
}
TEST(TrainerErrors, WrongType) { ExpectRefused("\"latents\": 64", "\"latents\": \"many\"", "is not a whole number"); }
TEST(TrainerErrors, MoreActiveThanLatents) {
  ExpectRefused("\"k\": 4", "\"k\": 65", "sae.k: 65 is more than sae.latents 64");
}
TEST(TrainerErrors, RanksThatDoNotDivide) {
  ExpectRefused("\"ranks\": 1", "\"ranks\": 3", "ranks: 3 does not divide sae.latents 64");
}
TEST(TrainerErrors, RanksWithoutALauncher) {
  ExpectRefused("\"ranks\": 1", "\"ranks\": 2", "mpirun -np 2 saeloom-trainer");
}
TEST(TrainerErrors, NotJson) { ExpectRefused("{", "{{", "the config is not JSON"); }

TEST(TrainerErrors, MissingConfigAndUsage) {
  TrialRig rig(200);
  EXPECT_EQ(rig.RunJson("", {"--nonsense"}), 2);
  EXPECT_NE(rig.Output().find("--help"), std::string::npos);
}

/// Runs the attempt, which must fail with `code`, and returns the message of its verdict.
std::string Failure(TrialRig& rig, int code) {
  EXPECT_EQ(rig.Run(1, 1, false), code) << rig.Output();
  const std::vector<Event> events = rig.Events(1);
  if (events.empty() || events.back().kind != EventKind::kFailed) {
    ADD_FAILURE() << "no failed event; " << rig.Output();
    return "";
  }
  EXPECT_EQ(events.back().values.at("exit_code"), code);
  return events.back().message;
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(TrainerErrors, MissingStore) {
  TrialRig rig(200);
  rig.config.store = rig.folder() + "/elsewhere";
  const std::string message = Failure(rig, 1);
  EXPECT_HAS(message, "NOT_FOUND");
  EXPECT_HAS(message, "elsewhere");
  EXPECT_FALSE(RealEnv().Exists(rig.checkpoints()));
}

TEST(TrainerErrors, AnotherStoreThanSubmitted) {
  TrialRig rig(200);
  rig.config.run.store_hash = "xxh3:0123456789abcdef";
  EXPECT_HAS(Failure(rig, 78), "the run was submitted for xxh3:0123456789abcdef");
  EXPECT_FALSE(RealEnv().Exists(rig.checkpoints()));
}

TEST(TrainerErrors, TruncatedShard) {
  TrialRig rig(2000);
  const std::string shard = rig.store() + "/shard-00000.safetensors";
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 100);
  const std::string message = Failure(rig, 1);
  EXPECT_HAS(message, "DATA_LOSS");
  EXPECT_HAS(message, "shard-00000.safetensors");
}

TEST(TrainerErrors, FlippedByteInAShard) {
  TrialRig rig(2000);
  std::fstream f(rig.store() + "/shard-00000.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  f.seekg(20000);
  const char c = static_cast<char>(f.get() ^ 0x10);
  f.seekp(20000);
  f.put(c);
  f.close();
  const std::string message = Failure(rig, 1);
  EXPECT_HAS(message, "DATA_LOSS");
  EXPECT_HAS(message, "shard-00000.safetensors");
}

TEST(TrainerErrors, AFolderThatCannotBeMade) {
  TrialRig rig(200);
  std::ofstream(rig.folder() + "/file") << "in the way";
  config::RunConfig config = rig.config;
  config.run.directory = rig.folder() + "/file/attempt";
  EXPECT_EQ(rig.RunJson(config::ToJson(config)), 1);
  const std::string output = rig.Output();
  EXPECT_HAS(output, rig.folder() + "/file/attempt");
  EXPECT_EQ(std::count(output.begin(), output.end(), '\n'), 1) << output;
}

TEST(TrainerErrors, ACheckpointOfAnotherRun) {
  TrialRig rig(2000);
  ASSERT_EQ(rig.Run(7, 1, false), 0);
  TrialRig other(2000);
  other.config.trial.sae.latents = 32;
  other.config.run.checkpoints = rig.checkpoints();
  EXPECT_HAS(Failure(other, 78), "INVALID_ARGUMENT");
}

TEST(TrainerErrors, DivergenceIsNotToBeRestarted) {
  TrialRig rig(2000);
  rig.config.trial.train.lr = 1e30;
  EXPECT_HAS(Failure(rig, 93), "lower train.lr");
}

}  // namespace
}  // namespace sae::testing
