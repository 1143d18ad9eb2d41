#include <gtest/gtest.h>

#include "sae/comm/communicator.h"
#include "sae/comm/self/device_self.h"
#include "tests/contract/communicator_suite.h"
#include "tests/contract/on_device.h"
#include "tests/contract/operation_chain.h"
#include "tests/support/host_runtime.h"

namespace sae::comm {
namespace {

class SelfContract : public ::testing::TestWithParam<std::size_t> {};

TEST_P(SelfContract, Holds) {
  const contract::Case& test = contract::Cases()[GetParam()];
  const std::unique_ptr<Communicator> self = CreateSelf();
  ASSERT_EQ(self->size(), 1);
  ASSERT_EQ(self->rank(), 0);
  if (!contract::Applies(test, 1)) return;  // nothing to ask of one rank
  EXPECT_EQ(test.run(*self).ToString(), "OK");
}

TEST_P(SelfContract, HoldsOnADevice) {
  const contract::Case& test = contract::Cases()[GetParam()];
  if (!contract::Applies(test, 1)) return;
  sae::testing::HostRuntime runtime(sae::testing::HostRuntime::Memory::kHidden);
  void* const stream = *runtime.CreateStream();
  {
    const auto self = CreateDeviceSelf(runtime, stream, test.deadline);
    ASSERT_TRUE(self.ok());
    contract::OnDevice device(**self, runtime, stream);
    EXPECT_EQ(test.run(device).ToString(), "OK");
  }
  runtime.DestroyStream(stream);
  EXPECT_EQ(runtime.live(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, SelfContract,
                         ::testing::Range(std::size_t{0}, contract::Cases().size()),
                         [](const auto& p) { return contract::Cases()[p.param].name; });

TEST(DeviceSelf, ReplaysAGraph) {
  sae::testing::HostRuntime runtime(sae::testing::HostRuntime::Memory::kHidden);
  void* const stream = *runtime.CreateStream();
  {
    const auto self = CreateDeviceSelf(runtime, stream, absl::Seconds(30));
    ASSERT_TRUE(self.ok());
    (*self)->SetEnqueueOnly(true);
    contract::Chain chain(**self, runtime, stream);
    EXPECT_EQ(chain.Prepare().ToString(), "OK");
    EXPECT_EQ(chain.ReplayGraph(4).ToString(), "OK");
  }
  runtime.DestroyStream(stream);
}

}  // namespace
}  // namespace sae::comm
