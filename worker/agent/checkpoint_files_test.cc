#include "worker/agent/checkpoint_files.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/hash.h"
#include "worker/agent/keeper.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using State = v1::CheckpointStatus;

std::string Name(int step) { return "step-00000000000" + std::to_string(step); }

/// A file system on which nothing can be renamed.
class NoRename final : public sae::Env {
 public:
  absl::StatusOr<std::unique_ptr<sae::WritableFile>> Create(const std::string& path) override {
    return real_.Create(path);
  }
  absl::StatusOr<std::unique_ptr<sae::WritableFile>> OpenForAppend(
      const std::string& path) override {
    return real_.OpenForAppend(path);
  }
  absl::StatusOr<std::string> Read(const std::string& path) override { return real_.Read(path); }
  absl::Status Rename(const std::string&, const std::string& to) override {
    return absl::InternalError("died before the rename to " + to);
  }
  absl::Status SyncDirectory(const std::string& path) override { return real_.SyncDirectory(path); }
  absl::Status MakeDirectories(const std::string& path) override {
    return real_.MakeDirectories(path);
  }
  absl::Status RemoveAll(const std::string& path) override {
    // What a process that died leaves behind.
    return path.find("/.") == std::string::npos ? real_.RemoveAll(path) : absl::OkStatus();
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return real_.List(path);
  }
  bool Exists(const std::string& path) override { return real_.Exists(path); }
  absl::StatusOr<std::int64_t> FreeBytes(const std::string& path) override {
    return real_.FreeBytes(path);
  }

 private:
  sae::Env& real_ = sae::RealEnv();
};

class CheckpointFilesTest : public testing::Test {
 protected:
  /// As the trainer writes it, as far as it matters here.
  void Save(int step, const std::string& content = "weights") {
    const std::string folder = trial_ + "/checkpoints/" + Name(step);
    ASSERT_TRUE(env_.MakeDirectories(folder).ok());
    Write(folder + "/latents.safetensors", content);
    Write(folder + "/manifest.json",
          absl::StrCat(R"({"step":)", step, R"(,"files":[{"name":"latents.safetensors","bytes":)",
                       content.size(), R"(,"hash":")", sae::HashToText(sae::Xxh3(content)),
                       R"("}]})"));
  }
  void Write(const std::string& path, const std::string& content) {
    ASSERT_TRUE(sae::WriteFileAtomically(env_, path, content).ok());
  }
  std::vector<std::string> In(const std::string& place) {
    const std::string folder = trial_ + "/" + place;
    return env_.Exists(folder) ? env_.List(folder).value() : std::vector<std::string>{};
  }
  std::string Weights(const std::string& place, int step) {
    return env_.Read(trial_ + "/" + place + "/" + Name(step) + "/latents.safetensors").value();
  }

  sae::Env& env_ = sae::RealEnv();
  World world_;
  std::unique_ptr<RunsFolder> runs_ = world_.OpenRuns();
  const std::string trial_ = runs_->directory() + "/demo/0000";
};

TEST_F(CheckpointFilesTest, KeepsByLinksThatOutliveTheTrainersOwn) {
  Save(1);
  const auto bytes = KeepCheckpoint(env_, trial_, Name(1));
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, *WholeBytes(env_, trial_ + "/checkpoints/" + Name(1)));
  EXPECT_GT(*bytes, 7);
  EXPECT_EQ(std::filesystem::hard_link_count(trial_ + "/kept/" + Name(1) + "/latents.safetensors"),
            2U);
  ASSERT_TRUE(env_.RemoveAll(trial_ + "/checkpoints/" + Name(1)).ok());
  EXPECT_EQ(Weights("kept", 1), "weights");
  EXPECT_EQ(KeepCheckpoint(env_, trial_, Name(1)).value(), *bytes) << "told again";
  EXPECT_THAT(In("kept"), ElementsAre(Name(1)));
}

