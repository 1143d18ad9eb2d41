// saeloom-trainer as a process on a GPU, as a worker runs it: against the same trial on CPUs.
#include <cmath>
#include <csignal>

#include <gtest/gtest.h>

#include "sae/kernels/cuda_runtime.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {

using config::Event;
using config::EventKind;

class OnOneGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kernels::CudaDeviceCount() == 0)
      GTEST_SKIP() << "no CUDA device, or built without SAE_WITH_CUDA";
    rig_.config.run.device = "cuda";
  }
  Event Last(int attempt) const { return rig_.Events(attempt).back(); }
  TrialRig rig_;
};

class EveryArchitecture : public OnOneGpu, public ::testing::WithParamInterface<const char*> {};

TEST_P(EveryArchitecture, EndsWhereTheCpuEnds) {
  config::SaeConfig& sae = rig_.config.trial.sae;
  sae.architecture = GetParam();
  if (sae.architecture == "jumprelu") {
    sae.k = 0;
    sae.target_l0 = 4;
  }
  if (sae.architecture == "relu_l1" || sae.architecture == "gated") {
    sae.k = 0;
    sae.l1_coefficient = 0.05;
  }
  ASSERT_EQ(rig_.Run(1, 1, false), 0) << rig_.Output();
  const Event gpu = Last(1);
  EXPECT_EQ(gpu.kind, EventKind::kFinished);
  EXPECT_EQ(gpu.step, 400);
  EXPECT_NE(rig_.RankLog(1, 0).find("cuda:0"), std::string::npos) << rig_.RankLog(1, 0);
  rig_.config.run.device = "cpu";
  rig_.config.run.checkpoints += "-cpu";
  ASSERT_EQ(rig_.Run(2, 1, false), 0) << rig_.Output();
  const Event cpu = Last(2);
  // Sums differ in their last bits; a threshold that is learned makes more of that.
  const double bound = sae.architecture == "jumprelu" ? 0.1 : 0.03;
  for (const char* name : {"heldout.fvu", "heldout.l0", "heldout.loss"}) {
    const double want = cpu.values.at(name);
    EXPECT_NEAR(gpu.values.at(name), want, bound * std::abs(want)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(GpuTrainer, EveryArchitecture,
                         ::testing::Values("topk", "batchtopk", "matryoshka", "jumprelu", "gated",
                                           "relu_l1"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(OnOneGpu, ACheckpointOfEitherDeviceIsTheOthersToo) {
  rig_.config.trial.train.tokens = 100 * 64;
  ASSERT_EQ(rig_.Run(1, 1, false), 0) << rig_.Output();
  rig_.config.run.device = "cpu";
  rig_.config.trial.train.tokens = 200 * 64;
  ASSERT_EQ(rig_.Run(2, 1, false), 0) << rig_.Output();
  EXPECT_EQ(rig_.Events(2).front().from_step, 100);
  rig_.config.run.device = "cuda:0";
  rig_.config.trial.train.tokens = 300 * 64;
  ASSERT_EQ(rig_.Run(3, 1, false), 0) << rig_.Output();
  EXPECT_EQ(rig_.Events(3).front().from_step, 200);
  EXPECT_EQ(Last(3).step, 300);
  EXPECT_LT(Last(3).values.at("heldout.fvu"), Last(1).values.at("heldout.fvu"));
}

TEST_F(OnOneGpu, SavesYieldsAndGoesOn) {
  rig_.config.trial.train.tokens = 1e9;
  const auto process = rig_.Start(1, 1, false);
  ASSERT_TRUE(rig_.WaitForEvent(1, EventKind::kMetrics, 20, *process)) << rig_.Output();
  ASSERT_TRUE(process->Signal(SIGUSR1).ok());
  EXPECT_EQ(WaitFor(*process), 75) << rig_.Output();
  const Event verdict = Last(1);
  ASSERT_EQ(verdict.kind, EventKind::kYielded);
  rig_.config.trial.train.tokens = static_cast<double>((verdict.step + 50) * 64);
  ASSERT_EQ(rig_.Run(2, 1, false), 0) << rig_.Output();
  EXPECT_EQ(rig_.Events(2).front().from_step, verdict.step);
  EXPECT_EQ(Last(2).step, verdict.step + 50);
}

TEST_F(OnOneGpu, ALossThatIsNotFiniteEndsItWithTheStep) {
  rig_.config.trial.train.lr = 1e30;
  EXPECT_NE(rig_.Run(1, 1, false), 0);
  const Event verdict = Last(1);
  EXPECT_EQ(verdict.kind, EventKind::kFailed);
  EXPECT_NE(verdict.message.find("the loss is"), std::string::npos) << verdict.message;
}

TEST_F(OnOneGpu, RanksThatShareItExchangeThroughTheHost) {
  if (!HaveMpi()) GTEST_SKIP() << "no mpirun, or built without MPI";
  for (const int ranks : {1, 2, 4}) {
    rig_.config.run.checkpoints = rig_.folder() + "/checkpoints-" + std::to_string(ranks);
    ASSERT_EQ(rig_.Run(ranks, ranks, true), 0) << rig_.Output();
    EXPECT_EQ(Last(ranks).step, 400);
    if (ranks == 1) continue;
    EXPECT_NE(rig_.RankLog(ranks, 0).find("collectives through the host"), std::string::npos)
        << rig_.RankLog(ranks, 0);
    const double alone = rig_.Events(1).back().values.at("heldout.fvu");
    EXPECT_NEAR(Last(ranks).values.at("heldout.fvu"), alone, 0.03 * alone);
  }
}

}  // namespace
}  // namespace sae::testing
