// Run under mpirun. Every rank runs the same tests in the same order; a test's verdict is the worst
// of all ranks', so that a failure on one is seen in every exit code.
#include "sae/comm/mpi/mpi.h"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <mpi.h>

#include "tests/contract/communicator_suite.h"
#include "tests/contract/on_device.h"
#include "tests/support/host_runtime.h"

namespace sae::comm {
namespace {

/// Runs `fn` on a fresh communicator and returns this rank's error, or "rank R: ..." of another
/// one.
absl::Status RunMpi(const MpiOptions& options,
                    const std::function<absl::Status(Communicator&)>& fn) {
  absl::Status status;
  {
    absl::StatusOr<std::unique_ptr<Communicator>> communicator = CreateMpi(options);
    status = communicator.ok() ? fn(**communicator) : communicator.status();
    // The group stays until all are done with it.
    int failed = status.ok() ? 0 : 1;
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (status.ok() && failed > 0) status = absl::InternalError("failed on another rank");
  }
  return status;
}

class MpiContract : public ::testing::TestWithParam<std::size_t> {};

TEST_P(MpiContract, Holds) {
  const contract::Case& test = contract::Cases()[GetParam()];
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (!contract::Applies(test, ranks)) return;  // nothing to ask of so few
  MpiOptions options;
  options.deadline = test.deadline;
  EXPECT_EQ(RunMpi(options, test.run).ToString(), "OK");
}

TEST_P(MpiContract, HoldsWithPayloadsCutIntoSmallMessages) {
  const contract::Case& test = contract::Cases()[GetParam()];
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (!contract::Applies(test, ranks)) return;
  MpiOptions options;
  options.deadline = test.deadline;
  options.max_message_bytes = 4096;
  EXPECT_EQ(RunMpi(options, test.run).ToString(), "OK");
}

// Device memory that the host cannot touch, staged.
TEST_P(MpiContract, HoldsOnDeviceMemory) {
  const contract::Case& test = contract::Cases()[GetParam()];
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (!contract::Applies(test, ranks)) return;
  sae::testing::HostRuntime runtime(sae::testing::HostRuntime::Memory::kHidden);
  MpiOptions options;
  options.deadline = test.deadline;
  options.runtime = &runtime;
  options.stream = *runtime.CreateStream();
  EXPECT_EQ(RunMpi(options,
                   [&](Communicator& c) {
                     contract::OnDevice device(c, runtime, options.stream);
                     return test.run(device);
                   })
                .ToString(),
            "OK");
  runtime.DestroyStream(options.stream);
  EXPECT_EQ(runtime.live(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, MpiContract,
                         ::testing::Range(std::size_t{0}, contract::Cases().size()),
                         [](const auto& p) { return contract::Cases()[p.param].name; });

TEST(Mpi, ReducesMoreThanOnePiece) {
  MpiOptions options;
  EXPECT_EQ(RunMpi(options,
                   [](Communicator& c) -> absl::Status {
                     std::vector<std::uint8_t> data((std::size_t{64} << 20) + 12345, 1);
                     SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<std::uint8_t>(data)));
                     for (const std::uint8_t value : data) {
                       if (value != c.size()) return absl::InternalError("a sum is wrong");
                     }
                     return absl::OkStatus();
                   })
                .ToString(),
            "OK");
}

}  // namespace
}  // namespace sae::comm

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  testing::InitGoogleTest(&argc, argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