TEST_F(CheckpointFilesTest, CopiesWhereLinksFailAndReadsTheCopyAgain) {
  Save(1);
  const auto never = [](const std::string&, const std::string&) { return false; };
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1), never).ok());
  EXPECT_EQ(std::filesystem::hard_link_count(trial_ + "/kept/" + Name(1) + "/latents.safetensors"),
            1U);
  Save(2);
  Write(trial_ + "/checkpoints/" + Name(2) + "/latents.safetensors", "wEights");
  EXPECT_THAT(sae::Message(KeepCheckpoint(env_, trial_, Name(2), never).status()),
              HasSubstr("hashes to"));
  EXPECT_THAT(In("kept"), ElementsAre(Name(1)));
}

TEST_F(CheckpointFilesTest, WhatIsNotWholeIsNotKept) {
  EXPECT_TRUE(absl::IsNotFound(KeepCheckpoint(env_, trial_, Name(1)).status()));
  Save(1);
  Write(trial_ + "/checkpoints/" + Name(1) + "/latents.safetensors", "weight");
  EXPECT_THAT(sae::Message(KeepCheckpoint(env_, trial_, Name(1)).status()),
              HasSubstr("has 6 bytes, the manifest says 7"));
  Write(trial_ + "/checkpoints/" + Name(1) + "/manifest.json", R"({"files":[{"name":"../x"}]})");
  EXPECT_THAT(sae::Message(KeepCheckpoint(env_, trial_, Name(1)).status()),
              HasSubstr("is no manifest"));
  EXPECT_THAT(In("kept"), IsEmpty());
}

TEST_F(CheckpointFilesTest, ACrashBeforeTheRenameLeavesNothingUnderTheName) {
  Save(1);
  NoRename dies;
  EXPECT_FALSE(KeepCheckpoint(dies, trial_, Name(1)).ok());
  EXPECT_THAT(In("kept"), ElementsAre(".filling-" + Name(1)));
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1)).ok());
  EXPECT_THAT(In("kept"), ElementsAre(Name(1)));
  EXPECT_EQ(Weights("kept", 1), "weights");
}

TEST_F(CheckpointFilesTest, AnotherSaveOfTheStepReplacesTheKeptOne) {
  Save(1);
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1)).ok());
  ASSERT_TRUE(env_.RemoveAll(trial_ + "/checkpoints/" + Name(1)).ok());
  Save(1, "other weights");
  EXPECT_EQ(Weights("kept", 1), "weights");
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1)).ok());
  EXPECT_EQ(Weights("kept", 1), "other weights");
}

TEST_F(CheckpointFilesTest, DeletesBothAndCanBeRepeated) {
  Save(1);
  Save(2);
  const std::int64_t bytes = KeepCheckpoint(env_, trial_, Name(1)).value();
  EXPECT_EQ(DeleteCheckpoint(env_, trial_, Name(1)).value(), bytes);
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(2)));
  EXPECT_THAT(In("kept"), IsEmpty());
  EXPECT_EQ(DeleteCheckpoint(env_, trial_, Name(1)).value(), 0);
  EXPECT_EQ(DeleteCheckpoint(env_, runs_->directory() + "/demo/0001", Name(1)).value(), 0);
}

TEST_F(CheckpointFilesTest, NeverTheOneThatAnAttemptWouldGoOnFrom) {
  Save(1);
  Save(2);
  EXPECT_TRUE(absl::IsFailedPrecondition(DeleteCheckpoint(env_, trial_, Name(2)).status()));
  Write(trial_ + "/checkpoints/" + Name(2) + "/latents.safetensors", "torn");
  const auto refused = DeleteCheckpoint(env_, trial_, Name(1));
  EXPECT_THAT(sae::Message(refused.status()), HasSubstr("no newer whole checkpoint"));
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(1), Name(2)));
  ASSERT_TRUE(DeleteCheckpoint(env_, trial_, Name(2)).ok()) << "it is damaged";
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1)).ok());
  ASSERT_TRUE(env_.RemoveAll(trial_ + "/checkpoints").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(DeleteCheckpoint(env_, trial_, Name(1)).status()))
      << "the kept one is all there is";
}

TEST_F(CheckpointFilesTest, OfASupersededOneOnlyWhatWasKept) {
  Save(1);
  ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(1)).ok());
  ASSERT_TRUE(DeleteCheckpoint(env_, trial_, Name(1), true).ok());
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(1)));
  EXPECT_THAT(In("kept"), IsEmpty());
}

