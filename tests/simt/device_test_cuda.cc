#include <gtest/gtest.h>

#include "sae/kernels/cuda_runtime.h"
#include "tests/simt/device_test_run.h"
#include "tests/simt/mutation.h"

namespace sae::testing {

void RunDeviceTest(const DeviceTestBody& body) {
  auto runtime = kernels::CreateCudaRuntime(0);
  if (!runtime.ok() && absl::IsNotFound(runtime.status())) {
    GTEST_SKIP() << runtime.status().message();
  }
  ASSERT_TRUE(runtime.ok()) << runtime.status();
  const Downloads first = RunBodyOnce(**runtime, true, body);
  if (::testing::Test::HasFailure()) return;
  EXPECT_EQ(Difference(first, RunBodyOnce(**runtime, true, body)), "")
      << "two runs do not give the same bits";
}

bool MutantsRun() { return false; }

void ExpectBarriersNeeded(const DeviceTestBody&, const std::vector<BarrierSurvivor>&) {
  GTEST_SKIP() << "only the executor can delete barriers";
}

}  // namespace sae::testing
