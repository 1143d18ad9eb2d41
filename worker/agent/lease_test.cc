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

TEST(LeaseTracker, AnInheritedOneHoldsUntilRegistered) {
  LeaseTracker lease;
  lease.Inherit(Seconds(10), Seconds(12));
  lease.Inherit(Seconds(8), Seconds(9));
  EXPECT_EQ(lease.NoticeAt(), Seconds(10)) << "the latest of all attempts";
  EXPECT_EQ(lease.KillAt(), Seconds(12));
  lease.Registered(Seconds(4), Seconds(10));
  EXPECT_EQ(lease.NoticeAt(), Seconds(10));
  EXPECT_EQ(lease.KillAt(), Seconds(12));
  lease.Registered(Seconds(5), Seconds(10));
  EXPECT_EQ(lease.NoticeAt(), Seconds(11));
}

TEST(LeaseFile, NanosecondsSinceBoot) {
  TemporaryFolder folder;
  const std::string path = folder / "lease";
  EXPECT_FALSE(ReadLeaseFile(sae::RealEnv(), path));
  ASSERT_TRUE(WriteLeaseFile(sae::RealEnv(), path, absl::Milliseconds(1500), Seconds(3)).ok());
  EXPECT_EQ(*sae::RealEnv().Read(path), "1500000000\n3000000000\n");
  ASSERT_TRUE(WriteLeaseFile(sae::RealEnv(), path, Seconds(2), Seconds(4)).ok());
  EXPECT_EQ(ReadLeaseFile(sae::RealEnv(), path)->notice, Seconds(2));
  EXPECT_EQ(ReadLeaseFile(sae::RealEnv(), path)->kill, Seconds(4));
  EXPECT_EQ(sae::RealEnv().List(folder.path())->size(), 1U);
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), path, "5000000000\n").ok());
  EXPECT_EQ(ReadLeaseFile(sae::RealEnv(), path)->kill, Seconds(5)) << "of an older version";
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), path, "x").ok());
  EXPECT_FALSE(ReadLeaseFile(sae::RealEnv(), path));
}

}  // namespace
}  // namespace saeloom::agent