TEST_F(CheckpointFilesTest, AnAttemptGoesOnFromTheNewestKeptOneWhenItHasNoOther) {
  ASSERT_TRUE(GoOnFromKept(env_, trial_).ok());
  for (const int step : {1, 2, 3}) {
    Save(step, "weights " + std::to_string(step));
    ASSERT_TRUE(KeepCheckpoint(env_, trial_, Name(step)).ok());
  }
  Write(trial_ + "/kept/" + Name(3) + "/latents.safetensors", "torn");
  ASSERT_TRUE(GoOnFromKept(env_, trial_).ok());
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(1), Name(2), Name(3))) << "it has others";
  ASSERT_TRUE(env_.RemoveAll(trial_ + "/checkpoints").ok());
  ASSERT_TRUE(GoOnFromKept(env_, trial_).ok());
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(2)));
  EXPECT_EQ(Weights("checkpoints", 2), "weights 2");
  EXPECT_THAT(In("kept"), ElementsAre(Name(1), Name(2), Name(3)));
}

class KeeperTest : public CheckpointFilesTest {
 protected:
  v1::KeepCheckpoint Keep(int step) {
    v1::KeepCheckpoint command;
    command.set_sweep("demo");
    command.set_trial("0000");
    command.set_name(Name(step));
    command.set_attempt(3);
    return command;
  }
  v1::DeleteCheckpoints Delete(std::vector<int> steps) {
    v1::DeleteCheckpoints command;
    command.set_sweep("demo");
    command.set_trial("0000");
    for (const int step : steps) command.add_names(Name(step));
    command.set_attempt(3);
    return command;
  }
  /// "KEPT step-000000000001@3", in their order.
  std::vector<std::string> Answers() {
    keeper_.WaitUntilIdle();
    std::vector<std::string> out;
    for (const auto& status : keeper_.Answers())
      out.push_back(absl::StrCat(State::State_Name(status.state()).substr(6), " ", status.name(),
                                 "@", status.attempt()));
    return out;
  }
  void AcknowledgeAll() {
    for (const auto& status : keeper_.Answers()) keeper_.Acknowledge(status.status_id());
  }

  sae::FakeClock clock_;
  Keeper keeper_{{.env = &env_, .clock = &clock_, .runs = runs_.get(), .answered = nullptr}};
};

TEST_F(KeeperTest, AnswersUntilItIsAcknowledgedAndObeysOnce) {
  Save(1);
  Save(2);
  keeper_.Handle(Keep(1));
  keeper_.Handle(Keep(1));
  EXPECT_THAT(Answers(), ElementsAre("KEPT " + Name(1) + "@3"));
  keeper_.Handle(Keep(1));
  EXPECT_THAT(Answers(), ElementsAre("KEPT " + Name(1) + "@3"));
  EXPECT_GT(keeper_.Answers()[0].bytes(), 0);
  AcknowledgeAll();
  EXPECT_THAT(Answers(), IsEmpty());
  keeper_.Handle(Delete({1, 5}));
  EXPECT_THAT(Answers(), ElementsAre("DELETED " + Name(1) + "@3", "DELETED " + Name(5) + "@3"));
  AcknowledgeAll();
  keeper_.Handle(Keep(1));
  EXPECT_THAT(Answers(), ElementsAre("MISSING " + Name(1) + "@3"));
}

TEST_F(KeeperTest, WhatItRefusedItTriesAgainLater) {
  Save(1);
  keeper_.Handle(Delete({1}));
  EXPECT_THAT(Answers(), ElementsAre("FAILED " + Name(1) + "@3"));
  EXPECT_THAT(keeper_.Answers()[0].reason(), HasSubstr("an attempt would go on from it"));
  AcknowledgeAll();
  keeper_.Handle(Delete({1}));
  EXPECT_THAT(Answers(), IsEmpty()) << "not at once";
  Save(2);
  clock_.Advance(absl::Seconds(31));
  keeper_.Handle(Delete({1}));
  EXPECT_THAT(Answers(), ElementsAre("DELETED " + Name(1) + "@3"));
  EXPECT_THAT(In("checkpoints"), ElementsAre(Name(2)));
}

}  // namespace
}  // namespace saeloom::agent
