#include "worker/agent/lease.h"

#include <gtest/gtest.h>

#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

using absl::Seconds;

TEST(LeaseTracker, NothingBeforeRegistering) {
  LeaseTracker lease;
  lease.Sent(1, Seconds(1));
  EXPECT_FALSE(lease.Answered(1));
  EXPECT_FALSE(lease.KillAt().has_value());
}

TEST(LeaseTracker, RunsFromTheSendingOfTheAnsweredHeartbeat) {
  LeaseTracker lease;
  lease.Registered(Seconds(100), Seconds(15));
  EXPECT_EQ(*lease.NoticeAt(), Seconds(109));
  EXPECT_EQ(*lease.KillAt(), Seconds(112));
  lease.Sent(1, Seconds(103));
  lease.Sent(2, Seconds(106));
  EXPECT_EQ(*lease.KillAt(), Seconds(112)) << "sending alone renews nothing";
  EXPECT_TRUE(lease.Answered(1));
  EXPECT_EQ(*lease.KillAt(), Seconds(115));
  EXPECT_TRUE(lease.Answered(2));
  EXPECT_EQ(*lease.KillAt(), Seconds(118));
}

TEST(LeaseTracker, LateDoubleAndUnknownAnswersRenewNothing) {
  LeaseTracker lease;
  lease.Registered(Seconds(100), Seconds(10));
  lease.Sent(1, Seconds(101));
  lease.Sent(2, Seconds(102));
  EXPECT_TRUE(lease.Answered(2));
  EXPECT_FALSE(lease.Answered(1));
  EXPECT_FALSE(lease.Answered(2));
  EXPECT_FALSE(lease.Answered(77));
  EXPECT_EQ(*lease.KillAt(), Seconds(110));
  lease.Registered(Seconds(90), Seconds(10));
  EXPECT_EQ(*lease.KillAt(), Seconds(110)) << "never moves back";
}

TEST(WriteLeaseFile, NanosecondsSinceBoot) {
  TemporaryFolder folder;
  ASSERT_TRUE(WriteLeaseFile(sae::RealEnv(), folder / "lease", absl::Milliseconds(1500)).ok());
  EXPECT_EQ(*sae::RealEnv().Read(folder / "lease"), "1500000000\n");
  ASSERT_TRUE(WriteLeaseFile(sae::RealEnv(), folder / "lease", Seconds(2)).ok());
  EXPECT_EQ(*sae::RealEnv().Read(folder / "lease"), "2000000000\n");
  EXPECT_EQ(sae::RealEnv().List(folder.path())->size(), 1U);
}

}  // namespace
}  // namespace saeloom::agent
