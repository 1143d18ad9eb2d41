// Under mpirun: ranks share one GPU, MPI carries what their device memory holds.
#include <cstdio>

#include <gtest/gtest.h>
#include <mpi.h>

#include "sae/comm/mpi/mpi.h"
#include "sae/kernels/cuda_runtime.h"
#include "tests/contract/communicator_suite.h"
#include "tests/contract/on_device.h"
#include "tests/contract/operation_chain.h"

namespace sae::comm {
namespace {

constexpr absl::Duration kShortest = absl::Seconds(3);

/// Every rank runs `fn` on a fresh communicator; the verdict is the worst of all.
absl::Status RunStaged(
    absl::Duration deadline,
    const std::function<absl::Status(Communicator&, DeviceRuntime&, void*)>& fn) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceRuntime> runtime, kernels::CreateCudaRuntime(0));
  SAE_ASSIGN_OR_RETURN(void* const stream, runtime->CreateStream());
  absl::Status status;
  {
    const auto c =
        CreateMpi(MpiOptions{.deadline = deadline, .runtime = runtime.get(), .stream = stream});
    status = c.ok() ? fn(**c, *runtime, stream) : c.status();
    int failed = status.ok() ? 0 : 1;
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (status.ok() && failed > 0) status = absl::InternalError("failed on another rank");
  }
  runtime->DestroyStream(stream);
  return status;
}

class StagedOnOneGpu : public ::testing::TestWithParam<std::size_t> {};

TEST_P(StagedOnOneGpu, KeepsTheContract) {
  if (kernels::CudaDeviceCount() == 0)
    GTEST_SKIP() << "no GPU here, or built without SAE_WITH_CUDA";
  const contract::Case& test = contract::Cases()[GetParam()];
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (!contract::Applies(test, ranks)) return;  // nothing to ask of so few
  const absl::Status status = RunStaged(std::max(test.deadline, kShortest),
                                        [&](Communicator& c, DeviceRuntime& runtime, void* stream) {
                                          contract::OnDevice device(c, runtime, stream);
                                          return test.run(device);
                                        });
  EXPECT_EQ(status.ToString(), "OK");
}

INSTANTIATE_TEST_SUITE_P(All, StagedOnOneGpu,
                         ::testing::Range(std::size_t{0}, contract::Cases().size()),
                         [](const auto& p) { return contract::Cases()[p.param].name; });

TEST(StagedOnOneGpu, ReplaysGraphs) {
  if (kernels::CudaDeviceCount() == 0)
    GTEST_SKIP() << "no GPU here, or built without SAE_WITH_CUDA";
  const absl::Status status = RunStaged(
      absl::Seconds(30), [](Communicator& c, DeviceRuntime& runtime, void* stream) -> absl::Status {
        contract::Chain chain(c, runtime, stream);
        SAE_RETURN_IF_ERROR(chain.Prepare());
        c.SetEnqueueOnly(true);
        SAE_RETURN_IF_ERROR(chain.SetInput(0));
        SAE_RETURN_IF_ERROR(chain.Enqueue());  // the first use allocates
        SAE_RETURN_IF_ERROR(c.Synchronize());
        SAE_RETURN_IF_ERROR(chain.Expect(0));
        return chain.ReplayGraph(10);
      });
  EXPECT_EQ(status.ToString(), "OK");
}

}  // namespace
}  // namespace sae::comm

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  ::testing::InitGoogleTest(&argc, argv);
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
