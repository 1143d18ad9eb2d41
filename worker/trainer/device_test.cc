#include "worker/trainer/device.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/contract/operation_chain.h"
#include "tests/fake_nccl/fake_nccl.h"
#include "tests/support/host_runtime.h"
#include "tests/support/temp_dir.h"

namespace saeloom::trainer {
namespace {

using sae::comm::Communicator;
using sae::comm::RunInProcess;
using sae::testing::HostRuntime;

DeviceBackend HostBackend(int count) {
  return {.count = [count] { return count; },
          .create = [](int) -> absl::StatusOr<std::unique_ptr<sae::DeviceRuntime>> {
            return std::unique_ptr<sae::DeviceRuntime>(std::make_unique<HostRuntime>());
          }};
}

/// Opens the rank's device and runs every operation on it, in a graph too; the description must end
/// as `expected` says.
absl::Status OpenAndUse(Communicator& host, const DeviceOptions& options, int count,
                        const std::string& expected) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device,
                       OpenDevice(host, options, HostBackend(count)));
  if (device->description() != expected)
    return absl::InternalError("it is " + device->description());
  Communicator& c = device->communicator();
  sae::comm::contract::Chain chain(c, device->runtime(), device->stream());
  SAE_RETURN_IF_ERROR(chain.Prepare());
  SAE_RETURN_IF_ERROR(chain.SetInput(7));
  SAE_RETURN_IF_ERROR(chain.Enqueue());
  SAE_RETURN_IF_ERROR(chain.Expect(7));
  c.SetEnqueueOnly(true);
  SAE_RETURN_IF_ERROR(chain.ReplayGraph(3));
  return c.size() == host.size() ? absl::OkStatus() : absl::InternalError("another group");
}

TEST(OpenDevice, TakesNcclWhereEveryRankHasItsOwn) {
  const sae::testing::TempDir folder;
  HostRuntime runtime;  // the fake finds a stream's own queue through any runtime
  fake_nccl::Configure({.runtime = &runtime, .folder = folder.path()});
  const absl::Status status = RunInProcess(3, [](Communicator& host) {
    return OpenAndUse(host, {.local_rank = host.rank(), .local_size = 3}, 4,
                      absl::StrCat("cuda:", host.rank(), " (host memory), collectives over NCCL"));
  });
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(fake_nccl::Live(), 0);
}

TEST(OpenDevice, StagesWhereRanksShareADevice) {
  const absl::Status status = RunInProcess(3, [](Communicator& host) {
    return OpenAndUse(
        host, {.local_rank = host.rank(), .local_size = 3}, 2,
        absl::StrCat("cuda:", host.rank() % 2, " (host memory), collectives through the host"));
  });
  EXPECT_EQ(status.ToString(), "OK");
}

// Ranks 0 and 1 on a host of two GPUs, rank 2 and 3 on one of one: nobody may take NCCL.
TEST(OpenDevice, AllRanksChooseAlike) {
  const absl::Status status = RunInProcess(4, [](Communicator& host) {
    const int count = host.rank() < 2 ? 2 : 1;
    return OpenAndUse(host, {.local_rank = host.rank() % 2, .local_size = 2}, count,
                      absl::StrCat("cuda:", host.rank() % 2 % count,
                                   " (host memory), collectives through the host"));
  });
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(LocalRanks, AreTheLaunchersWord) {
  const auto of = [](std::map<std::string, std::string> set) {
    return LocalRanksOf([&set](const char* name) -> const char* {
      const auto found = set.find(name);
      return found == set.end() ? nullptr : found->second.c_str();
    });
  };
  const LocalRanks alone = of({});
  EXPECT_EQ(alone.rank, 0);
  EXPECT_EQ(alone.size, 1);
  const LocalRanks mpirun =
      of({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "8"}});
  EXPECT_EQ(mpirun.rank, 3);
  EXPECT_EQ(mpirun.size, 8);
  const LocalRanks slurm = of({{"SLURM_LOCALID", "1"}, {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}});
  EXPECT_EQ(slurm.rank, 1);
  EXPECT_EQ(slurm.size, 4);
}

TEST(OpenDevice, OneRankNeedsNoCarrier) {
  const auto self = sae::comm::CreateSelf();
  EXPECT_EQ(OpenAndUse(*self, {.device = "cuda:1"}, 2, "cuda:1 (host memory)").ToString(), "OK");
}

TEST(OpenDevice, FailsOnAllRanksWhenOneHasNoDevice) {
  const absl::Status status = RunInProcess(3, [](Communicator& host) -> absl::Status {
    const absl::Status found = OpenDevice(host, {}, HostBackend(host.rank() == 1 ? 0 : 1)).status();
    if (!absl::IsNotFound(found) || sae::Message(found).find("rank 1: device cuda: no GPU") != 0)
      return absl::InternalError(found.ToString());
    return absl::OkStatus();
  });
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(OpenDevice, RefusesNamesThatMeanNothing) {
  const auto self = sae::comm::CreateSelf();
  for (const char* name : {"cuda:2", "cuda:-1", "cuda:", "cuda:1x", "tpu", ""}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(OpenDevice(*self, {.device = name}, HostBackend(2)).status()))
        << name;
  }
  EXPECT_TRUE(
      absl::IsInvalidArgument(OpenDevice(*self, {.collectives = "rdma"}, HostBackend(2)).status()));
}

}  // namespace
}  // namespace saeloom::trainer
