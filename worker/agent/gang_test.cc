#include "worker/agent/gang.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Key;
using testing::Not;
using testing::Pair;

const GangSpec kSpec{.key = {"demo", "0003", 2},
                     .runs_id = "R",
                     .directory = "/runs/demo/0003/attempts/2",
                     .ranks = 4,
                     .threads = 3};

TEST(GangCommand, ArgumentsAndEnvironment) {
  ::setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  const auto c =
      GangCommand({.mpirun = "/bin/mpirun", .trainer = "/bin/trainer", .environment = {{"X", "y"}}},
                  kSpec, false);
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_THAT(c.argv,
              ElementsAre("/bin/mpirun", "-np", "4", "--bind-to", "none", "--oversubscribe",
                          "/bin/trainer", "--config", "/runs/demo/0003/attempts/2/run.json"));
  EXPECT_TRUE(c.new_session);
  EXPECT_EQ(c.directory, kSpec.directory);
  EXPECT_THAT(c.environment, Contains(Pair("OMP_NUM_THREADS", "3")));
  EXPECT_THAT(c.environment, Contains(Pair("SAELOOM_ATTEMPT", "demo/0003/2")));
  EXPECT_THAT(c.environment, Contains(Pair("SAELOOM_RUNS_ID", "R")));
  EXPECT_THAT(c.environment, Contains(Pair("OMPI_MCA_plm", "isolated")));
  EXPECT_THAT(c.environment, Contains(Pair("X", "y")));
  EXPECT_THAT(c.unset, Contains("OMPI_COMM_WORLD_RANK"));
}

TEST(GangCommand, SeesItsGpusAlone) {
  GangSpec spec = kSpec;
  EXPECT_THAT(GangCommand({}, spec, false).environment, Not(Contains(Key("CUDA_VISIBLE_DEVICES"))));
  spec.gpus = {"3", "GPU-8932f937"};
  EXPECT_THAT(GangCommand({}, spec, false).environment,
              Contains(Pair("CUDA_VISIBLE_DEVICES", "3,GPU-8932f937")));
}

TEST(GangCommand, OverSeveralHostsDaemonsStartThroughTheirWorkers) {
  GangSpec spec = kSpec;
  spec.hosts = {{"10.1.0.1", "10.1.0.1:7", 3}, {"b.lan", "b.lan:8", 1}};
  const auto c = GangCommand({.mpirun = "/bin/mpirun",
                              .trainer = "/bin/trainer",
                              .rsh = "/bin/saeloom-rsh",
                              .mpi_interface = "10.1.0.0/24",
                              .scratch_root = "/shm"},
                             spec, false);
  EXPECT_THAT(c.argv,
              ElementsAre("/bin/mpirun", "-np", "4", "--bind-to", "none", "--oversubscribe",
                          "--host", "10.1.0.1:3,b.lan:1", "--map-by", "slot", "/bin/trainer",
                          "--config", "/runs/demo/0003/attempts/2/run.json"));
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"OMPI_MCA_plm", "rsh"},
           {"OMPI_MCA_plm_rsh_agent", "/bin/saeloom-rsh"},
           {"OMPI_MCA_plm_rsh_no_tree_spawn", "1"},
           {"OMPI_MCA_orte_leave_session_attached", "1"},
           {"OMPI_MCA_oob_tcp_if_include", "10.1.0.0/24"},
           {"OMPI_MCA_btl_tcp_if_include", "10.1.0.0/24"},
           {"SAELOOM_PEERS",
            ScratchDirectory({.scratch_root = "/shm"}, spec.key, "R") + "/peers.json"}}) {
    EXPECT_THAT(c.environment, Contains(Pair(name, value)));
  }
}

TEST(GangCommand, RootOnlyWhenRoot) {
  EXPECT_THAT(GangCommand({}, kSpec, false).environment,
              Not(Contains(Pair("OMPI_ALLOW_RUN_AS_ROOT", "1"))));
  EXPECT_THAT(GangCommand({}, kSpec, true).environment,
              Contains(Pair("OMPI_ALLOW_RUN_AS_ROOT", "1")));
}

TEST(GangMarks, NameOneAttemptOfOneFolder) {
  EXPECT_THAT(GangMarks(kSpec.key, "R"),
              ElementsAre("SAELOOM_ATTEMPT=demo/0003/2", "SAELOOM_RUNS_ID=R"));
  const GangOptions options{.scratch_root = "/shm"};
  EXPECT_EQ(ScratchDirectory(options, kSpec.key, "R"), ScratchDirectory(options, kSpec.key, "R"));
  EXPECT_NE(ScratchDirectory(options, kSpec.key, "R"), ScratchDirectory(options, kSpec.key, "S"));
  EXPECT_LT(ScratchDirectory(options, kSpec.key, "R").size(), 50U);
}

TEST(RemoveAbandonedScratch, OnlyOldOnesWithoutProcesses) {
  TemporaryFolder folder;
  sae::FakeClock clock;  // 2023: the folders are made in its future until it moves
  clock.JumpWall(sae::RealClock().Now() - clock.Now());
  const GangOptions options{.scratch_root = folder.path()};
  const AttemptKey gone{"demo", "0001", 1};
  ASSERT_TRUE(MakeScratch(sae::RealEnv(), options, kSpec.key, folder.path()).ok());
  ASSERT_TRUE(MakeScratch(sae::RealEnv(), options, gone, folder.path()).ok());
  ASSERT_TRUE(sae::RealEnv().MakeDirectories(folder / "somebody-elses").ok());
  sae::ProcessSpec living{.argv = {"/bin/sleep", "600"}};
  living.environment = {{"SAELOOM_ATTEMPT", kSpec.key.Text()}, {"SAELOOM_RUNS_ID", folder.path()}};
  const auto process = sae::Process::Spawn(living);
  ASSERT_TRUE(process.ok());
  EXPECT_EQ(RemoveAbandonedScratch(sae::RealEnv(), clock, options), 0) << "too young";
  clock.JumpWall(absl::Hours(1));
  EXPECT_EQ(RemoveAbandonedScratch(sae::RealEnv(), clock, options), 1);
  EXPECT_TRUE(sae::RealEnv().Exists(ScratchDirectory(options, kSpec.key, folder.path())));
  EXPECT_FALSE(sae::RealEnv().Exists(ScratchDirectory(options, gone, folder.path())));
  EXPECT_TRUE(sae::RealEnv().Exists(folder / "somebody-elses"));
}

}  // namespace
}  // namespace saeloom::agent
