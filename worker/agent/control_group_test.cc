#include "worker/agent/control_group.h"

#include <csignal>

#include <gtest/gtest.h>

#include "sae/base/procfs.h"
#include "worker/agent/gang_process.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

TEST(ControlGroupFolder, IsTheProcessesOwnOfVersionTwo) {
  const std::string mounts =
      "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
      "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
  EXPECT_EQ(ControlGroupFolder(mounts, "4:memory:/x\n0::/system.slice/worker\n"),
            "/sys/fs/cgroup/unified/system.slice/worker");
  EXPECT_EQ(ControlGroupFolder(mounts, "0::/\n"), "/sys/fs/cgroup/unified");
  EXPECT_EQ(ControlGroupFolder(mounts, "0::/../other\n"), "") << "outside the namespace";
  EXPECT_EQ(ControlGroupFolder(mounts, "4:memory:/x\n"), "");
  EXPECT_EQ(ControlGroupFolder("tmpfs / tmpfs rw 0 0\n", "0::/\n"), "");
}

TEST(MemoryKills, WhereTheKernelCountsThem) {
  TemporaryFolder folder;
  EXPECT_EQ(MemoryKills(sae::RealEnv(), folder.path()), std::nullopt);
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), folder / "memory.events",
                                       "low 0\nhigh 0\nmax 4\noom 2\noom_kill 3\n")
                  .ok());
  EXPECT_EQ(MemoryKills(sae::RealEnv(), folder.path()), 3);
}

TEST(BeginIn, AGroupThatIsNotThereStopsNothing) {
  sae::ProcessSpec spec{.argv = {"/bin/echo", "a b", "$c"}};
  BeginIn("/no/such/group", spec);
  const auto run = sae::RunProcess(spec, absl::Seconds(60));
  ASSERT_TRUE(run.ok());
  EXPECT_EQ(run->output, "a b $c\n");
}

TEST(ControlGroup, HoldsAGangWithoutMarksAndEndsIt) {
  const std::string root = OwnControlGroup(sae::RealEnv());
  if (root.empty()) GTEST_SKIP() << "no control group can be made here";
  const std::string path = ControlGroupOf(root, "demo/0000/1", absl::StrCat("test-", ::getpid()));
  ASSERT_TRUE(MakeControlGroup(path));
  sae::ProcessSpec spec{.argv = {"/bin/sh", "-c", "env -i setsid sleep 600 & exec sleep 600"}};
  BeginIn(path, spec);
  auto process = sae::Process::Spawn(spec);
  ASSERT_TRUE(process.ok());
  const auto members = [&] {
    const std::string pids = sae::RealEnv().Read(path + "/cgroup.procs").value_or("");
    return std::count(pids.begin(), pids.end(), '\n');
  };
  ASSERT_TRUE(Eventually([&] { return members() == 2; }));
  EXPECT_FALSE(RemoveControlGroup(path)) << "it is in use";
  KillControlGroup(path);
  EXPECT_EQ((*process)->Wait(absl::Seconds(60))->value().ShellCode(), 137);
  EXPECT_TRUE(Eventually([&] { return RemoveControlGroup(path); }));
  EXPECT_FALSE(sae::RealEnv().Exists(path));
}

}  // namespace
}  // namespace saeloom::agent
