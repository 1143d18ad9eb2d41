#include "worker/agent/begin_from.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/admission.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
constexpr char kName[] = "step-000000000040";

class BeginFromTest : public testing::Test {
 protected:
  BeginFromTest() {
    context_.env = &env_;
    context_.clock = &sae::RealClock();
    context_.runs = runs_.get();
    context_.boot_id = *sae::BootId();
    context_.incarnation = "I1";
    context_.gang = world_.Gang("finish:1");
  }
  /// A checkpoint of trial "source/0001" in `place`: "checkpoints" or "kept".
  std::string MakeSource(const std::string& place) {
    const std::string trial = runs_->directory() + "/source/0001";
    Write(trial + "/" + place + "/" + kName, "manifest.json", "{}");
    Write(trial + "/" + place + "/" + kName, "latents-0.safetensors", "weights");
    return trial + "/checkpoints/" + kName;
  }
  void Write(const std::string& folder, const std::string& name, const std::string& content) {
    ASSERT_TRUE(env_.MakeDirectories(folder).ok());
    ASSERT_TRUE(sae::WriteFileAtomically(env_, folder + "/" + name, content).ok());
  }
  std::string Runs() const { return runs_->directory(); }
  std::string Own() const { return runs_->directory() + "/demo/0000/checkpoints"; }
  std::string Weights() { return *env_.Read(Own() + "/" + kName + "/latents-0.safetensors"); }

  sae::Env& env_ = sae::RealEnv();
  World world_;
  std::unique_ptr<RunsFolder> runs_ = world_.OpenRuns();
  Attempt::Context context_;
};

TEST_F(BeginFromTest, LinksEveryFile) {
  const std::string from = MakeSource("checkpoints");
  ASSERT_TRUE(BeginFrom(env_, Runs(), from, Own()).ok());
  EXPECT_THAT(*env_.List(Own()), ElementsAre(kName));
  EXPECT_EQ(Weights(), "weights");
  EXPECT_EQ(std::filesystem::hard_link_count(from + "/latents-0.safetensors"), 2U);
  ASSERT_TRUE(env_.RemoveAll(from).ok());
  EXPECT_EQ(Weights(), "weights") << "the source may go";
}

TEST_F(BeginFromTest, CopiesWhereLinksFail) {
  const std::string from = MakeSource("checkpoints");
  const auto never = [](const std::string&, const std::string&) { return false; };
  ASSERT_TRUE(BeginFrom(env_, Runs(), from, Own(), never).ok());
  EXPECT_EQ(Weights(), "weights");
  EXPECT_EQ(std::filesystem::hard_link_count(from + "/latents-0.safetensors"), 1U);
}

TEST_F(BeginFromTest, TakesTheKeptOneWhenItWasReplaced) {
  ASSERT_TRUE(BeginFrom(env_, Runs(), MakeSource("kept"), Own()).ok());
  EXPECT_EQ(Weights(), "weights");
}

TEST_F(BeginFromTest, ATrialGoesOnFromItsOwn) {
  const std::string from = MakeSource("checkpoints");
  Write(Own() + "/step-000000000060", "manifest.json", "{}");
  ASSERT_TRUE(BeginFrom(env_, Runs(), from, Own()).ok());
  EXPECT_THAT(*env_.List(Own()), ElementsAre("step-000000000060"));
}

TEST_F(BeginFromTest, WhatADeadWorkerLeftIsReplaced) {
  const std::string from = MakeSource("checkpoints");
  Write(runs_->directory() + "/demo/0000/.begin-" + kName, "latents-0.safetensors", "half");
  ASSERT_TRUE(BeginFrom(env_, Runs(), from, Own()).ok());
  EXPECT_EQ(Weights(), "weights");
  EXPECT_THAT(*env_.List(runs_->directory() + "/demo/0000"), ElementsAre("checkpoints"));
}

TEST_F(BeginFromTest, NothingOutsideTheRunsFolderIsTouched) {
  const std::string from = MakeSource("checkpoints");
  for (const std::string& bad : {std::string("/etc"), Runs() + "/../store",
                                 Runs() + "-other/s/0/checkpoints/step-1", Runs() + "/.."}) {
    EXPECT_EQ(BeginFrom(env_, Runs(), bad, Own()).code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
  EXPECT_FALSE(env_.Exists(Own()));
}

TEST_F(BeginFromTest, AnAttemptBeginsThereBeforeItsGangStarts) {
  auto start = world_.Start("0000", 1);
  start.set_from_checkpoint(MakeSource("checkpoints"));
  auto attempt = Attempt::Start(context_, start, absl::Hours(100'000));
  ASSERT_TRUE(attempt.ok()) << attempt.status();
  EXPECT_EQ(Weights(), "weights");
  ASSERT_TRUE(Eventually([&] {
    (*attempt)->Tick();
    return (*attempt)->ended();
  }));
  EXPECT_EQ((*attempt)->ending().verdict, "finished");
}

TEST_F(BeginFromTest, WithoutItsSourceAnAttemptIsRefused) {
  auto start = world_.Start("0000", 1);
  start.set_from_checkpoint(runs_->directory() + "/source/0001/checkpoints/" + kName);
  const absl::Status status = Attempt::Start(context_, start, absl::Hours(100'000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(sae::Message(status), HasSubstr(kName));
  EXPECT_EQ(ClassOfRefusal(status), v1::CHECKPOINT_UNREADABLE);
  EXPECT_TRUE(runs_->OpenAttempts()->empty());
}

}  // namespace
}  // namespace saeloom::agent
