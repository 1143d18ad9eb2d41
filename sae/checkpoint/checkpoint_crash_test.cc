// A crash at every step of a save leaves the previous checkpoint (or the new one, whole) loadable.
#include <gtest/gtest.h>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/test_state.h"
#include "tests/support/fault_env.h"
#include "tests/support/temp_dir.h"

namespace sae::checkpoint {
namespace {
using testing::FaultEnv;
using testing::TempDir;

constexpr std::int64_t kLatents = 16;

absl::Status Save(Env& env, const std::string& directory, std::int64_t step) {
  const auto self = comm::CreateSelf();
  TestState state(kLatents, 3, 0, 1, step);
  return SaveCheckpoint(env, *self, directory, state.View(), state.MakeInfo()).status();
}

// The step that comes back, its content checked; -1 when nothing loads.
std::int64_t LatestStep(Env& env, const std::string& directory) {
  const auto self = comm::CreateSelf();
  const auto latest = FindLatest(env, *self, directory);
  if (!latest.ok() || latest->name.empty()) return -1;
  TestState state(kLatents, 3, 0, 1, 0, false);
  if (!LoadCheckpoint(env, *self, directory + "/" + latest->name, latest->manifest, state.View()).ok()) return -1;
  EXPECT_TRUE(state == TestState(kLatents, 3, 0, 1, latest->manifest.info.step));
  return latest->manifest.info.step;
}

class CheckpointCrash : public ::testing::TestWithParam<bool> {};

TEST_P(CheckpointCrash, AtEveryCallLeavesAWholeCheckpoint) {
  const bool lose_power = GetParam();
  bool finished = false;
  for (std::int64_t call = 1; !finished; ++call) {
    SCOPED_TRACE(call);
    ASSERT_LT(call, 500);
    TempDir dir;
    FaultEnv env(RealEnv());
    ASSERT_TRUE(Save(env, dir / "checkpoints", 1).ok());
    ASSERT_TRUE(Save(env, dir / "checkpoints", 2).ok());
    env.FailFrom(call);
    const absl::Status status = Save(env, dir / "checkpoints", 3);
    finished = status.ok();
    if (lose_power) {
      env.LosePower();
    } else {
      env.Restart();
    }
    const std::int64_t step = LatestStep(env, dir / "checkpoints");
    if (finished) {
      EXPECT_EQ(step, 3);
    } else {
      EXPECT_TRUE(step == 2 || step == 3) << step << " after " << status;
    }
    // The next attempt tidies up and goes on.
    ASSERT_TRUE(CleanUp(env, dir / "checkpoints", {}).ok());
    ASSERT_TRUE(Save(env, dir / "checkpoints", 4).ok());
    EXPECT_EQ(LatestStep(env, dir / "checkpoints"), 4);
    const std::vector<std::string> names = env.List(dir / "checkpoints").value();
    for (const std::string& name : names) EXPECT_NE(name[0], '.') << name;
  }
}

INSTANTIATE_TEST_SUITE_P(KilledOrPowerLost, CheckpointCrash, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "PowerLost" : "Killed"; });

TEST(CheckpointCrash, TheFirstCheckpointEverIsDurableOnceSaved) {
  TempDir dir;
  FaultEnv env(RealEnv());
  ASSERT_TRUE(Save(env, dir / "checkpoints", 1).ok());
  env.LosePower();
  EXPECT_EQ(LatestStep(env, dir / "checkpoints"), 1);
}

TEST(CheckpointCrash, AFullDiskAtAnyCallFailsTheSaveAndKeepsThePreviousOne) {
  bool finished = false;
  for (std::int64_t call = 1; !finished; ++call) {
    SCOPED_TRACE(call);
    TempDir dir;
    FaultEnv env(RealEnv());
    ASSERT_TRUE(Save(env, dir / "checkpoints", 1).ok());
    env.FailOnce(call);
    finished = Save(env, dir / "checkpoints", 2).ok();
    EXPECT_GE(LatestStep(env, dir / "checkpoints"), 1);
  }
}

}  // namespace
}  // namespace sae::checkpoint
