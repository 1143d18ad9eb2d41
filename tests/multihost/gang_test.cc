// Gangs over two and three hosts, and what may befall them.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "tests/multihost/gang_world.h"

namespace saeloom::multihost {
namespace {

constexpr int kSteps = 300;
constexpr int kEndless = 1'000'000;

class GangTest : public GangWorld {};

bool LostAHost(const v1::AttemptStatus& status) {
  return status.failure_class() == v1::NODE_LOST ||
         status.failure_class() == v1::RENDEZVOUS_TIMEOUT || status.failure_class() == v1::HANG;
}

TEST_F(GangTest, OverTwoHostsTrainsToTheEnd) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kSteps));
  ExpectFinished(kSteps);
  Release(2);
}

TEST_F(GangTest, OverThreeHostsTrainsToTheEnd) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(3));
  ASSERT_NO_FATAL_FAILURE(StartGang(kSteps));
  ExpectFinished(kSteps);
  Release(2);
  Release(3);
}

TEST_F(GangTest, ADeadDaemonEndsTheGangAndTheNextAttemptGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(2, "orted"));
  ASSERT_TRUE(HeadEnds());
  EXPECT_TRUE(LostAHost(End())) << End().DebugString();
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
  Release(2);
  const std::int64_t reached = Steps().back();
  ASSERT_NO_FATAL_FAILURE(StartGang(static_cast<int>(reached) + kSteps, 2));
  ExpectFinished(static_cast<int>(reached) + kSteps, 2);
  EXPECT_GT(Steps(2).front(), 1) << "from the checkpoint";
}

// Only these two cannot reach each other; both reach the coordinator.
TEST_F(GangTest, RanksThatCannotReachEachOtherAreGivenUp) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless, 1, 30));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  ASSERT_NO_FATAL_FAILURE(hosts_->Block(1, NetHosts::Address(2)));
  ASSERT_NO_FATAL_FAILURE(hosts_->Block(2, NetHosts::Address(1)));
  ASSERT_TRUE(HeadEnds());
  EXPECT_TRUE(LostAHost(End())) << End().DebugString();
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
  Release(2);
}

TEST_F(GangTest, ACutLinkIsFoundAndThePeerFencesItself) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2, absl::Seconds(5)));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless, 1, 30));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  hosts_->CutLink(2);
  ASSERT_TRUE(HeadEnds());
  EXPECT_TRUE(LostAHost(End())) << End().DebugString();
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }))
      << "nobody can tell the second host";
  hosts_->MendLink(2);
  Release(2);
}

TEST_F(GangTest, ThePeersWorkerTakesItsRanksAlong) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(2, "saeloom-worker"));
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(2); }));
  ASSERT_TRUE(HeadEnds());
  EXPECT_TRUE(LostAHost(End())) << End().DebugString();
  StartWorker(2);
  ASSERT_TRUE(Eventually([&] { return coordinator(2).registers().size() > 1; }));
  EXPECT_EQ(coordinator(2).registers().back().attempts_size(), 0) << "it holds nothing";
}

TEST_F(GangTest, TheHeadsWorkerComesBackAndTheSameAttemptGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  const auto ranks = hosts_->Find(2, "saeloom-trainer");
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(1, "saeloom-worker"));
  StartWorker(1);
  const std::int64_t before = Steps().back();
  ASSERT_TRUE(Eventually([&] { return Steps().back() > before + 20; })) << "events flow again";
  EXPECT_EQ(hosts_->Find(2, "saeloom-trainer"), ranks);
  v1::StopAttempt stop;
  SetKey(Key(1), &stop);
  stop.set_mode(v1::StopAttempt::MODE_CHECKPOINT);
  coordinator(1).Command(stop);
  ASSERT_TRUE(HeadEnds());
  EXPECT_EQ(End().verdict(), "yielded") << End().DebugString();
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
  Release(2);
}

TEST_F(GangTest, TheHeadsHostDies) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  ASSERT_NO_FATAL_FAILURE(hosts_->PowerOff(1));
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(2); })) << "its stream broke";
  Release(2);
}

TEST_F(GangTest, APartitionShorterThanTheLeaseDisturbsNothingAndNoLineIsLost) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  for (int host : {1, 2}) ASSERT_NO_FATAL_FAILURE(hosts_->Block(host, kOwnAddress));
  const std::int64_t before = Steps().back();
  const auto on_disk = [&] {
    const auto text =
        sae::RealEnv().Read(folder_ / "runs/demo/0000/attempts/1/events.jsonl").value_or("");
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto lines = on_disk();
  ASSERT_TRUE(Eventually([&] { return on_disk() > lines + 50; })) << "it goes on alone";
  for (int host : {1, 2}) ASSERT_NO_FATAL_FAILURE(hosts_->Unblock(host, kOwnAddress));
  ASSERT_TRUE(Eventually([&] { return Steps().back() > before + 50; })) << "back-filled";
  const auto all = Steps();
  for (std::size_t i = 1; i < all.size(); ++i) ASSERT_EQ(all[i], all[i - 1] + 1);
  EXPECT_EQ(coordinator(1).gaps(), 0);
  EXPECT_FALSE(coordinator(1).Ended(Key(1)));
}

TEST_F(GangTest, APartitionLongerThanTheLeaseEndsTheGangWhoeverIsCutOff) {
  ASSERT_NO_FATAL_FAILURE(StartHosts(2, absl::Seconds(4)));
  ASSERT_NO_FATAL_FAILURE(StartGang(kEndless));
  ASSERT_NO_FATAL_FAILURE(WaitUntilUnderWay());
  ASSERT_NO_FATAL_FAILURE(hosts_->Block(2, kOwnAddress));
  ASSERT_TRUE(HeadEnds()) << "the peer's ranks end with the peer's lease";
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
  ASSERT_NO_FATAL_FAILURE(hosts_->Unblock(2, kOwnAddress));
  Release(2);
}

}  // namespace
}  // namespace saeloom::multihost
