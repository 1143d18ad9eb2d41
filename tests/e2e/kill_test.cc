// SIGKILL at each part of a running service. Whatever dies, the sweep ends as if nothing had: every
// trial succeeded once, every step is in its curve once, and no process is left.

#include <csignal>
#include <numeric>

#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "tests/e2e/service_rig.h"

namespace saeloom::e2e {
namespace {

constexpr int kSteps = 25000;
constexpr int kUnderWay = 150;

class KillTest : public testing::Test {
 protected:
  void StartService(const RigOptions& options, int trials,
                    const std::map<std::string, int>& workers) {
    rig_ = std::make_unique<ServiceRig>(options);
    ASSERT_NO_FATAL_FAILURE(rig_->StartCoordinator());
    for (const auto& [name, slots] : workers)
      ASSERT_NO_FATAL_FAILURE(rig_->StartWorker(name, slots));
    ASSERT_NO_FATAL_FAILURE(rig_->Submit(trials, kSteps));
  }

  void WaitUntilUnderWay(const std::string& trial) {
    ASSERT_TRUE(rig_->WaitUntilUnderWay(trial, kUnderWay)) << rig_->Logs();
  }

  /// `living`: the processes of the service that should be there at the end.
  void ExpectAsIfNothingHadHappened(int trials, const std::vector<std::string>& living) {
    ASSERT_TRUE(rig_->WaitUntilEnded()) << rig_->GetSweep().DebugString() << rig_->Logs();
    EXPECT_EQ(rig_->GetSweep().state(), v1::Sweep::STATE_SUCCEEDED) << rig_->Logs();
    std::vector<std::int64_t> every_step(kSteps);
    std::iota(every_step.begin(), every_step.end(), 1);
    const auto all = rig_->GetTrials();
    ASSERT_EQ(all.size(), static_cast<std::size_t>(trials));
    for (const v1::Trial& trial : all) {
      EXPECT_EQ(trial.state(), v1::Trial::STATE_SUCCEEDED) << trial.DebugString();
      int succeeded = 0;
      for (const auto& attempt : trial.attempts())
        succeeded += attempt.outcome() == "succeeded" ? 1 : 0;
      EXPECT_EQ(succeeded, 1) << trial.DebugString();
      EXPECT_EQ(rig_->Steps(trial.name().substr(trial.name().rfind('/') + 1)), every_step);
    }
    EXPECT_TRUE(ServiceRig::WaitUntil([&] { return rig_->Processes(living).empty(); }))
        << Left(living);
    for (const std::string& name : living) {
      if (name != "coordinator") rig_->Terminate(name);
    }
    rig_->Terminate("coordinator");
    EXPECT_TRUE(rig_->Processes().empty()) << Left({});
  }

  std::string Left(const std::vector<std::string>& living) {
    std::string out = "left behind:";
    for (const auto& p : rig_->Processes(living)) out += absl::StrCat(" ", p.name, "(", p.pid, ")");
    return out;
  }

  std::unique_ptr<ServiceRig> rig_;
};

TEST_F(KillTest, ARank) {
  ASSERT_NO_FATAL_FAILURE(StartService({}, 2, {{"a", 2}}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay("0000"));
  ASSERT_EQ(::kill(rig_->Ranks("0000").at(1), SIGKILL), 0);
  ExpectAsIfNothingHadHappened(2, {"coordinator", "a"});
}

TEST_F(KillTest, AWorkerThatComesBack) {
  ASSERT_NO_FATAL_FAILURE(StartService({}, 2, {{"a", 2}}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay("0000"));
  ASSERT_NO_FATAL_FAILURE(rig_->Kill("a"));
  const auto ranks = rig_->Ranks("0000");
  EXPECT_EQ(ranks.size(), 2U) << "its gang lives on until the lease ends or the worker is back";
  const std::size_t steps = rig_->Steps("0000").size();
  ASSERT_NO_FATAL_FAILURE(rig_->StartWorker("a", 2));
  ASSERT_TRUE(ServiceRig::WaitUntil([&] { return rig_->Steps("0000").size() > steps; }))
      << rig_->Logs();
  ASSERT_TRUE(rig_->WaitUntilEnded()) << rig_->Logs();
  for (const v1::Trial& trial : rig_->GetTrials())
    EXPECT_EQ(trial.attempts_size(), 1) << "taken back: " << trial.DebugString();
  ExpectAsIfNothingHadHappened(2, {"coordinator", "a"});
}

TEST_F(KillTest, AWorkerForGoodWithAnotherOnTheSameRunsFolder) {
  ASSERT_NO_FATAL_FAILURE(StartService({}, 2, {{"a", 2}, {"b", 2}}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay("0000"));
  const std::string worker = rig_->GetTrials()[0].attempts(0).worker();
  const std::string dead = worker.rfind("a-", 0) == 0 ? "a" : "b";
  ASSERT_NO_FATAL_FAILURE(rig_->Kill(dead));
  ExpectAsIfNothingHadHappened(2, {"coordinator", dead == "a" ? "b" : "a"});
}

TEST_F(KillTest, TheCoordinatorWithinTheLease) {
  // A lease that no slow machine outlasts: the attempts must go on undisturbed.
  ASSERT_NO_FATAL_FAILURE(StartService({.heartbeat = "250ms", .lease = "100s"}, 2, {{"a", 2}}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay("0000"));
  ASSERT_NO_FATAL_FAILURE(rig_->Kill("coordinator"));
  EXPECT_EQ(rig_->Ranks("0000").size(), 2U);
  ASSERT_NO_FATAL_FAILURE(rig_->StartCoordinator());
  ASSERT_TRUE(rig_->WaitUntilEnded()) << rig_->Logs();
  for (const v1::Trial& trial : rig_->GetTrials())
    EXPECT_EQ(trial.attempts_size(), 1) << trial.DebugString();
  ExpectAsIfNothingHadHappened(2, {"coordinator", "a"});
}

TEST_F(KillTest, TheCoordinatorBeyondTheLease) {
  ASSERT_NO_FATAL_FAILURE(StartService({.heartbeat = "250ms", .lease = "2s"}, 2, {{"a", 2}}));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay("0000"));
  ASSERT_NO_FATAL_FAILURE(rig_->Kill("coordinator"));
  ASSERT_TRUE(ServiceRig::WaitUntil([&] { return rig_->Processes({"a"}).empty(); }))
      << "the gangs fence themselves";
  ASSERT_NO_FATAL_FAILURE(rig_->StartCoordinator());
  ExpectAsIfNothingHadHappened(2, {"coordinator", "a"});
}

}  // namespace
}  // namespace saeloom::e2e
