// A sweep whose trials share a gang ends with the bits of one whose trials run apart.
#include <filesystem>

#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "tests/e2e/service_rig.h"

namespace saeloom::e2e {
namespace {
namespace fs = std::filesystem;

constexpr int kTrials = 4, kSteps = 60;

/// The tensors of every trial's last checkpoint, by trial and file.
std::map<std::string, std::string> Tensors(const ServiceRig& rig) {
  std::map<std::string, std::string> out;
  for (int i = 0; i < kTrials; ++i) {
    const std::string trial = absl::StrCat("000", i);
    std::string newest;
    for (const auto& entry : fs::directory_iterator(rig.runs() + "/demo/" + trial + "/checkpoints"))
      newest = std::max(newest, entry.path().string());
    for (const auto& entry : fs::directory_iterator(newest)) {
      if (entry.path().extension() == ".safetensors")
        out[trial + "/" + entry.path().filename().string()] = *sae::RealEnv().Read(entry.path().string());
    }
  }
  return out;
}

std::map<std::string, std::string> RunSweep(int pack, int gangs) {
  ServiceRig rig({});
  rig.StartCoordinator();
  rig.StartWorker("one", 2);
  rig.Submit(kTrials, kSteps, pack);
  EXPECT_TRUE(rig.WaitUntilEnded()) << rig.GetSweep().DebugString() << rig.Logs();
  EXPECT_EQ(rig.GetSweep().state(), v1::Sweep::STATE_SUCCEEDED) << rig.Logs();
  int launched = 0;
  for (int i = 0; i < kTrials; ++i) {
    const std::string trial = absl::StrCat("000", i);
    EXPECT_EQ(rig.Steps(trial).size(), static_cast<std::size_t>(kSteps)) << trial;
    launched += fs::exists(rig.runs() + "/demo/" + trial + "/attempts/1/launcher.log") ? 1 : 0;
    EXPECT_FALSE(fs::exists(rig.runs() + "/demo/" + trial + "/attempts/2")) << trial;
  }
  EXPECT_EQ(launched, gangs);
  auto tensors = Tensors(rig);
  rig.Terminate("one");
  rig.Terminate("coordinator");
  EXPECT_TRUE(rig.Processes().empty());
  return tensors;
}

TEST(PackTest, OneGangOfFourTrialsEqualsFourGangs) {
  const auto packed = RunSweep(4, 1);
  const auto apart = RunSweep(1, kTrials);
  ASSERT_FALSE(packed.empty());
  ASSERT_EQ(packed.size(), apart.size());
  for (const auto& [name, bytes] : packed) {
    ASSERT_TRUE(apart.contains(name)) << name;
    EXPECT_TRUE(bytes == apart.at(name)) << name << " differs";
  }
}

TEST(PackTest, AutoPacksWhatOutnumbersTheSlotsAndAKilledGangGoesOn) {
  ServiceRig rig({});
  rig.StartCoordinator();
  rig.StartWorker("one", 2);
  rig.Submit(kTrials, 5000, 0);
  ASSERT_TRUE(rig.WaitUntilUnderWay("0000", 100)) << rig.Logs();
  const auto ranks = rig.Ranks("0000");
  ASSERT_EQ(ranks.size(), 2U);
  EXPECT_TRUE(rig.Ranks("0001").empty()) << "it has no processes of its own";
  for (const v1::Trial& trial : rig.GetTrials()) EXPECT_EQ(trial.state(), v1::Trial::STATE_RUNNING);
  rig.Kill("one");  // and its gang with its lease
  rig.StartWorker("one", 2);
  ASSERT_TRUE(rig.WaitUntilEnded()) << rig.GetSweep().DebugString() << rig.Logs();
  EXPECT_EQ(rig.GetSweep().state(), v1::Sweep::STATE_SUCCEEDED) << rig.Logs();
  for (int i = 0; i < kTrials; ++i)
    EXPECT_EQ(rig.Steps(absl::StrCat("000", i)).size(), 5000U);
  rig.Terminate("one");
  rig.Terminate("coordinator");
  EXPECT_TRUE(rig.Processes().empty());
}

}  // namespace
}  // namespace saeloom::e2e
