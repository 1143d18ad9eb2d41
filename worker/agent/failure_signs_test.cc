#include "worker/agent/failure_signs.h"

#include <gtest/gtest.h>

namespace saeloom::agent {
namespace {

TEST(ClassOfLines, FaultsOfADevice) {
  for (const char* line :
       {"[ 12.3] NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.",
        "CUDA error: uncorrectable ECC error encountered",
        "step: cudaErrorIllegalAddress: an illegal memory access was encountered",
        "launch 'encode': cudaErrorLaunchFailure: unspecified launch failure"}) {
    EXPECT_EQ(ClassOfLines(line), v1::GPU_FAULT) << line;
  }
}

TEST(ClassOfLines, MemoryOfADevice) {
  for (const char* line :
       {"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "RESOURCE_EXHAUSTED: allocate 'moments': 8589934592 bytes needed, 1048576 of 85899345920 "
        "free on NVIDIA H100",
        "cudaMalloc: cudaErrorMemoryAllocation: out of memory"}) {
    EXPECT_EQ(ClassOfLines(line), v1::OOM_GPU) << line;
  }
  EXPECT_EQ(ClassOfLines("NVRM: Xid 13\ncudaErrorMemoryAllocation"), v1::GPU_FAULT)
      << "the fault stands over what follows from it";
}

TEST(ClassOfLines, OtherLinesSayNothing) {
  for (const char* line : {"", "step 12 loss 0.5", "out of memory", "exit 13",
                           "RESOURCE_EXHAUSTED: cannot write: no memory"}) {
    EXPECT_EQ(ClassOfLines(line), std::nullopt) << line;
  }
}

TEST(ClassOfMessage, ByCodeAndMatter) {
  EXPECT_EQ(ClassOfMessage("DATA_LOSS: checkpoint step-1: hash differs"),
            v1::CHECKPOINT_UNREADABLE);
  EXPECT_EQ(ClassOfMessage("INVALID_ARGUMENT: k is 9"), v1::INVALID_CONFIG);
  EXPECT_EQ(ClassOfMessage("DEADLINE_EXCEEDED: AllReduce: rank 1 stays away"), v1::HANG);
  EXPECT_EQ(ClassOfMessage("RESOURCE_EXHAUSTED: no memory for 9 bytes"), v1::OOM_HOST);
  EXPECT_EQ(ClassOfMessage("INTERNAL: x: cudaErrorIllegalAddress: y"), v1::GPU_FAULT);
  EXPECT_EQ(ClassOfMessage("INTERNAL: what"), v1::INTERNAL);
}

TEST(ExitFromLauncher, AsMpirunWordsIt) {
  EXPECT_EQ(ExitFromLauncher("mpirun noticed that process rank 1 with PID 0 on node a exited on "
                             "signal 11 (Segmentation fault)."),
            139);
  EXPECT_EQ(ExitFromLauncher("  Process name: [[51234,1],3]\n  Exit code:    78\n"), 78);
  EXPECT_EQ(ExitFromLauncher("MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD\n"
                             "with errorcode 1.\n"),
            1);
  EXPECT_EQ(ExitFromLauncher("ORTE has lost communication with a remote daemon."), 205);
  EXPECT_EQ(ExitFromLauncher("a word of a rank"), std::nullopt);
}

}  // namespace
}  // namespace saeloom::agent
