// The whole service over several hosts: the coordinator plans the gangs, prepares and starts them,
// and goes on with trials whose hosts fail.

#include <csignal>

#include <gtest/gtest.h>

#include "tests/multihost/service_world.h"

namespace saeloom::multihost {
namespace {

class ServiceTest : public ServiceWorld {};

TEST_F(ServiceTest, ADeadDaemonCostsAnAttempt) {
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(HostOf(1), "orted"));
  ExpectSucceeded(2);
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
}

TEST_F(ServiceTest, TheCoordinatorAndTheHeadsWorkerComeBackAndTheAttemptGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  const int head = HostOf(0);
  ASSERT_TRUE(coordinator_->Signal(SIGKILL).ok());
  ASSERT_TRUE(coordinator_->Wait(absl::Seconds(30)).ok());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(head, "saeloom-worker"));
  ASSERT_NO_FATAL_FAILURE(StartCoordinator());
  StartWorker(head);
  ExpectSucceeded(1);
}

TEST_F(ServiceTest, WithoutTheHeadsHostTheOthersGoOn) {
  ASSERT_NO_FATAL_FAILURE(StartService(3, "3s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  const int head = HostOf(0);
  ASSERT_NO_FATAL_FAILURE(hosts_->PowerOff(head));
  ExpectSucceeded(2);
  EXPECT_EQ(Trial().attempts(1).hosts_size(), 2);
}

}  // namespace
}  // namespace saeloom::multihost
